"""Recipes: a translation experiment as one strict YAML file."""

from __future__ import annotations

import copy
import dataclasses
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from hf_chts.config import SparsityConfig, from_mapping
from hf_chts.translation.sections import (
    DataSection,
    EvaluationSection,
    ModelSection,
    TokenizerSection,
    TrainingSection,
)


@dataclass(frozen=True)
class Recipe:
    """One experiment: what to translate, with which model, how sparse, how trained."""

    data: DataSection
    training: TrainingSection
    model: ModelSection = field(default_factory=ModelSection)
    tokenizer: TokenizerSection = field(default_factory=TokenizerSection)
    sparsity: SparsityConfig = field(default_factory=SparsityConfig)
    evaluation: EvaluationSection = field(default_factory=EvaluationSection)

    def to_yaml(self) -> str:
        """The recipe with every value written out; it loads to an equal recipe."""
        return yaml.safe_dump(_plain(self), sort_keys=False)


class Loader(yaml.SafeLoader):
    """YAML in which ``5e-4`` is a number, as people write it."""


Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"[-+]?\d+(\.\d*)?[eE][-+]?\d+$"), list("-+0123456789")
)


def load_recipe(path: str | Path, overrides: Sequence[str] = ()) -> Recipe:
    """Read a recipe, its bases and the overrides of the command line.

    A recipe may name another one under ``base``, relative to its own folder; it then holds only
    what differs. Data files are found under ``data.root``. Where none is given, they are found
    beside the recipe that names them, or, where they are not there, relative to the working
    directory.

    Args:
        path: The YAML file.
        overrides: Assignments ``section.key=value``, the value in YAML.

    Raises:
        ValueError: If a file is missing or no mapping, a key is unknown or a value does not fit.
    """
    try:
        settings = _settings(Path(path), overrides, beside=False)
        data = settings.get("data")
        if isinstance(data, dict) and data.get("root") is None:
            settings = _settings(Path(path), overrides, beside=True)
        return _built(path, settings)
    except RecursionError:
        raise ValueError(f"{path}: values lie too deep, or in themselves") from None


def _settings(path: Path, overrides: Sequence[str], *, beside: bool) -> dict[str, Any]:
    """What a recipe, its bases and the overrides say together.

    Args:
        path: The YAML file.
        overrides: Assignments.
        beside: Whether data files may lie beside the recipe that names them.
    """
    settings = _read(path, (), beside)
    for assignment in overrides:
        _assign(settings, assignment)
    return settings


def _built(path: str | Path, settings: dict[str, Any]) -> Recipe:
    try:
        return from_mapping(Recipe, settings)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def _read(path: Path, seen: tuple[Path, ...], beside: bool) -> dict[str, Any]:
    if not path.is_file():
        raise ValueError(f"no recipe {path}: give the path of a YAML file")
    if path.resolve() in seen:
        raise ValueError(f"{path} is its own base")
    try:
        settings = yaml.load(path.read_text(encoding="utf-8"), Loader)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is not YAML: {' '.join(str(error).split())}") from None
    if not isinstance(settings, dict):
        raise ValueError(f"{path}: a recipe is a mapping of sections; got {settings!r}")
    if beside:
        _anchor_files(settings.get("data"), path.parent.resolve())
    base = settings.pop("base", None)
    if base is None:
        return settings
    return merged(_read(path.parent / str(base), (*seen, path.resolve()), beside), settings)


def _anchor_files(data: Any, folder: Path) -> None:
    """Put the recipe's folder before the names of files that are there."""
    if not isinstance(data, dict):
        return
    for source in data.values():
        _anchor_files(source, folder)
    if isinstance(data.get("files"), list):
        data["files"] = [_anchored(name, folder) for name in data["files"]]
    if isinstance(data.get("file"), str):
        data["file"] = _anchored(data["file"], folder)


def _anchored(name: Any, folder: Path) -> Any:
    found = isinstance(name, str) and (folder / name).is_file()
    return str(folder / name) if found else name


def merged(base: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """Sections of both; where both have one, its keys are merged; rules are replaced whole."""
    result = copy.deepcopy(base)
    for key, value in changes.items():
        both = isinstance(value, dict) and isinstance(result.get(key), dict)
        result[key] = merged(result[key], value) if both and "rule" not in value else value
    return result


def _assign(settings: dict[str, Any], assignment: str) -> None:
    key, equals, text = assignment.partition("=")
    path = key.split(".")
    if not equals or not all(path) or len(path) < 2:
        raise ValueError(f"{assignment!r} is no override: write section.key=value")
    try:
        value = yaml.load(text, Loader)
    except yaml.YAMLError:
        raise ValueError(f"{assignment!r}: the value is not YAML") from None
    place = settings
    for part in path[:-1]:
        inner = place.setdefault(part, {})
        if not isinstance(inner, dict):
            raise ValueError(f"{assignment!r}: {part} holds {inner!r}, not a section")
        place = inner
    place[path[-1]] = value


def _plain(value: Any) -> Any:
    """Nested data without tuples, and without fields of sections that are None."""
    if dataclasses.is_dataclass(value):
        fields = {f.name: getattr(value, f.name) for f in dataclasses.fields(value)}
        return {name: _plain(item) for name, item in fields.items() if item is not None}
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, list | tuple) else value
