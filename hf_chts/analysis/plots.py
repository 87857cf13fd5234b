"""Figures of runs and networks, one function a figure; each returns a matplotlib ``Figure``.

Colours are those of Okabe and Ito, which people with any colour vision tell apart; series differ
in line style, too. Figures are narrow, so that their text stays readable on a telephone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
from jaxtyping import Bool, Float, Int, Shaped
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.colors import Colormap, LinearSegmentedColormap, ListedColormap, to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Circle, Patch, Rectangle
from matplotlib.ticker import MaxNLocator
from numpy.typing import ArrayLike

from hf_chts.analysis.blocks import block_densities, block_size
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

WHOLE: Any = {"integer": True, "min_n_ticks": 1}
"""Ticks at whole numbers only, also where one is all there is."""
MOST_CELLS = 512
"""Of a side of a matrix: more are finer than the pixels of a figure."""
Line = tuple[ArrayLike, ArrayLike]
"""Positions and values of one series, equally many."""


@mpl.rc_context(STYLE)
def curves(series: Mapping[str, Line], *, title: str, x_label: str, y_label: str) -> Figure:
    """Series over a common axis.

    Args:
        series: Lines by their name in the legend; values that are not finite leave a gap. One
            without positions is not drawn but keeps its colour from the next.
        title: What is shown.
        x_label: Name and unit of the positions.
        y_label: Name and unit of the values.

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
    axes.xaxis.set_major_locator(MaxNLocator(nbins=6, steps=[1, 2, 2.5, 5, 10], **WHOLE))
    legend_below(figure, axes)
    return figure


@mpl.rc_context(STYLE)
def adjacency(mask: Bool[np.ndarray, "out in"], *, title: str) -> Figure:
    """The matrix of active links: a dot for each link.

    Of a layer with more than ``MOST_CELLS`` neurons on a side, a dot for each block of neurons
    with a link, the darker the more links it has.

    Args:
        mask: Active links.
        title: What is shown.
    """
    size = block_size(max(mask.shape), MOST_CELLS)
    density = block_densities(mask, (size, size))
    darkness = np.where(density > 0, 0.25 + 0.75 * density / max(density.max(), 1e-12), 0)
    note = f", blocks of {size} x {size}: darker with more links" if size > 1 else ""
    figure, axes = new_axes(title, f"input neuron{note}", "output neuron")
    figure.set_size_inches(4.8, 4.8)
    axes.grid(False)
    shades = LinearSegmentedColormap.from_list("ink", [(*to_rgb(INK), 0), (*to_rgb(INK), 1)])
    _cells(axes, darkness, mask.shape, (size, size), cmap=shades)
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

    The legend names the first and the last line. Each line carries the group id ``step-N``, so
    that a page can emphasise one.

    Args:
        degrees: Degrees of the neurons by step.
        title: What is shown.
    """
    figure, axes = new_axes(title, "degree k (links of a neuron)", "share with degree ≥ k")
    shades = mpl.colormaps["cividis"](np.linspace(0.9, 0.1, max(len(degrees), 2)))
    drawn = [step for step, values in sorted(degrees.items()) if values.any()]
    for shade, (step, values) in zip(shades, sorted(degrees.items()), strict=False):
        if step in drawn:
            k, share = _ccdf(values[values > 0])
            label = f"step {step:,}" if step in (drawn[0], drawn[-1]) else None
            marker = "o" if len(k) == 1 else ""  # of equal degrees: a line of one point
            style: Any = {"color": shade, "lw": 1, "marker": marker, "gid": f"step-{step}"}
            axes.plot(k, share, label=label, **style)
    logarithmic(axes)
    legend_below(figure, axes)
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

    Where there are too many to tell apart, one stands for several and is inactive if any is.

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
    inactive = ~np.stack([active[step] for step in steps])
    rows, columns = (block_size(n, most) for n, most in zip(inactive.shape, (64, 256), strict=True))
    any_inactive = block_densities(inactive, (rows, columns)) > 0
    colours = ListedColormap(["none", VERMILLION])
    _cells(axes, any_inactive, inactive.shape, (rows, columns), cmap=colours)
    shown = np.unique(np.linspace(0, len(steps) - 1, min(len(steps), 6)).astype(int))
    axes.set_yticks(shown, [f"{steps[i]:,}" for i in shown])
    several = [f"{n} {what}" for n, what in ((columns, "neurons"), (rows, "steps")) if n > 1]
    note = f" (any of {' and '.join(several)})" if several else ""
    keys = [Patch(color=GRID, label="active"), Patch(color=VERMILLION, label=f"inactive{note}")]
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
    axes.set_xlabel(x_label, loc="right")  # to the left there is room, beside long names
    axes.set_title(axes.get_title(loc="left"), x=1, ha="right")
    axes.set_ylim(len(layers) - 0.4, -0.6)
    legend_below(figure, axes)
    return figure


def _cells(
    axes: Axes,
    values: Shaped[np.ndarray, "rows columns"],
    shape: tuple[int, ...],
    block: tuple[int, int],
    *,
    cmap: Colormap,
) -> None:
    """Values in [0, 1] as cells, each of which covers a block of a matrix of the given shape."""
    bottom, right = (n * size - 0.5 for n, size in zip(values.shape, block, strict=True))
    axes.imshow(
        values,
        cmap=cmap,
        extent=(-0.5, right, bottom, -0.5),
        interpolation="none",  # the cells themselves, however large the page
        aspect="auto",
        vmin=0,
        vmax=1,
    )
    axes.set(xlim=(-0.5, shape[1] - 0.5), ylim=(shape[0] - 0.5, -0.5))
    axes.locator_params(**WHOLE)


def _series_style(index: int) -> dict[str, Any]:
    """A colour for each of eight series, which the next eight have with other dashes."""
    dashes = DASHES[(index + index // len(SERIES)) % len(DASHES)]
    return {"color": SERIES[index % len(SERIES)], "ls": dashes}


def _ccdf(degrees: Int[np.ndarray, " neurons"]) -> tuple[np.ndarray, np.ndarray]:
    """Distinct degrees, ascending, and the share of neurons with at least so many links."""
    k, counts = np.unique(degrees, return_counts=True)
    return k, counts[::-1].cumsum()[::-1] / len(degrees)
