"""All figures of a report: on the page, and as files for those who ask for them."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path

import matplotlib as mpl
from markupsafe import Markup
from matplotlib.figure import Figure

from hf_chts.report.svg import inline_svg


@dataclass(frozen=True)
class Chart:
    """A figure on the page.

    Attributes:
        svg: The figure as an element.
        caption: What to see in it, and what its words mean.
    """

    svg: Markup
    caption: str


@dataclass(frozen=True)
class FigureStore:
    """Takes figures as they are made.

    Attributes:
        folder: Where each is written as PNG and SVG; None: nowhere.
        keys: Names given so far.
    """

    folder: Path | None
    keys: set[str] = field(default_factory=set)

    def chart(self, key: str, figure: Figure, caption: str = "") -> Chart:
        """Keep a figure and give it back for the page; ``key`` names its files."""
        name = self.keep(key, figure)
        label = " ".join(axes.get_title(loc="left").replace("\n", " ") for axes in figure.axes)
        return Chart(inline_svg(figure, key=name, label=label), caption)

    def keep(self, key: str, figure: Figure) -> str:
        """Keep a figure as files only; the name that they got."""
        name = re.sub(r"[^A-Za-z0-9]+", "-", key).strip("-")
        while name in self.keys:
            name += "-2"
        self.keys.add(name)
        if self.folder is not None:
            self.folder.mkdir(parents=True, exist_ok=True)
            with mpl.rc_context({"svg.hashsalt": name}):
                figure.savefig(self.folder / f"{name}.png", dpi=200, facecolor="white")
                figure.savefig(self.folder / f"{name}.svg", facecolor="white")
        return name
