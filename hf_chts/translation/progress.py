"""Training progress for people: a bar on a terminal, a line at each validation elsewhere."""

from __future__ import annotations

import math
import sys
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from transformers import TrainerCallback


class ShowProgress(TrainerCallback):
    """Shows steps, losses and the topology's state on standard error."""

    def __init__(self) -> None:
        self.console = Console(stderr=True)
        self.bar: Progress | None = None
        self.task = TaskID(0)
        self.shown: dict[str, str] = {}

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Open the bar."""
        if not state.is_world_process_zero:
            return
        columns = (BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn())
        self.bar = Progress(
            TextColumn("training"),
            *columns,
            TextColumn("{task.fields[figures]}"),
            console=self.console,
            disable=not sys.stderr.isatty(),
        )
        self.bar.start()
        self.task = self.bar.add_task(
            "training", total=state.max_steps, completed=state.global_step, figures=""
        )

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Move the bar."""
        if self.bar is not None:
            self.bar.update(self.task, completed=state.global_step)

    def on_log(
        self, args: Any, state: Any, control: Any, logs: dict[str, float] | None = None, **kw: Any
    ) -> None:
        """Show new figures; print a line where a validation was made."""
        if self.bar is None or not logs:
            return
        names = {"loss": "loss", "topology_density": "density", "topology_itop": "ITOP"}
        self.shown |= {names[key]: f"{logs[key]:.3f}" for key in names if key in logs}
        self.bar.update(
            self.task, figures="  ".join(f"{name} {value}" for name, value in self.shown.items())
        )
        if "eval_loss" in logs:
            loss = logs["eval_loss"]
            bleu = f", BLEU {logs['eval_bleu']:.2f}" if "eval_bleu" in logs else ""
            figures = "".join(f", {name} {value}" for name, value in self.shown.items())
            self.console.print(
                f"step {state.global_step:>6} of {state.max_steps}: validation loss {loss:.4f} "
                f"(perplexity {math.exp(min(loss, 99)):.2f}){bleu}{figures}",
                highlight=False,
                soft_wrap=True,
            )

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Close the bar."""
        if self.bar is not None:
            self.bar.stop()
            self.bar = None
