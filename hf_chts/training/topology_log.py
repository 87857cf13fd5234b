"""The log of topology updates, one JSON line a layer and update; resumed runs go on with it."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from pathlib import Path

from hf_chts.engine.telemetry import LayerUpdate
from hf_chts.safe_saving import write_text, writing

LOG_FILE = "topology.jsonl"


def append(path: Path, step: int, updates: Iterable[LayerUpdate]) -> None:
    """Add the lines of one update, and bring them to disk: checkpoints count on them."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with writing(path), open(path, "a", encoding="utf-8") as file:
        file.writelines(json.dumps({"step": step, **vars(update)}) + "\n" for update in updates)
        file.flush()
        os.fsync(file.fileno())


def forget_after(path: Path, step: int) -> None:
    """Drop the lines that a resumed run will write again, and a last one that was torn.

    Raises:
        ValueError: If another line is no entry of such a log.
    """
    if not path.exists():
        return
    lines = path.read_text(encoding="utf-8").split("\n")[:-1]
    kept = [line for number, line in enumerate(lines, 1) if _step(path, number, line) <= step]
    write_text(path, "".join(line + "\n" for line in kept))


def _step(path: Path, number: int, line: str) -> int:
    try:
        return int(json.loads(line)["step"])
    except (ValueError, TypeError, KeyError):
        raise ValueError(
            f"{path}, line {number} is damaged: mend or delete it to go on with the run"
        ) from None
