"""Figures of runs and networks, one function a figure; each returns a matplotlib ``Figure``.

Colours are those of Okabe and Ito, which people with any colour vision tell apart; series differ
in line style, too. Figures are narrow, so that their text stays readable on a telephone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
from jaxtyping import Bool, Float, Int
from matplotlib.collections import LineCollection
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.patches import Circle, Patch, Rectangle
from matplotlib.ticker import MaxNLocator
from numpy.typing import ArrayLike

from hf_chts.analysis.plot_style import (
    DASHES,
    GREY,
    GRID,
    INK,
    SERIES,
    STYLE,
    VERMILLION,
    legend_below,
    logarithmic,
    new_axes,
)

Line = tuple[ArrayLike, ArrayLike]
"""Positions and values of one series, equally many."""


@mpl.rc_context(STYLE)
def curves(
    series: Mapping[str, Line], *, title: str, x_label: str, y_label: str, log_y: bool = False
) -> Figure:
    """Series over a common axis.

    Args:
        series: Lines by their name in the legend; values that are not finite leave a gap. One
            without positions is not drawn but keeps its colour from the next.
        title: What is shown.
        x_label: Name and unit of the positions.
        y_label: Name and unit of the values.
        log_y: Whether the values' axis is logarithmic.

    Raises:
        ValueError: If there is no series.
    """
    if not series:
        raise ValueError("curves need at least one series")
    figure, axes = new_axes(title, x_label, y_label)
    for index, (name, (x, y)) in enumerate(series.items()):
        if np.size(x) == 0:
            continue
        marker = "o" if np.size(x) <= 30 else ""
        axes.plot(x, y, label=name, marker=marker, **_series_style(index))
    if log_y:
        axes.set_yscale("log")
    axes.xaxis.set_major_locator(MaxNLocator(nbins=6, integer=True, steps=[1, 2, 2.5, 5, 10]))
    legend_below(figure, axes)
    return figure


@mpl.rc_context(STYLE)
def adjacency(
    mask: Bool[np.ndarray, "out in"],
    *,
    title: str,
    output_order: Int[np.ndarray, " out"] | None = None,
    input_order: Int[np.ndarray, " in"] | None = None,
) -> Figure:
    """The matrix of active links: a dot for each link.

    Args:
        mask: Active links.
        title: What is shown.
        output_order: Order of the rows from the top; None: as they are numbered.
        input_order: Likewise for the columns from the left.
    """
    n_out, n_in = mask.shape
    rows = np.arange(n_out) if output_order is None else output_order
    columns = np.arange(n_in) if input_order is None else input_order
    figure, axes = new_axes(title, "input neuron", "output neuron")
    axes.grid(False)
    axes.imshow(
        mask[np.ix_(rows, columns)],
        cmap=ListedColormap(["none", INK]),
        interpolation="nearest",
        aspect="auto",
        vmin=0,
        vmax=1,
    )
    return figure


@mpl.rc_context(STYLE)
def degree_distribution(
    degrees: Mapping[str, Int[np.ndarray, " neurons"]],
    fits: Mapping[str, tuple[float, float]],
    *,
    title: str,
) -> Figure:
    """Share of neurons with at least so many links, both axes logarithmic, and power laws.

    Args:
        degrees: Degrees by side, for example inputs and outputs; neurons without links are left
            out, as a logarithmic axis has no zero.
        fits: Exponent gamma and smallest degree x_min of the fitted power law, for those sides
            that have one.
        title: What is shown.
    """
    figure, axes = new_axes(title, "degree k (links of a neuron)", "share with degree ≥ k")
    for index, (side, values) in enumerate(degrees.items()):
        colour, positive = SERIES[index], values[values > 0]
        if len(positive) == 0:
            continue
        k, share = _ccdf(positive)
        axes.plot(k, share, "os"[index % 2], color=colour, label=side, mfc="none")
        if side in fits:
            gamma, x_min = fits[side]
            tail = np.array([x_min, max(k[-1], x_min)], dtype=float)
            start = (positive >= x_min).mean()
            label = f"{side}: gamma = {gamma:.2f} from k = {x_min:g}"
            axes.plot(
                tail, start * (tail / x_min) ** (1 - gamma), color=colour, ls="--", label=label
            )
    logarithmic(axes)
    legend_below(figure, axes)
    return figure


@mpl.rc_context(STYLE)
def degree_evolution(degrees: Mapping[int, Int[np.ndarray, " neurons"]], *, title: str) -> Figure:
    """Degree distributions at several steps in one picture, early ones light, late ones dark.

    Each line carries the group id ``step-N``, so that a page can emphasise one.

    Args:
        degrees: Degrees of the neurons by step.
        title: What is shown.
    """
    figure, axes = new_axes(title, "degree k (links of a neuron)", "share with degree ≥ k")
    shades = mpl.colormaps["cividis"](np.linspace(0.9, 0.1, max(len(degrees), 2)))
    for shade, (step, values) in zip(shades, sorted(degrees.items()), strict=False):
        positive = values[values > 0]
        if len(positive):
            k, share = _ccdf(positive)
            axes.plot(k, share, color=shade, lw=1, gid=f"step-{step}", label=f"step {step:,}")
    logarithmic(axes)
    return figure


@mpl.rc_context(STYLE)
def disc(
    angle: Float[np.ndarray, " nodes"],
    radius: Float[np.ndarray, " nodes"],
    community: Int[np.ndarray, " nodes"],
    links: Int[np.ndarray, "links 2"],
    *,
    title: str,
) -> Figure:
    """A network in the hyperbolic disc, as its embedding lays it out.

    Args:
        angle: Angle of each node, radians.
        radius: Hyperbolic distance from the centre, at least 0.
        community: Community of each node; the seven largest have a colour, the rest is grey.
        links: Pairs of node numbers to draw.
        title: What is shown.
    """
    figure, axes = new_axes(title, "", "")
    figure.set_size_inches(4.2, 4.2)
    axes.set_axis_off()
    axes.set_aspect("equal")
    points = np.column_stack([radius * np.cos(angle), radius * np.sin(angle)])
    lines = LineCollection(points[links], colors=GREY, linewidths=0.3, alpha=0.3, rasterized=True)
    axes.add_collection(lines)
    sizes = np.bincount(community)
    largest = np.argsort(-sizes, kind="stable")[: len(SERIES) - 1]
    groups = [(community == label, colour) for label, colour in zip(largest, SERIES, strict=False)]
    for chosen, colour in (*groups, (~np.isin(community, largest), GREY)):
        size, many = (14, False) if len(points) <= 1000 else (6, True)
        axes.scatter(*points[chosen].T, s=size, color=colour, lw=0, rasterized=many, zorder=3)
    rim = float(radius.max(initial=1.0))
    axes.add_patch(Circle((0, 0), rim, fill=False, color=GREY, lw=0.8))
    axes.set(xlim=(-1.03 * rim, 1.03 * rim), ylim=(-1.03 * rim, 1.03 * rim))
    return figure


@mpl.rc_context(STYLE)
def neuron_activity(active: Mapping[int, Bool[np.ndarray, " neurons"]], *, title: str) -> Figure:
    """Which hidden neurons were active when: a column for each neuron, a row for each step.

    Args:
        active: Whether each neuron is active, by step.
        title: What is shown.
    """
    figure, axes = new_axes(title, "hidden neuron", "step")
    figure.set_size_inches(4.8, 2.2)
    axes.grid(False)
    whole = (0, 0), 1, 1
    axes.add_patch(Rectangle(*whole, transform=axes.transAxes, color=GRID, lw=0, zorder=-1))
    steps = sorted(active)
    axes.imshow(
        np.stack([active[step] for step in steps]),
        cmap=ListedColormap([VERMILLION, "none"]),
        interpolation="nearest",
        aspect="auto",
        vmin=0,
        vmax=1,
    )
    shown = np.unique(np.linspace(0, len(steps) - 1, min(len(steps), 6)).astype(int))
    axes.set_yticks(shown, [f"{steps[i]:,}" for i in shown])
    keys = [Patch(color=c, label=n) for n, c in (("active", GRID), ("inactive", VERMILLION))]
    figure.legend(handles=keys, loc="outside lower left", ncols=2)
    return figure


@mpl.rc_context(STYLE)
def layer_dots(
    values: Mapping[str, Sequence[float]],
    layers: Sequence[str],
    *,
    title: str,
    x_label: str,
    reference: float,
) -> Figure:
    """One value for each layer and series, layers from top to bottom.

    Args:
        values: Values in the order of ``layers`` by name of the series; an empty one is not drawn
            but keeps its colour from the next.
        layers: Names of the layers.
        title: What is shown.
        x_label: Name and unit of the values.
        reference: A value to compare with, drawn as a line.
    """
    figure, axes = new_axes(title, x_label, "")
    figure.set_size_inches(4.8, 1.2 + 0.17 * len(layers))
    for index, (name, row) in enumerate(values.items()):
        style: Any = {"color": SERIES[index % len(SERIES)], "marker": "os^Dvxp*"[index % 8]}
        if row:
            axes.plot(row, np.arange(len(layers)), ls="", label=name, **style)
    axes.axvline(reference, color=GREY, lw=1)
    axes.set_yticks(np.arange(len(layers)), layers, fontsize=7)
    axes.set_ylim(len(layers) - 0.4, -0.6)
    legend_below(figure, axes)
    return figure


def _series_style(index: int) -> dict[str, Any]:
    return {"color": SERIES[index % len(SERIES)], "ls": DASHES[index % len(DASHES)]}


def _ccdf(degrees: Int[np.ndarray, " neurons"]) -> tuple[np.ndarray, np.ndarray]:
    """Distinct degrees, ascending, and the share of neurons with at least so many links."""
    k, counts = np.unique(degrees, return_counts=True)
    return k, counts[::-1].cumsum()[::-1] / len(degrees)
