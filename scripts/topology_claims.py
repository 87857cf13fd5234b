"""Measure trained topologies beside random ones: modular, hyperbolic, power-law, meta-deep?

    python scripts/topology_claims.py OUTPUT NAME=MASKS [NAME=MASKS ...] [--draws 5] [--layers X]

MASKS is an .npz file of masks with their rows packed to bits (scripts/train_mlp.py writes them), or
the folder of a run and a step, such as runs/chts@start, runs/chts@end or runs/chts@700. One name
may come several times (seeds). OUTPUT/claims.jsonl gets every number, OUTPUT/claims.png a figure,
and OUTPUT/claims.md the means over layers and seeds, with the z-score against random layers of the
same degrees ("rewired") and of the same number of links ("er").
"""

from __future__ import annotations

import argparse
import itertools
import json
import re
import statistics
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from rich.console import Console
from rich.progress import Progress

from hf_chts.analysis.measures import MEASURES as KNOWN
from hf_chts.analysis.measures import table
from hf_chts.analysis.meta_depth import hub_paths
from hf_chts.analysis.network import Undefined
from hf_chts.analysis.plot_style import SERIES
from hf_chts.analysis.snapshots import load_snapshots

MEASURES = (
    *("input_heterogeneity", "output_heterogeneity", "power_law_exponent", "power_law_p_value"),
    *("meta_depth", "clustering", "path_length", "modularity", "lcp_correlation"),
    *("routing_score", "distance_auc", "angular_separation"),
)
NULLS = ("rewired", "er")
Masks = dict[str, np.ndarray]


def load(where: str) -> Masks:
    """Masks of a file, or of a run at a step."""
    folder, _, step = where.partition("@")
    if not step:
        with np.load(folder, allow_pickle=False) as packed:
            return {name: np.unpackbits(packed[name], axis=1).astype(bool) for name in packed}
    snapshots = load_snapshots(folder)
    steps = {"start": snapshots.steps[0], "end": snapshots.steps[-1]}
    return snapshots.masks(steps[step] if step in steps else int(step))


def measure(name: str, where: str, layers: str, draws: int, console: Console) -> list[dict]:
    """Every measure of every layer, as plain rows."""
    masks = {key: mask for key, mask in load(where).items() if re.search(layers, key)}
    if not masks:
        raise SystemExit(f"no layer of {where} matches {layers!r}")
    with Progress(console=console) as progress:
        task = progress.add_task(f"{name} ({where})", total=None)
        rows = table(
            masks,
            measures=MEASURES,
            nulls=NULLS,
            n=draws,
            on_progress=lambda done, total, _: progress.update(task, completed=done, total=total),
        )
    found = [
        {
            "network": name,
            "masks": where,
            "layer": row.layer,
            "measure": row.measure,
            "null": row.null,
            **{key: plain(getattr(row.comparison, key)) for key in ("value", "null_mean")},
            "z_score": plain(row.comparison.z_score),
        }
        for row in rows
    ]
    shapes = [mask.shape for mask in masks.values()]
    in_a_row = "@" not in where  # those of a Transformer's run are side by side, too
    if in_a_row and all(a[0] == b[1] for a, b in itertools.pairwise(shapes)):
        paths = hub_paths(list(masks.values()))
        value = None if isinstance(paths, Undefined) else paths.enrichment
        extra = {"null": "", "null_mean": None, "z_score": None}
        found.append(
            {"network": name, "masks": where, "layer": "all", "measure": "hub_path_enrichment"}
            | {"value": value, **extra}
        )
    return found


def plain(number: float | Undefined) -> float | None:
    """A number, or None where there is none."""
    return None if isinstance(number, Undefined) else float(number)


def mean(numbers: Iterable[float | None], digits: str) -> str:
    """Mean of the numbers there are, or a dash."""
    known = [number for number in numbers if number is not None]
    return f"{statistics.mean(known):{digits}}" if known else "-"


def markdown(rows: list[dict]) -> str:
    """A table: measures down, networks across; in brackets z against rewired, then against ER."""
    networks = list(dict.fromkeys(row["network"] for row in rows))
    lines = [
        "| measure | " + " | ".join(networks) + " |",
        "| --- |" + " ---: |" * len(networks),
    ]
    for name in dict.fromkeys(row["measure"] for row in rows):
        cells = []
        for network in networks:
            mine = [row for row in rows if (row["network"], row["measure"]) == (network, name)]
            cell = mean((row["value"] for row in mine), ".3g")
            scores = [
                mean((row["z_score"] for row in mine if row["null"] == null), "+.1f")
                for null in NULLS
            ]
            cells.append(f"{cell} ({', '.join(scores)})" if scores != ["-", "-"] else cell)
        lines.append(f"| {name.replace('_', ' ')} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def figure(rows: list[dict]) -> Figure:
    """A panel a measure: every layer as a dot, the mean of its rewired layers as a grey tick."""
    networks = list(dict.fromkeys(row["network"] for row in rows))
    names = [name for name in MEASURES if any(r["measure"] == name for r in rows)]
    drawing = Figure(figsize=(11, 2.1 * -(-len(names) // 3)), layout="constrained")
    drawing.suptitle("Trained topologies (dots, one a layer) and the same degrees rewired (ticks)")
    panels = drawing.subplots(-(-len(names) // 3), 3, squeeze=False).flatten()
    for panel, name in itertools.zip_longest(panels, names):
        if name is None:
            panel.set_axis_off()
            continue
        for y, network in enumerate(networks):
            mine = [
                (row["value"], row["null_mean"])
                for row in rows
                if (row["network"], row["measure"], row["null"]) == (network, name, "rewired")
            ]
            known = [(value, null) for value, null in mine if None not in (value, null)]
            panel.plot([null for _, null in known], [y] * len(known), "|", color="0.5", ms=12)
            panel.plot(
                [value for value, _ in known],
                [y] * len(known),
                "o",
                ms=4,
                alpha=0.7,
                color=SERIES[y % len(SERIES)],
            )
        panel.set_yticks(range(len(networks)), networks, fontsize=8)
        panel.set_ylim(len(networks) - 0.5, -0.5)
        panel.set_title(name.replace("_", " "), fontsize=9)
        panel.set_xlabel(KNOWN[name].unit, fontsize=7)
        panel.tick_params(axis="x", labelsize=7)
        panel.locator_params(axis="x", nbins=6)
    return drawing


def main() -> None:
    """Measure all networks and write both files."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("output", type=Path)
    parser.add_argument("networks", nargs="+", metavar="NAME=MASKS")
    parser.add_argument("--draws", type=int, default=5, help="random layers of each null model")
    layers = "regular expression that the names of layers have in them"
    parser.add_argument("--layers", default="", help=layers)
    args = parser.parse_args()
    named = [text.partition("=")[::2] for text in args.networks]
    console = Console(stderr=True)
    rows: list[dict] = []
    for name, where in named:
        rows += measure(name, where, args.layers, args.draws, console)
    args.output.mkdir(parents=True, exist_ok=True)
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    (args.output / "claims.jsonl").write_text(lines, encoding="utf-8")
    (args.output / "claims.md").write_text(markdown(rows), encoding="utf-8")
    figure(rows).savefig(args.output / "claims.png", dpi=110)
    print(markdown(rows))


if __name__ == "__main__":
    main()
