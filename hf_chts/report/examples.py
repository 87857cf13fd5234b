"""Translations beside their sources and references."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from hf_chts.report.files import mapping
from hf_chts.report.run_data import RunData
from hf_chts.translation.data import DataSource, load_pairs

MOST_EXAMPLES = 10


@dataclass(frozen=True)
class Example:
    """One sentence; source and reference are empty where they cannot be had."""

    source: str
    reference: str
    translations: list[tuple[str, str]]


@dataclass(frozen=True)
class ExampleSet:
    """The first sentences of a test set, and where their references come from, or why not."""

    name: str
    examples: list[Example]
    origin: str


def example_sets(run: RunData, others: Sequence[RunData]) -> list[ExampleSet]:
    """The first ten sentences of each test set that the run translated, by all runs that did."""
    return [_example_set(name, [run, *others]) for name in run.translations]


def _example_set(name: str, runs: Sequence[RunData]) -> ExampleSet:
    lines = runs[0].translations[name]
    source, reference, origin = _text(runs[0], name)
    same, left_out = [runs[0]], list[str]()
    for run in runs[1:]:
        if _is_same_set(run, runs[0], name, source):
            same.append(run)
        elif name in run.translations:
            left_out.append(run.name)
    if left_out:
        origin += f"; not known to be the same sentences, and left out: {', '.join(left_out)}"
    examples = [
        Example(
            source=source[i] if source else "",
            reference=reference[i] if reference else "",
            translations=[(run.name, run.translations[name][i]) for run in same],
        )
        for i in range(min(MOST_EXAMPLES, len(lines)))
    ]
    return ExampleSet(name, examples, origin)


def _is_same_set(other: RunData, run: RunData, name: str, source: list[str]) -> bool:
    """Whether a test set of one name has the same sources in both runs, as far as can be told."""
    if len(other.translations.get(name, [])) != len(run.translations[name]):
        return False
    if source:
        return _text(other, name)[0] == source
    return _settings(other, name) == _settings(run, name) != {}


def _settings(run: RunData, name: str) -> dict[str, Any]:
    """Where a test set comes from, as the recipe says it."""
    settings = mapping(run.recipe, "data", "test", name)
    return {str(key): value for key, value in settings.items() if value is not None}


def _text(run: RunData, name: str) -> tuple[list[str], list[str], str]:
    """Sources and references of a test set, where they lie on this machine."""
    given = _settings(run, name)
    if "dataset" in given:
        return [], [], "references are not shown: they would have to be fetched"
    try:
        text = load_pairs(DataSource(**given))
    except (ValueError, TypeError, OSError, ImportError) as error:
        return [], [], f"references are not shown: {error}"
    if len(text) != len(run.translations[name]):
        return [], [], f"references are not shown: {text.origin} is not what was translated"
    return text.source, text.target, f"sources and references: {text.origin}"
