"""What a report reads of a run, made by hand, so that every cell of the page is known."""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from hf_chts.analysis.snapshots import load_snapshots, pack, start_snapshots, write_snapshot
from hf_chts.report.figure_store import FigureStore
from hf_chts.report.run_data import RunData


def made_up_run(**known):
    """A run of which nothing is known but what is given."""
    nothing = {
        "name": "made up", "path": Path("made_up"), "recipe": {}, "recipe_text": "",
        "environment": {}, "earlier": [], "patching": "", "metrics": [], "updates": [],
        "scores": {}, "training_seconds": None, "sizes": {}, "translations": {}, "groups": None,
        "snapshots": None, "steps": [], "final": None, "final_source": "", "finished": False,
        "dense": False, "gaps": [],
    }  # fmt: skip
    return RunData(**nothing | known)


def run_through(folder, history, **known):
    """A run with snapshots: masks by layer name, by step; the last ones are the result."""
    last = history[max(history)]
    groups = known.get("groups") or []
    start_snapshots(folder, {name: mask.shape for name, mask in last.items()}, groups, 0)
    for step, masks in history.items():
        write_snapshot(folder, step, {name: pack(mask) for name, mask in masks.items()})
    steps = {"snapshots": load_snapshots(folder), "steps": sorted(history), "final": last}
    return made_up_run(**steps | known)


def links(*rows):
    """A mask, a text of 0 and 1 for each output neuron."""
    return np.array([[digit == "1" for digit in row] for row in rows])


def quiet(what):
    """Nobody watches the progress."""


@dataclass(frozen=True)
class OpenStore(FigureStore):
    """A store that also gives the figures back, by the names of their files."""

    folder: Path | None = None
    figures: dict[str, Figure] = field(default_factory=dict)

    def keep(self, key, figure):
        name = super().keep(key, figure)
        self.figures[name] = figure
        return name

    def lines(self, name):
        """Positions and values by name of the line."""
        axes = self.figures[name].axes[0]
        return {
            line.get_label(): tuple(np.asarray(data).tolist() for data in line.get_data())
            for line in axes.lines
        }
