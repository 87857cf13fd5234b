"""Translations beside their sources and references."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

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
    """The first ten sentences of each test set that the run translated, by all runs."""
    return [_example_set(name, [run, *others]) for name in run.translations]


def _example_set(name: str, runs: Sequence[RunData]) -> ExampleSet:
    lines = runs[0].translations[name]
    source, reference, origin = _text(runs[0], name, len(lines))
    same = [run for run in runs if len(run.translations.get(name, [])) == len(lines)]
    examples = [
        Example(
            source=source[i] if source else "",
            reference=reference[i] if reference else "",
            translations=[(run.name, run.translations[name][i]) for run in same],
        )
        for i in range(min(MOST_EXAMPLES, len(lines)))
    ]
    return ExampleSet(name, examples, origin)


def _text(run: RunData, name: str, n_lines: int) -> tuple[list[str], list[str], str]:
    """Sources and references of a test set, where they lie on this machine."""
    settings = mapping(run.recipe, "data", "test", name)
    given = {str(key): value for key, value in settings.items() if value is not None}
    if "dataset" in given:
        return [], [], "references are not shown: they would have to be fetched"
    try:
        text = load_pairs(DataSource(**given))
    except (ValueError, TypeError, OSError, ImportError) as error:
        return [], [], f"references are not shown: {error}"
    if len(text) != n_lines:
        return [], [], f"references are not shown: {text.origin} is not what was translated"
    return text.source, text.target, f"sources and references: {text.origin}"
