"""Runs side by side: settings in which they differ, and links they share."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hf_chts.analysis import plots
from hf_chts.analysis.history import Overlap, overlaps, total
from hf_chts.analysis.network import Undefined
from hf_chts.report.figure_store import Chart, FigureStore
from hf_chts.report.run_data import RunData
from hf_chts.report.selection import short_names


@dataclass(frozen=True)
class SharedLinks:
    """Shared links, Jaccard index, ratio to chance and z-score, or why there are none."""

    run: str
    cells: list[str]
    reason: str


@dataclass(frozen=True)
class Comparison:
    """What a report says about several runs.

    Attributes:
        settings: Settings in which the recipes differ, a value for each run.
        shared: A row for each other run.
        chart: Overlap by layer; None if no other run has the same layers.
    """

    settings: list[tuple[str, list[str]]]
    shared: list[SharedLinks]
    chart: Chart | None


def comparison(run: RunData, others: Sequence[RunData], store: FigureStore) -> Comparison | None:
    """Compare a run with others; None if there are none."""
    if not others:
        return None
    rows, ratios = [], {one.name: list[float]() for one in (run, *others)}
    for other in others:
        found = _overlaps(run, other)
        if isinstance(found, str):
            rows.append(SharedLinks(other.name, [], found))
            continue
        every = total(found.values())
        shared = f"{every.shared:,} ({every.expected:,.0f} by chance)"
        cells = [_words(value) for value in (every.jaccard, every.ratio, every.z_score)]
        rows.append(SharedLinks(other.name, [shared, *cells], ""))
        ratios[other.name] = [_dot(one.ratio) for one in found.values()]
    chart = None
    drawn = [name for name, row in ratios.items() if row]
    if drawn:
        figure = plots.layer_dots(
            ratios,
            list(short_names(run.layers).values()),
            title=f"Links of {', '.join(drawn)} shared with {run.name}",
            x_label="shared links / links expected by chance",
            reference=1,
        )
        chart = store.chart("comparison-overlap", figure, "1 is what chance gives.")
    return Comparison(_settings([run, *others]), rows, chart)


def _overlaps(run: RunData, other: RunData) -> dict[str, Overlap] | str:
    if run.final is None or other.final is None:
        return "not defined: one of the runs has no links to compare"
    if run.layers != other.layers:
        return "not defined: the runs have different layers"
    return overlaps(run.final, {name: other.final[name] for name in run.final})


def _settings(runs: Sequence[RunData]) -> list[tuple[str, list[str]]]:
    flat = [_flat(run.recipe) for run in runs]
    names = dict.fromkeys(name for settings in flat for name in settings)
    rows = [(name, [settings.get(name, "-") for settings in flat]) for name in names]
    return [(name, values) for name, values in rows if len(set(values)) > 1]


def _flat(settings: Mapping[str, Any], where: str = "") -> dict[str, str]:
    found = {}
    for key, value in settings.items():
        if isinstance(value, Mapping):
            found.update(_flat(value, f"{where}{key}."))
        else:
            found[f"{where}{key}"] = str(value)
    return found


def _dot(ratio: float | Undefined) -> float:
    """Where a layer's dot lies; nowhere, if the ratio is not defined."""
    return math.nan if isinstance(ratio, Undefined) else ratio


def _words(value: float | Undefined) -> str:
    return str(value) if isinstance(value, Undefined) else f"{value:.3g}"
