"""Runs in processes of their own, several at once."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType
from typing import Any

import torch

from hf_chts.comparison.folder import ComparisonFolder
from hf_chts.comparison.grid import Cell
from hf_chts.comparison.progress import Progress
from hf_chts.safe_saving import checkpoints, discard, write_text
from hf_chts.translation.recipe import Recipe

_LOOK_EVERY_SECONDS = 0.2

_OF_DISK = 4
"""Exit status of ``hf-chts train`` where the disk was full, or failed."""


@dataclass(frozen=True)
class Job:
    """A run at work.

    Attributes:
        cell: Which one.
        process: The process that trains it.
        gpu: The GPU it has, as ``CUDA_VISIBLE_DEVICES`` names it; None without GPUs.
    """

    cell: Cell
    process: subprocess.Popen[bytes]
    gpu: str | None


def run_all(
    folder: ComparisonFolder,
    recipes: Mapping[Cell, Recipe],
    progress: Progress,
    *,
    jobs: int,
    deadline: float | None = None,
) -> int:
    """Bring runs to their end, in order; those that are done or have failed are left alone.

    A run that was interrupted goes on from its last checkpoint. One that fails is recorded, and
    the others go on; one that is killed, or meets a full disk, is left for the next call to go on
    with. When time is up, or at SIGINT and SIGTERM, processes are ended; what they did
    since their last checkpoint is lost.

    Args:
        folder: The comparison.
        recipes: The recipe of every run.
        progress: What is shown meanwhile.
        jobs: How many run at once, at least 1.
        deadline: When to stop, on the clock of :func:`time.monotonic`; None: when all is done.

    Returns:
        The signal that ended it; 0 if there was none.
    """
    gpus = visible_gpus()
    states = {cell: folder.state(cell) for cell in recipes}
    waiting = [cell for cell, state in states.items() if state in ("new", "begun")]
    for cell in (cell for cell, state in states.items() if state == "done"):
        _forget_checkpoints(folder, cell)  # a command that was killed may have left them
    running: list[Job] = []
    with _signals() as received:
        try:
            while waiting or running:
                if received or (deadline is not None and time.monotonic() >= deadline):
                    break
                while waiting and len(running) < jobs:
                    cell = waiting.pop(0)
                    gpu = least_used(gpus, [job.gpu for job in running])
                    running.append(_start(folder, cell, recipes[cell], jobs, gpu, progress))
                time.sleep(_LOOK_EVERY_SECONDS)
                ended = [job for job in running if job.process.poll() is not None]
                if received:
                    break  # who sent the signal may have sent it to the runs, too
                for job in ended:
                    running.remove(job)
                    _settle(folder, job, progress)
                progress.show([job.cell for job in running])
        finally:
            _stop(folder, running, progress)
    return received[0] if received else 0


def visible_gpus() -> list[str]:
    """The GPUs that runs are shared out over, as ``CUDA_VISIBLE_DEVICES`` names them."""
    n = torch.cuda.device_count()
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    return named.split(",")[:n] if named else [str(index) for index in range(n)]


def least_used(gpus: Sequence[str], busy: Sequence[str | None]) -> str | None:
    """The GPU with the fewest runs; None without GPUs."""
    return min(gpus, key=busy.count, default=None)


def environment(gpu: str | None, threads: int) -> dict[str, str]:
    """What a run's process finds in its environment: one GPU at most, and its share of threads."""
    own = {} if gpu is None else {"CUDA_VISIBLE_DEVICES": gpu}
    return {"OMP_NUM_THREADS": str(threads), **os.environ, "PYTHONUNBUFFERED": "1", **own}


def _start(
    folder: ComparisonFolder,
    cell: Cell,
    recipe: Recipe,
    jobs: int,
    gpu: str | None,
    progress: Progress,
) -> Job:
    """Start a run, or go on with it."""
    goes_on = folder.state(cell) == "begun"
    for path in (folder.recipe(cell), folder.log(cell)):
        path.parent.mkdir(exist_ok=True)
    write_text(folder.recipe(cell), recipe.to_yaml())
    command = [sys.executable, "-m", "hf_chts.comparison.one_run", "train"]
    command += [str(folder.recipe(cell)), "--output", str(folder.run(cell).path)]
    command += ["--resume"] * goes_on
    with open(folder.log(cell), "ab" if goes_on else "wb") as log:
        process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=subprocess.STDOUT,
            env=environment(gpu, max(1, torch.get_num_threads() // jobs)),
            start_new_session=True,  # Ctrl-C reaches this process alone, which ends the others
        )
    progress.started(cell, last_checkpoint(folder, cell) if goes_on else 0)
    return Job(cell, process, gpu)


def _settle(folder: ComparisonFolder, job: Job, progress: Progress) -> None:
    """Record how a run ended."""
    job.process.communicate()  # closes the pipe
    cell, status = job.cell, job.process.returncode
    if folder.state(cell) == "done":
        _forget_checkpoints(folder, cell)
        progress.done(cell)
        return
    error, step = _last_line(folder, cell).removeprefix("hf-chts: "), last_checkpoint(folder, cell)
    if status < 0:
        error = f"killed by signal {-status} ({signal.Signals(-status).name}); last said: {error}"
    if status < 0 or status == _OF_DISK:
        progress.stopped(cell, step, error)
    else:
        progress.failed(cell, folder.fail(cell, error, status), error, step)


def _forget_checkpoints(folder: ComparisonFolder, cell: Cell) -> None:
    """Delete the checkpoints of a run that is done."""
    if folder.run(cell).checkpoints.is_dir():
        discard(folder.run(cell).checkpoints)


def _stop(folder: ComparisonFolder, running: list[Job], progress: Progress) -> None:
    """End processes, whose checkpoints stay whole; one that came to its end just now counts."""
    for job in running:
        job.process.kill()
    for job in running:
        job.process.communicate()
        if folder.state(job.cell) == "done":
            _settle(folder, job, progress)
        else:
            progress.stopped(job.cell, last_checkpoint(folder, job.cell))


def last_checkpoint(folder: ComparisonFolder, cell: Cell) -> int:
    """The step that a run goes on from; 0 if from its start."""
    return max(checkpoints(folder.run(cell).checkpoints), default=0)


def _last_line(folder: ComparisonFolder, cell: Cell) -> str:
    lines = folder.log(cell).read_text(encoding="utf-8", errors="replace").split("\n")
    return next((line.strip() for line in reversed(lines) if line.strip()), "nothing was said")


@contextmanager
def _signals() -> Iterator[list[int]]:
    """SIGINT and SIGTERM are noted in a list instead of ending this process."""
    received: list[int] = []

    def note(number: int, frame: FrameType | None) -> None:
        received.append(number)

    before: dict[int, Any] = {n: signal.signal(n, note) for n in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
