"""What a topology update costs, beside the training steps between two updates.

A 6+6-layer Marian of width 512 takes a few steps and updates its links after every other one, so
that steps and updates take turns on a noisy machine; medians are shown.

    python scripts/bench_update.py [--methods set,rigl,chts] [--tokens 1024] [--ffn 1024]
"""

from __future__ import annotations

import argparse
import statistics
import time

import torch
from bench_step import SENTENCE, VOCABULARY, make
from rich.console import Console
from rich.table import Table

import hf_chts
from hf_chts.training.loss import LabelSmoothedLoss

METHODS = "set,rigl,mest,cht,chts,chtss"


def seconds(method: str, ffn: int, tokens: int, turns: int) -> tuple[float, float]:
    """Median seconds of a step without an update, and of what an update adds to a step."""
    model, _ = make(ffn, None)
    config = hf_chts.SparsityConfig(method=method, update_interval=2, stop_fraction=1.0)
    hf_chts.sparsify(model, config)
    optimizer = torch.optim.AdamW(model.parameters(), 1e-4)
    topology = hf_chts.Topology(model, optimizer, total_steps=1000 * turns)
    times: tuple[list[float], list[float]] = ([], [])
    for step in range(1, 2 * turns + 3):
        source, target = torch.randint(3, VOCABULARY, (2, tokens // SENTENCE, SENTENCE))
        start = time.perf_counter()
        topology.before_backward(step)
        logits = model(input_ids=source, decoder_input_ids=target).logits
        LabelSmoothedLoss(0.1)({"logits": logits}, target).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        topology.after_step(step)
        optimizer.zero_grad()
        if step > 2:
            times[step % 2 == 0].append(time.perf_counter() - start)
    plain, with_update = map(statistics.median, times)
    return plain, with_update - plain


def main() -> None:
    """Measure and show."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--methods", default=METHODS)
    parser.add_argument("--ffn", type=int, default=1024)
    parser.add_argument("--tokens", type=int, default=1024)
    parser.add_argument("--turns", type=int, default=5)
    args = parser.parse_args()
    interval = hf_chts.SparsityConfig().update_interval
    table = Table("method", "step s", "update s", f"share at an interval of {interval}")
    for method in args.methods.split(","):
        step, update = seconds(method, args.ffn, args.tokens, args.turns)
        share = update / (interval * step + update)
        table.add_row(method, f"{step:.3f}", f"{update:.3f}", f"{share:.2%}")
    console = Console()
    threads = torch.get_num_threads()
    console.print(f"Marian 6+6, d 512, ffn {args.ffn}, {args.tokens} tokens, {threads} threads")
    console.print(table)


if __name__ == "__main__":
    main()
