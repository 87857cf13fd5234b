"""The converged runs of Multi30k as one figure: loss and BLEU of every row, best loss on top.

    python scripts/plot_converged.py [FOLDER_OF_THE_RECIPE] [FIGURE.png]

The folder holds converged.csv, one line a run, and converged_means.csv, rows whose single runs are
no longer known. Runs of rows with means there are left out, since the means have them.
"""

from __future__ import annotations

import csv
import sys
from pathlib import Path

import matplotlib as mpl
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from hf_chts.analysis.plot_style import BLUE, GREY, INK, ORANGE, STYLE, VERMILLION
from hf_chts.comparison.rows import Estimate

FAMILIES = {
    "dense": (INK, ("dense", "narrow-dense", "shallow-decoder")),
    "ours": (VERMILLION, ("chts_tied", "chtss_tied", "chtss_obd")),
    "Cannistraci-Hebb training, as in the papers": (BLUE, ("cht", "chts", "chtss")),
    "other methods, as in the papers": (ORANGE, ("set", "rigl", "mest", "gmp", "granet", "static")),
    "one thing changed: controls": (GREY, ()),
}
PANELS = {
    "validation_loss": ("Validation loss", "nats per token"),
    "test2016_bleu": ("test2016", "BLEU"),
    "test2017_bleu": ("test2017", "BLEU"),
}
Values = dict[str, tuple[list[float], Estimate]]  # single runs as far as they are known


def read(path: Path) -> list[dict[str, str]]:
    """Lines of a table."""
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def rows(folder: Path) -> dict[str, Values]:
    """Runs of each row and measure and what they come to, lowest loss last."""
    runs: dict[str, list[dict[str, str]]] = {}
    for line in read(folder / "converged.csv"):
        runs.setdefault(line["row"], []).append(line)
    found: dict[str, Values] = {}
    for name, lines in runs.items():
        singles = {measure: [float(line[measure]) for line in lines] for measure in PANELS}
        found[name] = {key: (single, Estimate.of(single)) for key, single in singles.items()}
    for line in read(folder / "converged_means.csv"):
        found[line["row"]] = {
            key: ([], Estimate(float(line[key]), float(line[f"{key}_se"]), int(line["seeds"])))
            for key in PANELS
        }
    return dict(sorted(found.items(), key=lambda item: -item[1]["validation_loss"][1].mean))


def color_of(row: str) -> str:
    """The colour of the row's family; the last one takes all that is in no other."""
    families = list(FAMILIES.values())
    return next((color for color, members in families if row in members), families[-1][0])


@mpl.rc_context(STYLE)
def figure_of(found: dict[str, Values]) -> Figure:
    """A panel for each measure, a line for each row."""
    figure = Figure(figsize=(7.6, 1.3 + 0.2 * len(found)))
    panels = figure.subplots(1, len(PANELS), sharey=True)
    for axes, (measure, (title, unit)) in zip(panels, PANELS.items(), strict=True):
        axes.set(title=title, xlabel=unit)
        for place, (name, values) in enumerate(found.items()):
            single, known = values[measure]
            style = {"color": color_of(name), "lw": 0}
            face = {"markerfacecolor": "white"} if known.n == 1 else {}
            axes.plot(single, [place] * len(single), marker="|", ms=5, alpha=0.6, **style)
            error = known.standard_error or 0.0
            axes.errorbar(known.mean, place, xerr=error, fmt="none", ecolor=style["color"])
            axes.plot(known.mean, place, marker="o", ms=4.5, **style, **face)
    panels[0].set_yticks(range(len(found)), found)
    panels[0].set_ylim(-0.7, len(found) - 0.3)
    figure.suptitle("Multi30k after 29 epochs; sparse rows keep 10% of the links")
    figure.legend(handles=legend(), loc="outside lower left", ncols=2)
    return figure


def legend() -> list[Line2D]:
    """Families by colour, and what the marks are."""
    dots = [
        Line2D([], [], color=color, marker="o", lw=0, label=name)
        for name, (color, _) in FAMILIES.items()
    ]
    return [
        *dots,
        Line2D(
            [], [], color=GREY, marker="o", ls="-", label="mean ± standard error of 2 or 3 seeds"
        ),
        Line2D([], [], color=GREY, marker="o", lw=0, markerfacecolor="white", label="one seed"),
        Line2D([], [], color=GREY, marker="|", lw=0, label="a run, where it is known"),
    ]


if __name__ == "__main__":
    here = Path(__file__).parent.parent / "recipes"
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else here / "multi30k_en_de"
    to = Path(sys.argv[2]) if len(sys.argv) > 2 else here / "figures" / "multi30k_converged.png"
    figure_of(rows(folder)).savefig(to, dpi=200, facecolor="white")
    print(to)
