"""How training went: losses, scores and learning rate, and what topology updates did."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from hf_chts.analysis import plots
from hf_chts.report.figure_store import Chart, FigureStore
from hf_chts.report.files import Row, number
from hf_chts.report.run_data import RunData

LOGGED = (
    ("loss", "Training loss", "nats per token", "Label smoothing included, dropout on."),
    ("eval_loss", "Validation loss", "nats per token", "Without label smoothing or dropout."),
    ("eval_bleu", "Validation BLEU", "BLEU", "Shown where the recipe chooses the best by BLEU."),
    (
        "learning_rate",
        "Learning rate",
        "learning rate",
        "Of dense parameters; links may have a multiple.",
    ),
    ("grad_norm", "Gradient norm", "L2 norm", "Before clipping."),
)
LOGGED_OF_TOPOLOGY = (
    ("topology_overlap_start", "Links shared with the start", "Jaccard index",
     "Links active now and at the start, over links active at one of the two times."),
    ("topology_active_neurons", "Active hidden neurons (ANP)", "active neurons / neurons",
     "Neurons between layers with a link on every side, once percolation came to rest."),
)  # fmt: skip


def training_charts(runs: Sequence[RunData], store: FigureStore) -> list[Chart]:
    """Curves of the training log, runs in one picture; those that nobody logged are left out."""
    return _logged_charts(LOGGED, runs, store)


def topology_charts(runs: Sequence[RunData], store: FigureStore) -> list[Chart]:
    """What updates did to all layers together, runs in one picture."""
    shown = (
        ("density", "Density", "active links / possible links", _density,
         "Of all sparse layers together, after each update."),
        ("moved", "Links replaced at each update", "removed links / active links", _removed,
         "Links that were active before an update and not after it."),
        ("itop", "ITOP: links explored", "links ever active / possible links", itop_rate,
         "In-time over-parameterisation rate; it can only rise."),
        ("overlap", "Links brought back at once", "share of removed links", _overlap,
         "Links that removal took and the same update's regrowth chose again; mean of layers."),
    )  # fmt: skip
    charts = []
    for key, title, unit, measure, caption in shown:
        series = {run.name: _by_step(run.updates, measure) for run in runs}
        if any(steps for steps, _ in series.values()):
            figure = plots.curves(series, title=title, x_label="optimizer step", y_label=unit)
            charts.append(store.chart(f"topology-{key}", figure, caption))
    return charts + _logged_charts(LOGGED_OF_TOPOLOGY, runs, store)


def explored(run: RunData) -> float | None:
    """ITOP rate of a run: after its last update, or the density of links that never changed.

    None if it is not known.
    """
    if run.updates:
        return itop_rate(last_update(run))
    if not (run.finished and run.final and run.steps):
        return None
    start = run.masks_at(run.steps[0])
    if any((start[name] != mask).any() for name, mask in run.final.items()):
        return None
    return run.density


def itop_rate(rows: Sequence[Row]) -> float | None:
    """ITOP rate of all layers together, from the lines of one update; None if it is not known."""
    return _weighted(rows, "itop")


def last_update(run: RunData) -> list[Row]:
    """The lines of a run's last topology update."""
    last = run.updates[-1]["step"] if run.updates else None
    return [row for row in run.updates if row["step"] == last]


def _logged_charts(
    logged: Sequence[tuple[str, str, str, str]], runs: Sequence[RunData], store: FigureStore
) -> list[Chart]:
    charts = []
    for key, title, unit, caption in logged:
        series = {run.name: _line(run.metrics, key) for run in runs}
        if any(steps for steps, _ in series.values()):
            figure = plots.curves(series, title=title, x_label="optimizer step", y_label=unit)
            charts.append(store.chart(f"training-{key}", figure, caption))
    return charts


def _line(rows: Sequence[Row], key: str) -> tuple[list[float], list[float]]:
    points = [(row["step"], value) for row in rows if (value := number(row, key)) is not None]
    return [x for x, _ in points], [y for _, y in points]


def _by_step(
    rows: Sequence[Row], measure: Callable[[list[Row]], float | None]
) -> tuple[list[float], list[float]]:
    updates: dict[float, list[Row]] = {}
    for row in rows:
        updates.setdefault(row["step"], []).append(row)
    points = [(step, y) for step, lines in updates.items() if (y := measure(lines)) is not None]
    return [x for x, _ in points], [y for _, y in points]


def _weighted(rows: Sequence[Row], key: str) -> float | None:
    """Mean of a share, each layer weighted by its number of possible links."""
    known = [
        (value, links / density)
        for row in rows
        if (value := number(row, key)) is not None
        and (links := number(row, "n_links")) is not None
        and (density := number(row, "density"))
    ]
    size = sum(weight for _, weight in known)
    return sum(value * weight for value, weight in known) / size if size else None


def _density(rows: list[Row]) -> float | None:
    return _weighted(rows, "density")


def _removed(rows: list[Row]) -> float | None:
    removed = sum(number(row, "removed") or 0 for row in rows)
    links = sum(number(row, "n_links") or 0 for row in rows)
    return removed / links if links else None


def _overlap(rows: list[Row]) -> float | None:
    known = [value for row in rows if (value := number(row, "overlap")) is not None]
    return float(np.mean(known)) if known else None
