"""``hf-chts compare``: check everything, run what is not done, and show the results."""

from __future__ import annotations

import difflib
import time
import zlib
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TypeVar

from rich.console import Console

from hf_chts.comparison.folder import ComparisonFolder
from hf_chts.comparison.grid import cells, recipes_for, refuse_unfit_rows
from hf_chts.comparison.jobs import run_all
from hf_chts.comparison.progress import Progress
from hf_chts.comparison.settings import check_names, read_settings, refuse_own_rules
from hf_chts.comparison.summary import summarise
from hf_chts.config import SparsityConfig
from hf_chts.translation.bleu import scorers
from hf_chts.translation.data import DataSource, ParallelText, load_pairs
from hf_chts.translation.recipe import Recipe

T = TypeVar("T")


def compare(
    recipe: Recipe,
    output: Path,
    *,
    rows: str,
    sparsity: str,
    seeds: str,
    settings_file: Path | None = None,
    jobs: int = 1,
    minutes: float | None = None,
    baseline: str | None = None,
) -> int:
    """Run every method at every sparsity with every seed, and write tables and figures.

    Args:
        recipe: What all runs share.
        output: Folder of the comparison; one that is there is gone on with, or extended.
        rows: Rows of the table, separated by commas; likewise the next two.
        sparsity: Shares of inactive links, each in [0, 1).
        seeds: Integers of at least 0.
        settings_file: What rows change in the recipe; see
            :func:`hf_chts.comparison.settings.read_settings`.
        jobs: Runs at once.
        minutes: Stop after so long; None: when all is done.
        baseline: Row that the others are tested against; None: ``dense``, or the first row.

    Returns:
        The exit status: 0, when time is up, too; 1 if a run failed or was ended by others, as for
        want of memory or disk; 128 and the signal that interrupted it.

    Raises:
        ValueError: If anything does not fit, before the first run.
        ImportError: If a package is missing that the data or the scores take, likewise.
        OSError: If a file cannot be read or written.
    """
    deadline = None if minutes is None else time.monotonic() + 60 * minutes
    folder = ComparisonFolder(output)
    settings = read_settings(settings_file) if settings_file is not None else {}
    names = _list("methods", rows, str, "names")
    sparsities = _list("sparsity", sparsity, float, "numbers")
    for share in sparsities:
        SparsityConfig(sparsity=share)  # says so if it is none
    check_names(names, settings)
    refuse_own_rules(recipe)
    scorers(recipe.data.target_lang)  # says so if their tokenizer is missing
    asked = cells(names, sparsities, _list("seeds", seeds, int, "integers"), settings)
    before = folder.cells()
    baseline = _baseline(baseline, [cell.method for cell in (*before, *asked)])
    others = [row for row in settings if row not in names]
    refuse_unfit_rows(recipe, cells(others, sparsities, [1], settings), settings)
    same_rows = [cell for cell in before if cell.method in names]
    recipes = recipes_for(recipe, list(dict.fromkeys((*asked, *same_rows))), settings)
    texts = _checksums(recipes.values())
    with folder.lock():
        folder.extend(recipe, settings, sparsities, recipes, texts)
        wanted = {cell: recipes[cell] for cell in asked}
        with Progress(folder, wanted, _console(stderr=True)) as progress:
            signal = run_all(folder, wanted, progress, jobs=jobs, deadline=deadline)
        out = _console()
        if not signal and (progress.n_done or progress.n_failed):
            out.print(summarise(output, baseline=baseline))
        failed = f", {progress.n_failed} failed" if progress.n_failed else ""
        left = len(wanted) - progress.n_done - progress.n_failed
        advice = "; the same command goes on with the others" if left else ""
        out.print(f"{progress.n_done} of {len(wanted)} runs done{failed}{advice}", soft_wrap=True)
    late = deadline is not None and time.monotonic() >= deadline
    broken = progress.n_failed > 0 or (left > 0 and not late)
    return 128 + signal if signal else int(broken)


def _console(*, stderr: bool = False) -> Console:
    console = Console(stderr=stderr, highlight=False, markup=False, emoji=False)
    if not console.is_terminal:
        console.width = max(console.width, 160)  # tables lie in a file as they are
    return console


def _list(name: str, text: str, kind: Callable[[str], T], words: str) -> list[T]:
    try:
        return [kind(part.strip()) for part in text.split(",")]
    except ValueError:
        raise ValueError(f"--{name} takes {words}, separated by commas; got {text!r}") from None


def _baseline(name: str | None, rows: Sequence[str]) -> str:
    """The row to test against: the one named, or dense, or the first."""
    if name is None:
        return "dense" if "dense" in rows else rows[0]
    if name not in rows:
        close = difflib.get_close_matches(name, rows, n=1)
        hint = f"did you mean {close[0]!r}? " if close else ""
        raise ValueError(
            f"--baseline takes one of the methods compared; got {name!r}: {hint}"
            f"they are {', '.join(dict.fromkeys(rows))}"
        )
    return name


def _checksums(recipes: Iterable[Recipe]) -> dict[str, int]:
    """A checksum of every text, by what recipes say of it; missing or malformed ones are told."""
    sources: dict[DataSource, None] = {}
    for recipe in recipes:
        data = recipe.data
        sources |= dict.fromkeys((data.train, data.validation, *data.test.values()))
    return {_named(source): _checksum(load_pairs(source)) for source in sources}


def _named(source: DataSource) -> str:
    """What a recipe says of a text."""
    said = {key: value for key, value in vars(source).items() if value is not None}
    return ", ".join(f"{key}={value}" for key, value in said.items())


def _checksum(text: ParallelText) -> int:
    crc = 0
    for pair in zip(text.source, text.target, strict=True):
        crc = zlib.crc32("\n".join(pair).encode(), crc)
    return crc
