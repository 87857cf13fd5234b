"""How long a whole training takes beside that of the dense model, method by method.

A method that starts denser gains less on the way. Steps are timed at a few densities, all sides in
one process and in turn, as in ``bench_step.py``; a method's training is then added up over its
schedule of density, linearly between the densities timed. Topology updates are left out
(``bench_update.py``).

    python scripts/bench_training.py [--methods chts,granet,chtss,gmp] [--sparsity 0.9]
        [--ffn 1024] [--tokens 1024] [--precision fp32] [--turns 5]
"""

from __future__ import annotations

import argparse
import itertools
import statistics
from collections.abc import Sequence

import torch
from bench_step import VOCABULARY, make, step
from rich.console import Console
from rich.table import Table

import hf_chts
from hf_chts.engine.budget import last_update, link_counts
from hf_chts.methods import resolve

STEPS = 1000  # of the training whose densities are looked at


def densities(method: str, sparsity: float) -> list[float]:
    """The density at every step of a training."""
    config = hf_chts.SparsityConfig(method=method, sparsity=sparsity, update_interval=1)
    config, end = resolve(config), last_update(config, STEPS) or 1
    shapes = {"layer": (1024, 1024)}
    counts = [link_counts(shapes, config, min(step / end, 1.0)) for step in range(STEPS)]
    return [count["layer"] / 1024**2 for count in counts]


def between(x: float, points: Sequence[tuple[float, float]]) -> float:
    """The value at ``x``, linear between ``points``, which are sorted and enclose it."""
    for (a, low), (b, high) in itertools.pairwise(points):
        if x <= b:
            return low + (high - low) * (max(x, a) - a) / (b - a)
    return points[-1][1]


def timed(args: argparse.Namespace, grid: Sequence[float]) -> list[tuple[float, ...]]:
    """Seconds of a step, turn by turn: dense, dense in ``faster_step``, and at each density."""
    dense = make(args.ffn, None)
    sides = [(dense, False), (dense, True)]
    sides += [(make(args.ffn, 1 - density), True) for density in grid]
    rounds = [
        tuple(step(*model, args.tokens, faster, args.precision) for model, faster in sides)
        for _ in range(args.turns + 2)
    ]
    return rounds[2:]


def median_share(times: Sequence[float], whole: Sequence[float]) -> float:
    """The median of the ratios of single turns."""
    return statistics.median(t / w for t, w in zip(times, whole, strict=True))


def main() -> None:
    """Measure and show."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--methods", default="chts,granet,chtss,gmp")
    parser.add_argument("--sparsity", type=float, default=0.9)
    parser.add_argument("--ffn", type=int, default=1024)
    parser.add_argument("--tokens", type=int, default=1024)
    parser.add_argument("--precision", choices=["fp32", "bf16"], default="fp32")
    parser.add_argument("--turns", type=int, default=5)
    args = parser.parse_args()
    schedules = {name: densities(name, args.sparsity) for name in args.methods.split(",")}
    low, high = min(map(min, schedules.values())), max(map(max, schedules.values()))
    grid = sorted({low, high, *(d for d in (0.2, 0.35, 0.5, 0.75) if low < d < high)})
    turns = timed(args, grid)
    print(f"Marian 6+6, d 512, ffn {args.ffn}, vocabulary {VOCABULARY:,}, {args.precision}")
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads\n")
    table = Table("method", "mean density", "time, dense = 1", "dense in faster_step = 1")
    for name, passed in schedules.items():
        means = [
            statistics.fmean(between(d, list(zip(grid, turn[2:], strict=True))) for d in passed)
            for turn in turns
        ]
        shares = [median_share(means, [turn[side] for turn in turns]) for side in (0, 1)]
        table.add_row(name, f"{statistics.fmean(passed):.3f}", *(f"{s:.2f}" for s in shares))
    for index, density in enumerate(grid, start=2):
        times = [turn[index] for turn in turns]
        shares = [median_share(times, [turn[side] for turn in turns]) for side in (0, 1)]
        table.add_row("a step", f"{density:.3f}", *(f"{s:.2f}" for s in shares))
    Console(width=max(90, Console().width)).print(table)


if __name__ == "__main__":
    main()
