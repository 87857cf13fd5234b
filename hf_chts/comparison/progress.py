"""What a comparison shows while it runs: bars on a terminal, else a line for every event."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping, Sequence
from types import TracebackType

import rich.progress
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TaskID, TextColumn, TimeElapsedColumn

from hf_chts.comparison.folder import ComparisonFolder
from hf_chts.comparison.grid import Cell
from hf_chts.translation.recipe import Recipe

_VALIDATION = re.compile(r"^step +(\d+) of +\d+: validation loss (\S+)", re.MULTILINE)
"""What a run prints at every validation."""


class Progress:
    """Shows runs as they start, go on and end, and how many are done.

    Args:
        folder: The comparison.
        recipes: The recipe of every run that was asked for.
        console: Where to; bars are drawn on terminals only.
    """

    def __init__(
        self, folder: ComparisonFolder, recipes: Mapping[Cell, Recipe], console: Console
    ) -> None:
        self.folder, self.recipes, self.console = folder, recipes, console
        self._bars = rich.progress.Progress(
            TextColumn("{task.description}", markup=False),
            *(BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()),
            TextColumn("{task.fields[figures]}", markup=False),
            console=console,
            disable=not console.is_terminal,
        )
        self._tasks: dict[Cell, TaskID] = {}
        self._since: dict[Cell, float] = {}
        self._all = self._bars.add_task("runs", total=len(recipes), figures="")

    def __enter__(self) -> Progress:
        self._bars.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._bars.stop()

    @property
    def n_done(self) -> int:
        """Runs that have their scores."""
        return self._count("done")

    @property
    def n_failed(self) -> int:
        """Runs that ended early."""
        return self._count("failed")

    def started(self, cell: Cell, step: int) -> None:
        """A run started, or went on from a step."""
        self._since[cell] = time.monotonic()
        total = self.recipes[cell].training.max_steps
        self._tasks[cell] = self._bars.add_task(cell.name, total=total, completed=step, figures="")
        self._say(cell, f"goes on from step {step}" if step else "started")

    def show(self, running: Sequence[Cell]) -> None:
        """Move the bars to the last validation of each run."""
        self._bars.update(self._all, completed=self.n_done)
        for cell in running if self.console.is_terminal else ():
            log = self.folder.log(cell).read_text(encoding="utf-8", errors="replace")
            if found := _VALIDATION.findall(log):
                step, loss = found[-1]
                figures = f"validation loss {loss}"
                self._bars.update(self._tasks[cell], completed=int(step), figures=figures)

    def done(self, cell: Cell) -> None:
        """A run has its scores."""
        bleu = self.folder.bleu(cell)
        scores = ", ".join(f"{value:.2f} on {name}" for name, value in bleu.items())
        self._end(cell, f"BLEU {scores}")

    def failed(self, cell: Cell, outcome: str, error: str, step: int) -> None:
        """A run ended early, and will not be tried again."""
        path, record = self.folder.run(cell).path, self.folder.failure(cell)
        goes_on = f"{record} to have it go on from step {step}, or " if step else ""
        self._end(cell, f"{outcome}: {error} (delete {goes_on}{path} to have it tried again)")

    def stopped(self, cell: Cell, step: int, error: str = "") -> None:
        """A run was ended, and can go on."""
        kept = f"goes on from step {step}" if step else "before its first checkpoint"
        self._end(cell, f"stopped, {kept}" + (f": {error}" if error else ""))

    def _end(self, cell: Cell, what: str) -> None:
        self._bars.remove_task(self._tasks.pop(cell))
        minutes = (time.monotonic() - self._since.pop(cell)) / 60
        self._say(cell, f"{what}; {minutes:.1f} min; {self.n_done} of {len(self.recipes)} done")

    def _say(self, cell: Cell, what: str) -> None:
        self.console.print(f"{cell.name}: {what}", soft_wrap=True)

    def _count(self, state: str) -> int:
        return sum(self.folder.state(cell) == state for cell in self.recipes)
