"""Figures as parts of a page: their ink takes the page's colours, light or dark."""

from __future__ import annotations

import base64
import io
import re
from html import escape
from typing import Any

import matplotlib as mpl
from markupsafe import Markup
from matplotlib.figure import Figure
from PIL import Image

from hf_chts.analysis import plot_style

VARIABLES = {
    plot_style.INK: "currentColor",
    plot_style.GRID: "var(--grid)",
    plot_style.BLUE: "var(--blue)",
    plot_style.VERMILLION: "var(--vermillion)",
    plot_style.GREEN: "var(--green)",
    plot_style.PURPLE: "var(--purple)",
    plot_style.ORANGE: "var(--orange)",
    plot_style.SKY: "var(--sky)",
    plot_style.GREY: "var(--grey)",
}
"""What stands on the page for each colour of a figure."""


def inline_svg(figure: Figure, *, key: str, label: str) -> Markup:
    """A figure as an SVG element.

    Args:
        figure: What to show.
        key: Letters, digits and hyphens that no other figure of the page has; ids begin with it.
        label: What the figure shows, for those who cannot see it.
    """
    buffer = io.StringIO()
    settings: Any = {"svg.fonttype": "none", "svg.hashsalt": key, "savefig.dpi": 110}
    with mpl.rc_context(settings):
        nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
        figure.savefig(buffer, format="svg", transparent=True, metadata=nothing)
    svg = buffer.getvalue()
    svg = svg[svg.index("<svg") :]
    box = re.search(r'viewBox="[^"]*"', svg)
    body = svg[svg.index(">") + 1 :]
    body = re.sub(r"<metadata>.*?</metadata>|<style.*?</style>", "", body, flags=re.DOTALL)
    body = re.sub(r" font-family: [^;\"]*;", "", body)
    body = re.sub(r"data:image/png;base64,([A-Za-z0-9+/=\s]+)", _fewer_colours, body)
    # an image keeps its scale whole: hundreds of cells multiply what rounding takes
    body = re.sub(r"<(?!image)[^>]*>", lambda tag: re.sub(r"(\.\d\d)\d+", r"\1", tag[0]), body)
    body = re.sub(r"\s*\n\s*", " ", body)
    body = re.sub(r'(\bid="|href="#|url\(#)', rf"\g<1>{key}-", body)
    for colour, variable in VARIABLES.items():
        body = body.replace(colour, variable)
    head = f'<svg class="chart" role="img" aria-label="{escape(label)}" {box and box[0]} '
    return Markup(head + 'xmlns:xlink="http://www.w3.org/1999/xlink">' + body)


def _fewer_colours(found: re.Match[str]) -> str:
    """A raster part of a figure, with 32 colours: a fifth of the size, and no eye sees it."""
    image = Image.open(io.BytesIO(base64.b64decode(found[1]))).convert("RGBA")
    buffer = io.BytesIO()
    image.quantize(32, method=Image.Quantize.FASTOCTREE).save(buffer, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")
