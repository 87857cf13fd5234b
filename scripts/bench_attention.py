"""Time of attention that trains on a CPU: float32, bfloat16, and bfloat16 by ``faster_attention``.

The three take turns in one process; medians, forward and backward pass apart.

    python scripts/bench_attention.py [--turns 9]
"""

from __future__ import annotations

import argparse
import contextlib
import statistics
import time
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from torch.nn import functional

from hf_chts.layers.attention import faster_attention

SHAPES = [(32, 8, 32, 64), (64, 4, 16, 32), (8, 8, 128, 64)]  # sentences, heads, tokens, width
WAYS = {
    "float32": (torch.float32, contextlib.nullcontext),
    "bfloat16": (torch.bfloat16, contextlib.nullcontext),
    "bfloat16, faster": (torch.bfloat16, faster_attention),
}


def seconds(shape: tuple[int, ...], dtype: torch.dtype, context: Any) -> tuple[float, float]:
    """Of one forward and one backward pass."""
    inputs = [torch.randn(shape).to(dtype).requires_grad_() for _ in range(3)]
    with context():
        start = time.perf_counter()
        y = functional.scaled_dot_product_attention(*inputs)
        between = time.perf_counter()
        y.backward(torch.ones_like(y))
    return between - start, time.perf_counter() - between


def main() -> None:
    """Measure and show."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--turns", type=int, default=9)
    turns = parser.parse_args().turns
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads")
    print("shape: sentences x heads x tokens x width of a head\n")
    table = Table("shape", "way", "forward ms", "backward ms")
    for shape in SHAPES:
        rounds = [[seconds(shape, *way) for way in WAYS.values()] for _ in range(turns + 2)][2:]
        for way, times in zip(WAYS, zip(*rounds, strict=True), strict=True):
            forward, backward = (1e3 * statistics.median(x) for x in zip(*times, strict=True))
            table.add_row(" x ".join(map(str, shape)), way, f"{forward:.2f}", f"{backward:.2f}")
    Console().print(table)


if __name__ == "__main__":
    main()
