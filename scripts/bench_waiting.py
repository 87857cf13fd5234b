"""How much threads that wait for each other slow training down, alone and beside other work.

Threads of GNU OpenMP wait in a loop before they sleep. On cores that have other work, too, a thread
in the loop keeps from its core the very thread that it waits for. ``GOMP_SPINCOUNT`` bounds the
loop; ``import hf_chts`` sets it. It is read once, so a fresh process trains a sparse Marian for
some seconds under each setting, in turn; shown are medians of its steps, and of these over turns.

    python scripts/bench_waiting.py [--width 192] [--layers 3] [--ffn 512] [--tokens 1536]
        [--busy 0 1] [--seconds 6] [--turns 3]
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import time
from contextlib import ExitStack

from rich.console import Console
from rich.table import Table

SETTINGS = {
    "as torch has it": {},
    "as hf_chts sets it": {},
    "OMP_WAIT_POLICY=PASSIVE": {"OMP_WAIT_POLICY": "PASSIVE"},
    "OMP_NUM_THREADS=1": {"OMP_NUM_THREADS": "1"},
}


def seconds_a_step(name: str, args: argparse.Namespace) -> float:
    """The median step of a fresh process."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("OMP_", "GOMP_"))}
    environment |= SETTINGS[name]
    first = "torch" if name == "as torch has it" else "hf_chts"  # who loads OpenMP
    shape = (args.width, args.layers, args.ffn, args.tokens, args.seconds)
    program = f"import {first}, bench_waiting; bench_waiting.child{shape}"
    done = subprocess.run(
        [sys.executable, "-c", program],
        env=environment, cwd=os.path.dirname(__file__), capture_output=True, text=True, check=True,
    )  # fmt: skip
    return float(done.stdout)


def child(width: int, layers: int, ffn: int, tokens: int, seconds: float) -> None:
    """Train for so many seconds, three steps at least; print the median."""
    from bench_step import make, step

    model, optimizer = make(ffn, 0.9, width, layers)
    step(model, optimizer, tokens, True, "fp32")
    times: list[float] = []
    while sum(times) < seconds or len(times) < 3:
        times.append(step(model, optimizer, tokens, True, "fp32"))
    print(statistics.median(times))


def measure(busy: int, args: argparse.Namespace) -> dict[str, float]:
    """Seconds of a step under each setting, beside so many busy processes."""
    with ExitStack() as stack:
        for _ in range(busy):
            program = [sys.executable, "-c", "while True: pass"]
            other = subprocess.Popen(program, start_new_session=True)  # as from another terminal
            stack.callback(other.kill)
        turns = [{name: seconds_a_step(name, args) for name in SETTINGS} for _ in range(args.turns)]
    return {name: statistics.median(turn[name] for turn in turns) for name in SETTINGS}


def main() -> None:
    """Measure and show."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--width", type=int, default=192)
    parser.add_argument("--layers", type=int, default=3)
    parser.add_argument("--ffn", type=int, default=512)
    parser.add_argument("--tokens", type=int, default=1536)
    parser.add_argument("--busy", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--seconds", type=float, default=6)
    parser.add_argument("--turns", type=int, default=3)
    args = parser.parse_args()
    start = time.time()
    columns = [measure(busy, args) for busy in args.busy]
    table = Table("seconds a step", *(f"beside {busy} busy" for busy in args.busy))
    for name in SETTINGS:
        table.add_row(name, *(f"{column[name]:.3f}" for column in columns))
    Console(width=max(90, Console().width)).print(table)
    print(f"{os.cpu_count()} cores, {args.turns} turns, {time.time() - start:.0f} s")


if __name__ == "__main__":
    main()
