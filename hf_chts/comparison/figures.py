"""The figures of a comparison: quality by sparsity and by weights, and how the loss fell."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, LogLocator

from hf_chts.analysis.plot_style import DASHES, SERIES, STYLE
from hf_chts.comparison.results import RunResult
from hf_chts.comparison.rows import Row

MARKERS = "os^Dvxp*"


def write_figures(directory: Path, rows: Sequence[Row], test_sets: Sequence[str]) -> None:
    """Write the figures that there are data for, each as PNG and SVG."""
    done = [row for row in rows if row.done]
    if not done:
        return
    figures = {
        "bleu_by_sparsity": bleu_by_sparsity(done, test_sets),
        "quality_by_weights": quality_by_weights(done, test_sets),
        "validation_loss": validation_loss(done),
    }
    for name, figure in figures.items():
        with mpl.rc_context({"svg.hashsalt": name}):
            figure.savefig(directory / f"{name}.png", dpi=200, facecolor="white")
            figure.savefig(directory / f"{name}.svg", facecolor="white", metadata={"Date": None})


@mpl.rc_context(STYLE)
def bleu_by_sparsity(rows: Sequence[Row], test_sets: Sequence[str]) -> Figure:
    """BLEU of each method at each sparsity with standard errors, a panel for each test set.

    Methods stand side by side at a sparsity, so that their error bars can be told apart; where
    there is one sparsity only, their names stand below, the best on the first test set first. Rows
    that have no sparsity are horizontal lines, their standard errors bands.

    Args:
        rows: Rows with at least one seed done.
        test_sets: Names of the test sets.
    """
    sparsities = sorted({row.sparsity for row in rows if row.sparsity})
    styles = _styles(rows)
    sparse = [method for method in styles if any(r.method == method and r.sparsity for r in rows)]
    offsets = (np.arange(len(sparse)) + 0.5) / max(1, len(sparse)) - 0.5
    single = len(sparsities) == 1
    if single:
        means = {row.method: _mean(row, f"bleu/{test_sets[0]}") for row in rows}
        sparse.sort(key=lambda method: -means[method])
    spread = 1.0 if single else min(0.55, 0.04 * len(sparse))
    n_beside = 0 if single else len(styles)
    figure = Figure(figsize=(6.8, _height(2.7 * len(test_sets), n_beside)))
    panels = figure.subplots(len(test_sets), squeeze=False, sharex=True)[:, 0]
    for axes, test_set in zip(panels, test_sets, strict=True):
        axes.set(title=f"BLEU on {test_set}", ylabel="BLEU")
        axes.grid(False, axis="x")
        for row in (row for row in rows if not row.sparsity):
            _level(axes, row, f"bleu/{test_set}", styles[row.method])
        for method, offset in zip(sparse, spread * offsets, strict=True):
            mine = [row for row in rows if row.method == method and row.sparsity]
            places = [sparsities.index(row.sparsity) + offset for row in mine]
            _points(axes, places, mine, f"bleu/{test_set}", styles[method])
    if single:
        panels[-1].set_xlabel(f"methods at {_percent(sparsities[0])} sparsity")
        panels[-1].set_xticks(offsets, sparse, rotation=40, ha="right", rotation_mode="anchor")
    else:
        panels[-1].set_xlabel("sparsity of linear layers")
        panels[-1].set_xticks(range(len(sparsities)), map(_percent, sparsities))
    place = "outside lower left" if single else "outside right upper"
    _legend(figure, panels, place, leave_out=sparse if single else ())
    return figure


@mpl.rc_context(STYLE)
def quality_by_weights(rows: Sequence[Row], test_sets: Sequence[str]) -> Figure:
    """Validation loss and BLEU of each row against the weights it trains, with standard errors.

    So a sparse model can be told from a smaller dense one. A method's sparsities are joined.

    Args:
        rows: Rows with at least one seed done; those whose number of weights is unknown are left
            out.
        test_sets: Names of the test sets.
    """
    known = [row for row in rows if "trained_weights" in row.values]
    styles = _styles(rows)
    measures = {"validation_loss": ("Validation loss", "nats per token")}
    measures |= {f"bleu/{name}": (f"BLEU on {name}", "BLEU") for name in test_sets}
    figure = Figure(figsize=(6.8, _height(2.2 * len(measures), len(styles))))
    panels = figure.subplots(len(measures), squeeze=False, sharex=True)[:, 0]
    for axes, (measure, (title, unit)) in zip(panels, measures.items(), strict=True):
        axes.set(title=title, ylabel=unit, xscale="log")
        for method, style in styles.items():
            mine = [row for row in known if row.method == method]
            mine.sort(key=lambda row: row.values["trained_weights"].mean)
            if mine:
                weights = [row.values["trained_weights"].mean for row in mine]
                _points(axes, weights, mine, measure, style | {"markersize": 5})
    panels[-1].set_xlabel("trained weights, embeddings included")
    _counts(panels[-1], (1, 1.5, 2, 3, 5, 7))
    _legend(figure, panels, "outside right upper")
    return figure


@mpl.rc_context(STYLE)
def validation_loss(rows: Sequence[Row]) -> Figure:
    """Validation loss against steps and against operations, a line of panels for each sparsity.

    Lines are means over seeds, at the steps that all of them have. Rows that have no sparsity
    stand in all panels, but where their method has a line of its own. The steep beginning is cut
    off.

    Args:
        rows: Rows with at least one seed done.
    """
    sparsities = sorted({row.sparsity for row in rows if row.sparsity}) or [0.0]
    styles = _styles(rows)
    figure = Figure(figsize=(6.8, _height(2.6 * len(sparsities), len(styles))))
    panels = figure.subplots(len(sparsities), 2, squeeze=False, sharey="row")
    for (by_step, by_flops), sparsity in zip(panels, sparsities, strict=True):
        shown = [row for level in (0.0, sparsity) for row in rows if row.sparsity == level]
        curves = {row.method: _mean_curve(row.done) for row in shown}
        top = _zoom(by_step, [losses for _, losses, _ in curves.values()])
        title = f", {_percent(sparsity)} sparse" if sparsity else ""
        by_step.set(title=f"By steps{title}", xlabel="optimizer step")
        by_step.set_ylabel("validation loss, nats per token")
        by_flops.set(title=f"By operations{title}", xlabel="operations of training (FLOP)")
        for method, (steps, losses, flops) in curves.items():
            style = styles[method] | {"marker": ""}
            by_step.plot(steps, losses, label=method, **style)
            seen = losses <= top
            if len(flops) and seen.any():
                first = max(0, int(seen.argmax()) - 1)  # the line comes in from above
                by_flops.plot(flops[first:], losses[first:], **style)
        by_flops.set_xscale("log")
        _counts(by_flops, (1, 2, 5))
    _legend(figure, panels[:, 0], "outside right upper")
    return figure


def _height(panels: float, n_beside: int) -> float:
    """Height of a figure in inches, with room for a legend of so many methods beside its panels."""
    return max(0.8 + panels, 0.3 + 0.21 * n_beside)


def _counts(axes: Axes, ticks: Sequence[float]) -> None:
    """Ticks of a logarithmic axis at these places of each decade, as 1M, 2M, 5M."""
    axes.xaxis.set_major_locator(LogLocator(subs=ticks))
    axes.xaxis.set_major_formatter(EngFormatter(sep=""))
    axes.minorticks_off()


def _mean(row: Row, measure: str) -> float:
    value = row.values.get(measure)
    return -np.inf if value is None else value.mean


def _level(axes: Axes, row: Row, measure: str, style: dict[str, Any]) -> None:
    """A row without sparsity: a line, and a band of one standard error."""
    if value := row.values.get(measure):
        axes.axhline(value.mean, label=row.method, **style | {"marker": ""})
        error = value.standard_error or 0.0
        band = {"color": style["color"], "alpha": 0.15, "lw": 0}
        axes.axhspan(value.mean - error, value.mean + error, **band)


def _points(
    axes: Axes, places: Sequence[float], rows: Sequence[Row], measure: str, style: dict[str, Any]
) -> None:
    """A method at its sparsities: points with error bars, joined."""
    known = [
        (x, value)
        for x, row in zip(places, rows, strict=True)
        if (value := row.values.get(measure))
    ]
    x, means = [place for place, _ in known], [value.mean for _, value in known]
    errors = [value.standard_error or 0.0 for _, value in known]
    axes.errorbar(x, means, errors, fmt="none", ecolor=style["color"], elinewidth=1, capsize=2)
    axes.plot(x, means, label=rows[0].method, **style)


def _percent(share: float) -> str:
    return f"{100 * share:.4g}%"


def _styles(rows: Iterable[Row]) -> dict[str, dict[str, Any]]:
    """A colour, dash and marker for each method; no two methods share all of them."""
    methods = dict.fromkeys(row.method for row in rows)
    n = len(SERIES)
    return {
        method: {
            "color": SERIES[i % n],
            "ls": DASHES[i // n % len(DASHES)],
            "marker": MARKERS[(i + i // n) % len(MARKERS)],
        }
        for i, method in enumerate(methods)
    }


def _mean_curve(runs: Sequence[RunResult]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Steps that all seeds have, mean losses, and mean operations; the latter may be unknown."""
    curves = [dict(run.losses) for run in runs]
    steps = [step for step in curves[0] if all(step in curve for curve in curves)]
    losses = np.array([[curve[step] for step in steps] for curve in curves]).mean(0)
    if not all(run.flops for run in runs):
        return np.array(steps), losses, np.array([])
    counts = [dict(zip(dict(run.losses), run.flops, strict=True)) for run in runs]
    flops = np.array([[count[step] for step in steps] for count in counts]).mean(0)
    return np.array(steps), losses, flops


def _zoom(axes: Axes, curves: Sequence[np.ndarray]) -> float:
    """Show twice the range that the second halves of the curves take; return its upper end."""
    late = np.concatenate([curve[len(curve) // 2 :] for curve in curves])
    if not late.size:
        return np.inf
    low, high = float(late.min()), float(late.max())
    margin = 0.05 * (high - low) or 0.1
    top = high + (high - low) + margin
    axes.set_ylim(low - margin, top)
    return top


def _legend(
    figure: Figure, panels: Iterable[Axes], place: Any, leave_out: Sequence[str] = ()
) -> None:
    """All methods once, beside the panels or below them."""
    named = {
        label: line
        for axes in panels
        for line, label in zip(*axes.get_legend_handles_labels(), strict=True)
        if label not in leave_out
    }
    if named:
        columns = 1 if "right" in place else 3
        handles, labels = list(named.values()), list(named)
        figure.legend(handles, labels, loc=place, ncols=columns, handlelength=3)
