"""Runs of a recipe that are killed at random moments, and gone on with until they end.

As a program, ``python killed_runs.py RECIPE FOLDER RANKS KILLS SEED``: it imports the package
once, forks a process for each rank of each attempt, and leaves in ``FOLDER`` an undisturbed run,
``whole``, and as many killed ones, ``killed-0`` and so on, as it takes to reach ``KILLS`` kills.
Every other kill comes right before a change of a file, the rest at any time.
"""

from __future__ import annotations

import os
import random
import signal
import socket
import sys
import time
import traceback
from pathlib import Path
from typing import NamedTuple

import torch

from hf_chts.engine.ranks import leave_group
from hf_chts.translation import run
from hf_chts.translation.recipe import load_recipe

WRITES = {"open", "os.rename", "os.mkdir", "os.remove", "os.rmdir", "shutil.rmtree"}


class Kill(NamedTuple):
    """When to kill: right before a change of a file, counted from 1, or after seconds."""

    write: int | None = None
    seconds: float | None = None


def count_writes(output: Path, fatal: int | None) -> list[int]:
    """Count changes of a run's files in this process, and die right before the given one."""
    counted = [0]

    def listen(event, args):
        if event not in WRITES or not str(args[0]).startswith(f"{output}{os.sep}"):
            return
        if event == "open" and not set(str(args[1])) & set("wax+"):
            return
        counted[0] += 1
        if counted[0] == fatal:
            os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(listen)
    return counted


def rank_of_a_run(recipe, output: Path, rank: int, ranks: int, port: int, kill: Kill) -> None:
    """The life of one process; it never returns."""
    status = 1
    try:
        log = open(output.with_suffix(f".{rank}.log"), "a")  # noqa: SIM115
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
        if ranks > 1:
            os.environ.update(
                RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE=str(ranks),
                LOCAL_WORLD_SIZE=str(ranks), MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port),
            )  # fmt: skip
        counted = count_writes(output, kill.write if rank == 0 else None)
        run.train(recipe, output, resume=(output / "recipe.yaml").is_file())
        if rank == 0:
            output.with_suffix(".writes").write_text(str(counted[0]))
        leave_group()
        status = 0
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(status)


def attempt(recipe, output: Path, ranks: int, kill: Kill) -> bool:
    """Start a run or go on with it; whether it came to its end."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    started, running = time.monotonic(), set()
    for rank in range(ranks):
        pid = os.fork()
        if pid == 0:
            rank_of_a_run(recipe, output, rank, ranks, port, kill)
        running.add(pid)
    ended = []
    while running:
        late = kill.seconds is not None and time.monotonic() - started > kill.seconds
        died = any(os.WIFSIGNALED(status) for status in ended)
        for pid in sorted(running):
            if late or died:
                os.kill(pid, signal.SIGKILL)
            found, status = os.waitpid(pid, os.WNOHANG)
            if found:
                running.remove(pid)
                ended.append(status)
        time.sleep(0.005)
    if any(os.WIFEXITED(status) and os.WEXITSTATUS(status) for status in ended) and not any(
        map(os.WIFSIGNALED, ended)
    ):
        raise SystemExit(f"{output} failed: {output.with_suffix('.0.log').read_text()[-3000:]}")
    return not any(ended)


def main(recipe_file: str, folder: str, ranks: str, kills: str, seed: str) -> None:
    """Make the runs."""
    torch.set_num_threads(1)
    recipe, where, draw = load_recipe(recipe_file), Path(folder), random.Random(int(seed))
    started = time.monotonic()
    attempt(recipe, where / "whole", int(ranks), Kill())
    seconds = time.monotonic() - started
    writes = int((where / "whole.writes").read_text())
    print(f"undisturbed: {writes} changes of files, {seconds:.1f} s", flush=True)
    n_kills, n_runs = 0, 0
    while n_kills < int(kills):
        output, ended = where / f"killed-{n_runs}", False
        while not ended:
            kill = Kill()
            if n_kills < int(kills):
                at_write = Kill(write=draw.randint(1, writes))
                kill = at_write if n_kills % 2 == 0 else Kill(seconds=draw.uniform(0, seconds))
            ended = attempt(recipe, output, int(ranks), kill)
            n_kills += not ended
            print(f"{output.name}: {kill} {'ended' if ended else 'killed'}", flush=True)
        n_runs += 1


if __name__ == "__main__":
    main(*sys.argv[1:])
