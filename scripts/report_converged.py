"""The converged runs of Multi30k as a figure and a table, best loss on top.

    python scripts/report_converged.py [FOLDER] [FIGURE.png]

The folder holds runs.csv, one line a run, and means.csv, rows whose single runs are no longer
known; runs of those rows are left out, since the means have them. Differences are those
of means, each ± from the standard errors of both rows; ITOP and active neurons, those of the runs
for which they are known. The table goes to the standard output, as Markdown.
"""

from __future__ import annotations

import csv
import math
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
MEASURES = ("validation_loss", "test2016_bleu", "test2016_chrf", "test2017_bleu", "test2017_chrf")
NETWORK = ("itop", "active_neurons")  # of the seeds for which they are known
BASELINE = "chts"
Values = dict[str, tuple[list[float], Estimate | None]]  # single runs as far as they are known


def read(path: Path) -> list[dict[str, str]]:
    """Lines of a table."""
    if not path.is_file():
        sys.exit(f"there is no {path}: give the folder that holds runs.csv and means.csv")
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def known(lines: list[dict[str, str]], measure: str) -> tuple[list[float], Estimate | None]:
    """Values of the runs that have the measure, and what they come to; None where none has."""
    values = [float(line[measure]) for line in lines if line[measure]]
    return values, Estimate.of(values) if values else None


def rows(folder: Path) -> dict[str, Values]:
    """Runs of each row and measure and what they come to, lowest loss last."""
    runs: dict[str, list[dict[str, str]]] = {}
    for line in read(folder / "runs.csv"):
        runs.setdefault(line["row"], []).append(line)
    found: dict[str, Values] = {
        name: {measure: known(lines, measure) for measure in MEASURES + NETWORK}
        for name, lines in runs.items()
    }
    for line in read(folder / "means.csv"):
        means: Values = {
            key: ([], Estimate(float(line[key]), float(line[f"{key}_se"]), int(line["seeds"])))
            for key in MEASURES
        }
        found[line["row"]] = means | {measure: known([line], measure) for measure in NETWORK}
    return dict(sorted(found.items(), key=lambda item: -of(item[1], "validation_loss").mean))


def of(values: Values, measure: str) -> Estimate:
    """What a measure that every run has comes to."""
    estimate = values[measure][1]
    assert estimate is not None, measure
    return estimate


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
            single, estimate = values[measure][0], of(values, measure)
            style = {"color": color_of(name), "lw": 0}
            face = {"markerfacecolor": "white"} if estimate.n == 1 else {}
            axes.plot(single, [place] * len(single), marker="|", ms=5, alpha=0.6, **style)
            error = estimate.standard_error or 0.0
            axes.errorbar(estimate.mean, place, xerr=error, fmt="none", ecolor=style["color"])
            axes.plot(estimate.mean, place, marker="o", ms=4.5, **style, **face)
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
    grey = {"color": GREY, "marker": "o"}
    return [
        *dots,
        Line2D([], [], ls="-", label="mean ± standard error of 2 or 3 seeds", **grey),
        Line2D([], [], lw=0, markerfacecolor="white", label="one seed", **grey),
        Line2D([], [], color=GREY, marker="|", lw=0, label="a run, where it is known"),
    ]


def table_of(found: dict[str, Values]) -> str:
    """The table in Markdown, a line for each row, differences to CHTs."""
    heads = ["row", "seeds", "validation loss", "less CHTs"]
    for test_set in ("test2016", "test2017"):
        heads += [f"{test_set} BLEU", "less CHTs", "chrF"]
    lines = [[*heads, "ITOP", "active neurons"], ["---", *["---:"] * (len(heads) + 1)]]
    for name, values in reversed(found.items()):
        cells = [f"`{name}`", str(of(values, "validation_loss").n)]
        for measure in MEASURES:
            digits = 3 if measure == "validation_loss" else 2
            cells.append(written(of(values, measure), digits))
            if not measure.endswith("chrf"):
                other = None if name == BASELINE else of(found[BASELINE], measure)
                cells.append(difference(of(values, measure), other, digits))
        networks = [values[measure][1] for measure in NETWORK]
        cells += ["-" if network is None else f"{network.mean:.2f}" for network in networks]
        lines.append(cells)
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def written(estimate: Estimate, digits: int) -> str:
    """A mean and its standard error, where it has one."""
    error = estimate.standard_error
    return f"{estimate.mean:.{digits}f}" + ("" if error is None else f" ± {error:.{digits}f}")


def difference(one: Estimate, other: Estimate | None, digits: int) -> str:
    """Of two means, with the error that both give it, where both have one; "-" beside none."""
    if other is None:
        return "-"
    text = f"{one.mean - other.mean:+.{digits}f}"
    if one.standard_error is None or other.standard_error is None:
        return text
    return f"{text} ± {math.hypot(one.standard_error, other.standard_error):.{digits}f}"


if __name__ == "__main__":
    here = Path(__file__).parent.parent / "recipes"
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else here / "multi30k_en_de" / "converged"
    to = Path(sys.argv[2]) if len(sys.argv) > 2 else here / "figures" / "multi30k_converged.png"
    found = rows(folder)
    figure_of(found).savefig(to, dpi=200, facecolor="white")
    print(table_of(found))
    print(to, file=sys.stderr)
