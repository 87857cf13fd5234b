"""Topology logs of runs, to be compared."""

from __future__ import annotations

import json
from pathlib import Path


def untimed(folder: Path) -> list[dict]:
    """Rows of a run's topology log without the time they took."""
    text = (folder / "topology.jsonl").read_text()
    rows = [json.loads(line) for line in text.splitlines()]
    assert all(row.pop("seconds") > 0 for row in rows)
    return rows
