"""The table of layers: what updates did to them, and their measures beside random layers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from hf_chts.analysis.measures import MEASURES, table
from hf_chts.analysis.measures import Row as Measured
from hf_chts.analysis.network import Undefined
from hf_chts.analysis.parts import Summary, by_part, in_order, summarise
from hf_chts.report.files import Row, number
from hf_chts.report.run_data import RunData
from hf_chts.report.saved_masks import Mask
from hf_chts.report.selection import short_names
from hf_chts.report.training_curves import last_update

N_RANDOM = 5
"""Random layers that z-scores rest on."""

OF_DEGREES = {
    *("input_heterogeneity", "output_heterogeneity", "power_law_exponent", "power_law_p_value"),
}
"""Measures that cannot differ from those of random layers with the same degrees."""


@dataclass(frozen=True)
class Column:
    """A column: its title, the unit in short, and what it means."""

    title: str
    unit: str
    meaning: str


@dataclass(frozen=True)
class Cell:
    """A value in words, for sorting (None: not defined), and a remark."""

    text: str
    value: float | None
    note: str = ""


@dataclass(frozen=True)
class LayerTable:
    """Rows by short name of the layer, a cell for each column, and a remark on all."""

    columns: list[Column]
    rows: list[tuple[str, list[Cell]]]
    note: str


@dataclass(frozen=True)
class PartsTable:
    """Measures summarised: rows of part, number of layers, and a cell for each column."""

    columns: list[Column]
    rows: list[tuple[str, int, list[str]]]


OF_LINKS = [
    Column("Neurons", "out x in", "Output and input neurons of the layer."),
    Column("Links", "active", "Active links."),
    Column("Density", "%", "Active links over possible links."),
]
OF_UPDATES = [
    Column(
        "ITOP", "%", "Links that were active at some time over possible links. Liu et al., 2021."
    ),
    Column("Removed", "links", "Links that updates removed, over the whole training."),
    Column("Regrown", "links", "Links that updates grew, over the whole training."),
    Column("Active neurons", "%", "Neurons between layers, on both sides, that are active."),
]


def layer_tables(
    run: RunData, chosen: Sequence[str], progress: Callable[[str], None]
) -> tuple[LayerTable, PartsTable] | None:
    """Both tables of a run; None if it has no links.

    Args:
        run: The run.
        chosen: Layers that are compared with random ones, which takes time.
        progress: Told what is at work.
    """
    if not run.final:
        return None
    names = [one.name for one in MEASURES.values() if one.cost == "cheap" and one.name != "density"]
    measured: dict[str, list[Measured]] = {}
    for layer, mask in run.final.items():
        progress(f"measures of {layer}")
        measured[layer] = _measured(layer, mask, names, with_random=layer in chosen)
    short = short_names(run.final)
    moved = _of_updates(run) if run.updates else {}
    rows = [
        (short[name], [*_of_links(mask), *moved.get(name, []), *map(_cell, measured[name])])
        for name, mask in run.final.items()
    ]
    columns = [*OF_LINKS, *(OF_UPDATES if moved else []), *map(_column, names)]
    note = (
        f"z-scores, for {len(chosen)} of {len(run.final)} layers, count standard deviations from "
        f"the mean of {N_RANDOM} random layers in which every neuron keeps its degree."
    )
    if not moved:
        note += " No topology update was logged, so the table says nothing of them."
    return LayerTable(columns, rows, note), _parts(run, names, measured)


def _measured(layer: str, mask: Mask, names: Sequence[str], *, with_random: bool) -> list[Measured]:
    """Rows in the order of ``names``."""
    compared = [name for name in names if with_random and name not in OF_DEGREES]
    alone = [name for name in names if name not in compared]
    rows = table({layer: mask}, measures=alone, nulls=())
    rows += table({layer: mask}, measures=compared, n=N_RANDOM)
    return sorted(rows, key=lambda row: names.index(row.measure))


def _of_links(mask: Mask) -> list[Cell]:
    """Cells of ``OF_LINKS``."""
    links, (n_out, n_in) = int(mask.sum()), mask.shape
    return [
        Cell(f"{n_out:,} x {n_in:,}", mask.size),
        Cell(f"{links:,}", links),
        Cell(f"{links / mask.size:.2%}", links / mask.size),
    ]


def _of_updates(run: RunData) -> Mapping[str, list[Cell]]:
    """Cells of ``OF_UPDATES`` for each layer."""
    last = {str(row.get("name")): row for row in last_update(run)}
    removed, regrown = dict[str, float](), dict[str, float]()
    for row in run.updates:
        name = str(row.get("name"))
        removed[name] = removed.get(name, 0) + (number(row, "removed") or 0)
        regrown[name] = regrown.get(name, 0) + (number(row, "regrown") or 0)
    return {
        name: [
            _share(number(last.get(name), "itop"), "no update was logged"),
            _count(removed.get(name)),
            _count(regrown.get(name)),
            _share(number(last.get(name), "active_neurons"), _why_unknown(last.get(name))),
        ]
        for name in run.final or {}
    }


def _why_unknown(row: Row | None) -> str:
    return "residual stream" if row is not None and "active_neurons" in row else "not logged"


def _parts(
    run: RunData, names: Sequence[str], measured: Mapping[str, list[Measured]]
) -> PartsTable:
    layers = list(run.final or {})
    parts = sorted({by_part(layer) for layer in layers}, key=in_order)
    cells: dict[str, list[str]] = {str(part): [] for part in parts}
    for index in range(len(names)):
        found = summarise({layer: measured[layer][index].comparison.value for layer in layers})
        for part, summary in found.items():
            cells[str(part)].append(_summary(summary))
    counts = {str(part): sum(by_part(layer) == part for layer in layers) for part in parts}
    rows = [(part, counts[part], cells[part]) for part in cells]
    return PartsTable([_column(name) for name in names], rows)


def _column(name: str) -> Column:
    measure = MEASURES[name]
    sampled = ""
    if measure.sampled_above is not None:
        sampled = f" A random sample above {measure.sampled_above:,} neurons."
    title = name.replace("_", " ")
    return Column(title[:1].upper() + title[1:], "", f"{measure.unit}. {measure.source}.{sampled}")


def _cell(row: Measured) -> Cell:
    value, z_score = row.comparison.value, row.comparison.z_score
    if isinstance(value, Undefined):
        return Cell(str(value), None)
    if not row.null:
        return Cell(_short(value), value)
    note = "z not defined" if isinstance(z_score, Undefined) else f"z {z_score:+.1f}"
    return Cell(_short(value), value, note)


def _summary(summary: Summary | Undefined) -> str:
    if isinstance(summary, Undefined):
        return str(summary)
    spread = summary.standard_deviation
    return f"{_short(summary.mean)} ± {_short(spread if spread > 1e-9 * abs(summary.mean) else 0)}"


def _share(value: float | None, reason: str) -> Cell:
    return Cell(f"not defined: {reason}", None) if value is None else Cell(f"{value:.1%}", value)


def _count(value: float | None) -> Cell:
    return (
        Cell("not defined: no update was logged", None)
        if value is None
        else Cell(f"{value:,.0f}", value)
    )


def _short(value: float) -> str:
    return f"{value:.3g}" if abs(value) < 1000 else f"{value:,.0f}"
