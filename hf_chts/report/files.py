"""Reading a run's plain files, whole or damaged: what cannot be read is named, never guessed."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

Row = Mapping[str, Any]
"""One line of a log."""


def read_text(path: Path) -> str:
    """Text of a file, undecodable bytes shown as such; empty if there is no file."""
    return path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""


def read_json(path: Path, gaps: list[str]) -> dict[str, Any]:
    """An object from a JSON file; empty, with a line in ``gaps``, if it cannot be had."""
    if not path.is_file():
        gaps.append(f"{path.name} is missing")
        return {}
    try:
        data = json.loads(read_text(path))
    except ValueError as error:
        gaps.append(f"{path.name} cannot be read: {error}")
        return {}
    if not isinstance(data, dict):
        gaps.append(f"{path.name} holds a {type(data).__name__} where an object was expected")
        return {}
    return data


def read_yaml(path: Path, gaps: list[str]) -> dict[str, Any]:
    """Likewise from a YAML file."""
    try:
        data = yaml.safe_load(read_text(path))
    except yaml.YAMLError as error:
        gaps.append(f"{path.name} cannot be read: {' '.join(str(error).split())}")
        return {}
    if not isinstance(data, dict):
        gaps.append(f"{path.name} holds no settings")
        return {}
    return data


def read_rows(path: Path, gaps: list[str]) -> list[Row]:
    """Objects of a JSONL file with a step, in their order; damaged lines are counted in ``gaps``.

    The last line of a run that was interrupted may be half written.
    """
    if not path.is_file():
        return []
    rows, damaged = [], []
    for number, line in enumerate(read_text(path).split("\n"), start=1):
        if not line.strip():
            continue
        row = _parse(line)
        if row is None:
            damaged.append(number)
        else:
            rows.append(row)
    if damaged:
        gaps.append(
            f"{path.name}: {len(damaged)} of {len(damaged) + len(rows)} lines cannot be read "
            f"(the first is line {damaged[0]}) and are left out"
        )
    return rows


def number(row: Any, *keys: str) -> float | None:
    """A finite number under a path of keys; None where there is none."""
    for key in keys:
        if not isinstance(row, Mapping):
            return None
        row = row.get(key)
    if isinstance(row, bool) or not isinstance(row, (int, float)) or not math.isfinite(row):
        return None
    return row


def mapping(row: Any, *keys: str) -> Mapping[str, Any]:
    """The object under a path of keys; an empty one where there is none."""
    for key in keys:
        row = row.get(key) if isinstance(row, Mapping) else None
    return row if isinstance(row, Mapping) else {}


def _parse(line: str) -> Row | None:
    try:
        row = json.loads(line)
    except ValueError:
        return None
    return row if isinstance(row, dict) and number(row, "step") is not None else None
