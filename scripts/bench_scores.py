"""Time the Cannistraci-Hebb scores, beside a plain enumeration of paths at a small size.

Usage: python scripts/bench_scores.py [--threads 2] [--runs 5] [--large]
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from math import sqrt

import torch

from hf_chts.rules.scores import initial_mask, link_scores

RULES = ("ch2_l3n", "ch3_l3n", "ch3_1_l3n", "ch2_l3p", "ch3_l3p")
DENSITY = 0.1


def ch3_l3p_by_enumeration(mask: torch.Tensor) -> torch.Tensor:
    """CH3-L3p by listing every path: the yardstick."""
    of_u = [set(row.nonzero().flatten().tolist()) for row in mask]
    of_v = [set(column.nonzero().flatten().tolist()) for column in mask.T]
    scores = torch.full(mask.shape, torch.nan)
    for u, v in (~mask).nonzero().tolist():
        total = 0.0
        for z2 in of_v[v]:
            external_z2 = len(of_u[z2]) - 1 - len(of_u[z2] & of_u[u])
            for z1 in of_u[u] & of_u[z2]:
                external_z1 = len(of_v[z1]) - 1 - len(of_v[z1] & of_v[v])
                total += 1 / sqrt((1 + external_z1) * (1 + external_z2))
        scores[u, v] = total
    return scores


def median_seconds(function: Callable[[], object], runs: int) -> float:
    """Median time of ``runs`` calls after one to warm up."""
    function()
    times = []
    for _ in range(runs):
        start = time.perf_counter()
        function()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def main() -> None:
    """Print one line per rule and size."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--runs", type=int, default=5, help="timed calls per line; 1 if --large")
    parser.add_argument("--large", action="store_true", help="4096 x 4096 too: minutes")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    print(f"torch {torch.__version__}, {options.threads} threads, density {DENSITY:.0%}, float32")

    small = initial_mask("er", 64, 64, DENSITY)
    want, got = ch3_l3p_by_enumeration(small), link_scores(small, "ch3_l3p")
    torch.testing.assert_close(got, want, rtol=1e-5, atol=1e-5, equal_nan=True)
    seconds = median_seconds(lambda: ch3_l3p_by_enumeration(small), 1)
    print(f"{'ch3_l3p, enumerated':<20} {'64 x 64':>12} {seconds * 1e3:>12.1f} ms")
    for out, inp in [(64, 64), (512, 512), (2048, 512)] + [(4096, 4096)] * options.large:
        mask = initial_mask("er", out, inp, DENSITY)
        runs = options.runs if out < 4096 else 1
        for rule in RULES:
            seconds = median_seconds(lambda rule=rule, mask=mask: link_scores(mask, rule), runs)
            print(f"{rule:<20} {f'{out} x {inp}':>12} {seconds * 1e3:>12.1f} ms")


if __name__ == "__main__":
    main()
