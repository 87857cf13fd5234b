"""What each row of a comparison changes in the recipe."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml

from hf_chts.comparison.grid import BASELINES, method_of
from hf_chts.methods import DEFAULTS, METHODS
from hf_chts.translation.recipe import Loader, Recipe

Settings = dict[str, dict[str, Any]]
"""Rows by name, each a recipe in part: sections with what they change."""

_DECIDED = (
    *(("training", "seed"), ("sparsity", "seed"), ("sparsity", "sparsity")),
    *(("data", "validation"), ("data", "test")),
)
"""What is the same for all rows, or each one's own by the grid, and no row may change."""

_SHARED = ("zeta",)
"""Choices of a method that a recipe may make for all methods."""


def read_settings(path: Path) -> Settings:
    """Read what rows change: a YAML mapping from their names to parts of a recipe.

    A row is a method, a baseline (``narrow-dense``, ``shallow-decoder``), or a variant of a method
    under a name of its own, which names the method in ``sparsity.method``.

    Raises:
        ValueError: If the file is missing or no such mapping, a row is unknown, or it changes what
            the grid decides.
    """
    if not path.is_file():
        raise ValueError(f"no settings {path}: give the path of a YAML file")
    try:
        rows = yaml.load(path.read_text(encoding="utf-8"), Loader) or {}
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        raise ValueError(f"{path} is not YAML: {' '.join(str(error).split())}") from None
    if not isinstance(rows, dict):
        raise ValueError(f"{path}: settings are a mapping from rows to changes; got {rows!r}")
    for row, changes in rows.items():
        try:
            _check_row(row, changes)
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from None
    return rows


def check_names(names: Iterable[str], settings: Mapping[str, Any]) -> None:
    """Refuse a row that is no method, baseline or variant.

    Raises:
        ValueError: Naming it and the closest known one.
    """
    known = _known(settings)
    for name in names:
        if name not in known:
            raise ValueError(
                f"no method {name!r}: {_closest(name, known)}known: {', '.join(known)}"
            )


def refuse_own_rules(recipe: Recipe) -> None:
    """Refuse a recipe that chooses rules itself: it would choose them for every method.

    Raises:
        ValueError: Naming the settings.
    """
    open_fields = DEFAULTS.keys() - set(_SHARED)
    chosen = sorted(name for name in open_fields if getattr(recipe.sparsity, name) is not None)
    if chosen:
        raise ValueError(
            f"the recipe sets sparsity.{', sparsity.'.join(chosen)}, which would replace the "
            "choice of every method: take it out, or give it to single rows by --settings"
        )


def _check_row(row: Any, changes: Any) -> None:
    if not (isinstance(row, str) and re.fullmatch(r"[A-Za-z][\w-]*", row, re.ASCII)):
        raise ValueError(f"a row's name takes letters, digits, _ and -; got {row!r}")
    if not isinstance(changes, dict) or not all(isinstance(v, dict) for v in changes.values()):
        raise ValueError(f"row {row} takes sections of a recipe with what they change")
    for section, key in _DECIDED:
        if key in changes.get(section, {}):
            raise ValueError(f"row {row} sets {section}.{key}, which the comparison decides")
    known, method = _known({}), method_of(row, {row: changes})
    if row in known:
        if "method" in changes.get("sparsity", {}):
            raise ValueError(
                f"row {row} sets sparsity.method: give a variant of {method} another name"
            )
    elif method == row:
        raise ValueError(
            f"unknown row {row!r}: {_closest(row, known)}known: {', '.join(known)}; a variant "
            "under another name says sparsity.method"
        )
    elif method not in METHODS:
        raise ValueError(
            f"row {row}: no method {method!r}: {_closest(method, METHODS)}"
            f"known: {', '.join(METHODS)}"
        )


def _known(settings: Mapping[str, Any]) -> list[str]:
    return list(dict.fromkeys((*METHODS, *BASELINES, *settings)))


def _closest(name: Any, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(str(name), list(known), n=1)
    return f"did you mean {close[0]!r}? " if close else ""
