"""The report as one HTML file that needs nothing beside it."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping, Sequence
from importlib.resources import files
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from hf_chts.report.evolution import COUNTS, Evolution

SECTIONS = (
    ("summary", "Summary", "tiles"),
    ("scores", "Scores", "size_rows"),
    ("comparison", "Runs side by side", "comparison"),
    ("training", "Training", "tiles"),
    ("updates", "Topology updates", "sparse"),
    ("layers", "Layers", "table"),
    ("closely", "Layers, closely", "panels"),
    ("evolution", "Evolution", "evolutions"),
    ("neurons", "Neurons that dropped out", "neurons"),
    ("translations", "Translations", "example_sets"),
    ("recipe", "How it was made", "tiles"),
)
"""Id and title of each section, and the part of the content without which it is left out."""


def render(content: Mapping[str, Any]) -> str:
    """Fill the page.

    Everything from files is escaped, and the page's own policy forbids any other script and any
    load from elsewhere.

    Args:
        content: What the templates name.
    """
    environment = Environment(
        loader=PackageLoader("hf_chts.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    script, style = _part("page.js"), _part("page.css")
    digest = base64.b64encode(hashlib.sha256(script.encode("utf-8")).digest()).decode("ascii")
    shown = [(key, title) for key, title, needs in SECTIONS if content[needs]]
    return environment.get_template("page.html").render(
        **content,
        contents=shown,
        count_labels=COUNTS,
        script=Markup(script),
        script_hash=f"sha256-{digest}",
        style=Markup(style),
    )


def evolution_data(steps: Sequence[int], evolutions: Sequence[Evolution]) -> dict[str, Any]:
    """What the slider needs."""
    layers = [
        {"pictures": [picture.uri for picture in one.pictures], "counts": one.counts}
        for one in evolutions
    ]
    return {"steps": list(steps), "layers": layers}


def _part(name: str) -> str:
    return (files("hf_chts.report") / "templates" / name).read_text(encoding="utf-8")
