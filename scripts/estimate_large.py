"""What 7 billion weights would take on 64 GPUs, worked out from unit costs measured here.

An estimate on paper: bytes a link are counted on a layer of the kind that GPUs use, and the seconds
of an update are measured at 1024 x 1024 and 2048 x 2048 on one CPU thread and carried on to the
model's layers by the power of the width between the two. Nothing of the size is run. The model: 32
blocks of width 4,096 (four attention layers of 4,096 x 4,096 and three feed-forward layers of 4,096
x 11,008 each), 32,000 subwords in and out, Adam in float32.

    python scripts/estimate_large.py [--density 0.1] [--ranks 64] [--methods set,rigl,chts]
"""

from __future__ import annotations

import argparse
import math
import time

import torch
from rich.console import Console
from rich.table import Table
from torch import nn

import hf_chts

BLOCKS, WIDTH, INNER, SUBWORDS = 32, 4096, 11008, 32_000
LAYERS = BLOCKS * ([(WIDTH, WIDTH)] * 4 + [(INNER, WIDTH)] * 3)
POSSIBLE = sum(out * inp for out, inp in LAYERS)
REST = 2 * SUBWORDS * WIDTH
"""Weights of the embeddings and the output head, which stay dense."""

ADAM = 16
"""Bytes a dense weight: itself, its gradient and two moments."""

GIGA = 1e9


def trained(width: int, method: str, density: float) -> tuple[hf_chts.Topology, torch.optim.Adam]:
    """One square layer after a step with an update, and its optimizer."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(width, width, bias=False))
    config = hf_chts.SparsityConfig(
        method=method, sparsity=1 - density, update_interval=1, kernel="dense"
    )
    hf_chts.sparsify(model, config)
    optimizer = torch.optim.Adam(model.parameters())
    topology = hf_chts.Topology(model, optimizer, total_steps=1000)
    for step in (1, 2):
        topology.before_backward(step)
        model(torch.randn(8, width)).square().mean().backward()
        optimizer.step()
        start = time.perf_counter()
        topology.after_step(step)
    topology.seconds = time.perf_counter() - start  # type: ignore[attr-defined]
    return topology, optimizer


def bytes_a_link(density: float) -> float:
    """Bytes of everything that is kept for a link: weight, gradient, moments, indices, explored."""
    topology, optimizer = trained(1024, "chts", density)
    (layer,) = topology.layers.values()
    kept = [layer.values, layer.values, layer.crow_indices, layer.col_indices, layer.explored]
    kept += [*layer._index, *optimizer.state[layer.values].values()]
    return sum(x.numel() * x.element_size() for x in kept) / layer.nnz


def update_seconds(method: str, density: float) -> tuple[float, float]:
    """Seconds of one update of all layers on one thread, and the power of the width it follows."""
    small, large = (
        min(trained(width, method, density)[0].seconds for _ in range(3))  # type: ignore[attr-defined]
        for width in (1024, 2048)
    )
    power = max(2.0, math.log2(large / small))
    return sum(large * (math.sqrt(out * inp) / 2048) ** power for out, inp in LAYERS), power


def main() -> None:
    """Measure, work out and show."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--density", type=float, default=0.1)
    parser.add_argument("--ranks", type=int, default=64)
    parser.add_argument("--methods", default="set,rigl,chts")
    args = parser.parse_args()
    torch.set_num_threads(1)
    links, a_link = args.density * POSSIBLE, bytes_a_link(args.density)
    weights = POSSIBLE + REST
    table = Table("on each rank", "dense", f"{args.density:.0%} of the links", "ratio")
    rows = [
        ("weights (billions)", weights / GIGA, (links + REST) / GIGA),
        ("training state (GB)", ADAM * weights / GIGA, (a_link * links + ADAM * REST) / GIGA),
        ("gradients to all-reduce a step (GB)", 4 * weights / GIGA, 4 * (links + REST) / GIGA),
    ]
    for name, dense, sparse in rows:
        table.add_row(name, f"{dense:.2f}", f"{sparse:.2f}", f"{sparse / dense:.3f}")
    updates = Table("update", "bits to all-reduce (GB)", "dense gradients (GB)", "seconds a rank",
                    "grows as width to the")  # fmt: skip
    for method in args.methods.split(","):
        seconds, power = update_seconds(method, args.density)
        reads = 4 * POSSIBLE / GIGA if method in ("rigl", "granet") else 0.0
        shown = (2 * POSSIBLE / 8 / GIGA, reads, seconds / args.ranks)
        updates.add_row(method, *(f"{number:.2f}" for number in shown), f"{power:.2f}")
    console = Console()
    console.print(f"{a_link:.1f} bytes a link; {args.ranks} ranks, one CPU thread each for updates")
    console.print(table)
    console.print(updates)


if __name__ == "__main__":
    main()
