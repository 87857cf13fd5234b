"""Hidden neurons that dropped out: shares over training, and pictures of who is active."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool

from hf_chts.analysis import plots
from hf_chts.analysis.network import Undefined
from hf_chts.analysis.neurons import (
    ActiveNeurons,
    DegreeCorrelation,
    anp,
    degree_correlation,
    shared_links,
)
from hf_chts.analysis.parts import by_part
from hf_chts.report.figure_store import Chart, FigureStore
from hf_chts.report.layer_table import Cell
from hf_chts.report.run_data import RunData
from hf_chts.report.selection import group_label

MOST_PICTURES = 12

States = Mapping[int, ActiveNeurons]
"""Active neurons by step."""


@dataclass(frozen=True)
class GroupRow:
    """One group of hidden neurons: its name, its size, and shares that were active.

    Attributes:
        correlation: Correlation of a neuron's degrees on both sides, in [-1, 1].
        shared: Links that its layers share, over those by chance.
    """

    name: str
    neurons: int
    start: float
    lowest: float
    end: float
    correlation: Cell
    shared: Cell


@dataclass(frozen=True)
class NeuronsSection:
    """What a report says about hidden neurons.

    Attributes:
        curve: Share of active neurons over training, a line for each part; None if there are no
            snapshots, or no neuron ever dropped out.
        rows: A row for each group.
        pictures: Neurons by step, of the groups that lost most.
        left_out: Groups that lost neurons but have no picture.
    """

    curve: Chart | None
    rows: list[GroupRow]
    pictures: list[Chart]
    left_out: int


def active_share(run: RunData) -> str:
    """Share of active neurons in a run's final links (ANP), in words."""
    if run.groups is None or run.final is None:
        return "unknown"
    rate = anp(run.final, run.groups).overall
    return f"{rate:.1%}" if isinstance(rate, float) else str(rate)


def neurons_section(run: RunData, store: FigureStore) -> NeuronsSection | None:
    """Follow the hidden neurons of a run; None if it is not known which there are."""
    if run.groups is None or run.final is None:
        return None
    final = anp(run.final, run.groups)
    states: States = {step: anp(run.masks_at(step), run.groups) for step in run.steps}
    history = list(states.values()) or [final]
    degrees = degree_correlation(run.final, run.groups)
    shared = shared_links(run.final, run.groups)
    rows = [
        GroupRow(
            name=group_label(name),
            neurons=len(active),
            start=history[0].rates[name],
            lowest=min(moment.rates[name] for moment in (*history, final)),
            end=float(active.mean()),
            correlation=_cell(_pearson(degrees[name]), "{:+.2f}"),
            shared=_cell(shared[name], "{:.2f}"),
        )
        for name, active in final.groups.items()
    ]
    lowest = {name: row.lowest for name, row in zip(final.groups, rows, strict=True)}
    losers = sorted((name for name in lowest if lowest[name] < 1), key=lowest.__getitem__)
    shown = losers[:MOST_PICTURES] if len(states) > 1 else []
    return NeuronsSection(
        curve=_curve(states, store) if shown else None,
        rows=rows,
        pictures=[_picture(name, states, store) for name in shown],
        left_out=len(losers) - len(shown) if len(states) > 1 else 0,
    )


def _curve(states: States, store: FigureStore) -> Chart:
    """Neurons of one kind are counted together, so that there are few lines."""
    steps = sorted(states)
    kinds: dict[str, list[str]] = {}
    for name in states[steps[0]].groups:
        kinds.setdefault(_kind(name), []).append(name)
    series = {
        kind: (steps, [_share([states[s].groups[name] for name in names]) for s in steps])
        for kind, names in kinds.items()
    }
    figure = plots.curves(
        series,
        title="Active hidden neurons (ANP)",
        x_label="optimizer step",
        y_label="active neurons / neurons",
    )
    caption = "A neuron is active if it has a link on every side, once percolation came to rest."
    return store.chart("neurons-anp", figure, caption)


def _picture(name: str, states: States, store: FigureStore) -> Chart:
    figure = plots.neuron_activity(
        {step: state.groups[name] for step, state in states.items()}, title=group_label(name)
    )
    return store.chart(f"neurons-{name}", figure)


def _kind(group: str) -> str:
    """Value or feed-forward neurons, or those where queries meet keys, of one part."""
    return f"{by_part(group)}{', q and k' if ' | ' in group else ''}"


def _pearson(found: DegreeCorrelation | Undefined) -> float | Undefined:
    return found if isinstance(found, Undefined) else found.pearson


def _cell(found: float | Undefined, pattern: str) -> Cell:
    if isinstance(found, Undefined):
        return Cell(str(found), None)
    return Cell(pattern.format(found), found)


def _share(groups: list[Bool[np.ndarray, " neurons"]]) -> float:
    return float(np.concatenate(groups).mean())
