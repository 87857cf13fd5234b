"""How figures look: colours, type, axes and legends."""

from __future__ import annotations

import textwrap
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, StrMethodFormatter

INK = "#1b1c1d"
GRID = "#d8d9da"
BLUE, VERMILLION, GREEN, PURPLE = "#0072b2", "#d55e00", "#009e73", "#cc79a7"
ORANGE, SKY, GREY = "#e69f00", "#56b4e9", "#808284"
SERIES = (BLUE, VERMILLION, GREEN, PURPLE, ORANGE, SKY, INK, GREY)
"""Okabe and Ito's palette without its yellow, which white paper swallows."""
DASHES = ("-", "--", "-.", ":")
TITLE_WIDTH = 54
"""Characters of a line of a title; names of layers may be longer."""

STYLE: Any = {
    "axes.axisbelow": True,
    "axes.edgecolor": GREY,
    "axes.grid": True,
    "axes.labelcolor": INK,
    "axes.labelsize": 9,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlelocation": "left",
    "axes.titlesize": 10,
    "figure.constrained_layout.use": True,
    "figure.figsize": (4.8, 3.0),
    "font.size": 9,
    "grid.color": GRID,
    "grid.linewidth": 0.6,
    "legend.fontsize": 8,
    "legend.frameon": False,
    "lines.linewidth": 1.5,
    "lines.markersize": 3.5,
    "savefig.dpi": 200,
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "xtick.labelsize": 8.5,
    "ytick.labelsize": 8.5,
}


def new_axes(title: str, x_label: str, y_label: str) -> tuple[Figure, Axes]:
    """A figure of one pair of axes, in the style that holds where it is called."""
    figure = Figure()
    axes = figure.add_subplot()
    axes.set(title=textwrap.fill(title, TITLE_WIDTH), xlabel=x_label, ylabel=y_label)
    return figure, axes


def logarithmic(axes: Axes) -> None:
    """Make both axes logarithmic, with plain numbers at their ticks."""
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 3, 5)))
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axes.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axes.minorticks_off()


def legend_below(figure: Figure, axes: Axes) -> None:
    """Below the axes, in as many columns as fit."""
    labels = [str(line.get_label()) for line in axes.lines]
    labels = [label for label in labels if not label.startswith("_")]
    if len(labels) > 1:
        columns = max(1, min(3, int(345 // (4.4 * max(map(len, labels)) + 34))))
        figure.legend(loc="outside lower left", ncols=columns)
        width, height = figure.get_size_inches()
        figure.set_size_inches(width, height + 0.17 * -(-len(labels) // columns))
