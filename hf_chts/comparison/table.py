"""The table of a comparison: as Markdown, as CSV, and for the terminal."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from rich.console import Group, RenderableType
from rich.table import Column, Table
from rich.text import Text

from hf_chts.comparison.rows import Estimate, Findings, Row

NOTHING = "-"
"""Where a value is not known, or does not exist."""

Cells = tuple[str, Callable[[Row], str]]
"""Head of a column and what stands below it."""


@dataclass(frozen=True)
class Section:
    """A part of the table.

    Attributes:
        title: What it shows.
        head: Names of its columns.
        body: A line for each row, as many cells as the head.
    """

    title: str
    head: list[str]
    body: list[list[str]]


def sections(findings: Findings, test_sets: Sequence[str]) -> list[Section]:
    """The parts of the table: one for each test set, then what training and its result cost."""
    loss: list[Cells] = [
        ("validation loss", _estimate("validation_loss", digits=3)),
        (f"- {findings.baseline}", _difference("validation_loss", digits=3)),
    ]
    return [
        *(_scores(findings, test_set) for test_set in test_sets),
        _section("Loss and topology", findings.rows, loss + TOPOLOGY),
        _section("Size and cost", findings.rows, SIZE_AND_COST),
    ]


def markdown(parts: Sequence[Section], notes: Sequence[str]) -> str:
    """Sections as pipe tables under headings, and notes as a list."""
    lines = []
    for part in parts:
        rule = ["---", "---:", *(["---:"] * (len(part.head) - 2))]
        lines += [f"## {part.title}", "", *map(_pipes, (part.head, rule, *part.body)), ""]
    return "\n".join([*lines, "## Notes", "", *(f"- {_one_line(note)}" for note in notes), ""])


def terminal(parts: Sequence[Section], notes: Sequence[str]) -> RenderableType:
    """Sections and notes for a terminal."""
    shown: list[RenderableType] = []
    for part in parts:
        first, *others = part.head
        longest = max((len(line[0]) for line in part.body), default=0)
        method = Column(first, no_wrap=True, min_width=longest)  # whole, however narrow the rest
        rest = (Column(name, justify="right", overflow="fold") for name in others)  # none is cut
        table = Table(method, *rest, title=part.title, title_justify="left")
        for line in part.body:
            table.add_row(*map(Text, line))
        shown.append(table)
    return Group(*shown, *(Text(f"- {note}") for note in notes))


def comma_separated(findings: Findings, test_sets: Sequence[str]) -> str:
    """Every value in full, a line for each row; a value that is not known is left empty."""
    names = dict.fromkeys(name for row in findings.rows for name in row.values)
    differing = dict.fromkeys(name for row in findings.rows for name in row.differences)
    head = ["method", "sparsity", "seeds_asked", "seeds_done"]
    head += _with_errors(names) + _with_errors(f"{name}/difference" for name in differing)
    tested = [f"{score}/{test_set}" for test_set in test_sets for score in ("bleu", "chrf")]
    head += [*(f"p_value/{score}" for score in tested), "published_bleu"]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(head)
    for row in findings.rows:
        known = [row.values.get(name) for name in names]
        known += [row.differences.get(name) for name in differing]
        writer.writerow(
            [row.method, row.sparsity, len(row.runs), len(row.done)]
            + [x for e in known for x in ((e.mean, e.standard_error) if e else (None, None))]
            + [*map(row.p_values.get, tested), row.published_bleu]
        )
    return text.getvalue()


def _with_errors(names: Iterable[str]) -> list[str]:
    return [column for name in names for column in (name, f"{name}/standard_error")]


def _scores(findings: Findings, test_set: str) -> Section:
    """The scores of one test set."""
    columns: list[Cells] = [
        ("seeds", lambda row: row.seeds),
        ("BLEU", _estimate(f"bleu/{test_set}")),
        (f"- {findings.baseline}", _difference(f"bleu/{test_set}")),
        ("p", _p_value(f"bleu/{test_set}")),
        ("chrF", _estimate(f"chrf/{test_set}")),
        ("p of chrF", _p_value(f"chrf/{test_set}")),
        ("BLEU lower-cased", _estimate(f"paper_bleu/{test_set}")),
    ]
    if findings.task is not None and test_set == findings.task.test_set:
        columns.append(("paper's BLEU", lambda row: _number(row.published_bleu, 2)))
    return _section(test_set, findings.rows, columns)


def _section(title: str, rows: Sequence[Row], columns: Iterable[Cells]) -> Section:
    every: list[Cells] = [
        ("method", lambda row: row.method),
        ("sparsity", lambda row: f"{100 * row.sparsity:.4g}%" if row.sparsity else NOTHING),
        *columns,
    ]
    body = [[text(row) for _, text in every] for row in rows]
    return Section(title, [name for name, _ in every], body)


def _estimate(name: str, digits: int = 2) -> Callable[[Row], str]:
    """Mean and standard error."""

    def text(row: Row) -> str:
        value = row.values.get(name)
        return NOTHING if value is None else _with_error(value, digits)

    return text


def _difference(name: str, digits: int = 2) -> Callable[[Row], str]:
    """Mean and standard error of the differences to the baseline, with their sign."""

    def text(row: Row) -> str:
        value = row.differences.get(name)
        return NOTHING if value is None else _with_error(value, digits, sign="+")

    return text


def _p_value(name: str) -> Callable[[Row], str]:
    """How likely chance makes the difference."""

    def text(row: Row) -> str:
        return _number(row.p_values.get(name), digits=3)

    return text


def _mean(name: str, unit: float = 1.0, digits: int | None = None) -> Callable[[Row], str]:
    """The mean alone, for what hardly differs between seeds."""

    def text(row: Row) -> str:
        value = row.values.get(name)
        return _number(None if value is None else value.mean / unit, digits)

    return text


def _with_error(value: Estimate, digits: int, sign: str = "") -> str:
    mean = f"{value.mean:{sign}.{digits}f}"
    error = value.standard_error
    return mean if error is None else f"{mean} ± {error:.{digits}f}"


def _number(value: float | None, digits: int | None) -> str:
    """A number with so many decimals, or with three significant digits or more."""
    if value is None:
        return NOTHING
    if digits is None:
        digits = 2 if value == 0 else max(0, 2 - math.floor(math.log10(abs(value))))
    return f"{value:,.{digits}f}"


def _pipes(cells: Sequence[str]) -> str:
    return f"| {' | '.join(_one_line(cell).replace('|', chr(92) + '|') for cell in cells)} |"


def _one_line(text: str) -> str:
    return " ".join(text.split())


TOPOLOGY: list[Cells] = [
    ("density", _mean("density", digits=3)),
    ("ITOP", _mean("itop", digits=3)),
    ("ANP", _mean("active_neurons", digits=3)),
]
SIZE_AND_COST: list[Cells] = [
    ("weights, M", _mean("trained_weights", 1e6)),
    ("file, MB", _mean("file_megabytes")),
    ("GFLOP a training step", _mean("training_flops_per_step", 1e9)),
    ("MFLOP a translated token", _mean("inference_flops_per_token", 1e6)),
    ("seconds a step", _mean("seconds_per_step")),
]
