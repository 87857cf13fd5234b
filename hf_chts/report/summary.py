"""The first page of a report: what was trained, how well, how large, how fast."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from hf_chts.report.files import mapping, number
from hf_chts.report.run_data import RunData

MEASURES = (("bleu", "BLEU"), ("chrf", "chrF"), ("ter", "TER"), ("paper_bleu", "BLEU, lower-cased"))
SIZES = (
    ("linear_parameters", "dense_linear_parameters", "parameters in sparse layers", "numbers"),
    ("parameters", "dense_parameters", "parameters in all", "numbers"),
    ("optimizer_bytes", "dense_optimizer_bytes", "optimizer state", "bytes"),
    ("file_bytes", "dense_file_bytes", "file of the weights", "bytes"),
)


@dataclass(frozen=True)
class Tile:
    """One figure of the summary: its name, its value in words, and a remark."""

    label: str
    value: str
    note: str = ""


@dataclass(frozen=True)
class ScoreRow:
    """Scores of one run on one test set; ``marks`` point to signatures."""

    run: str
    test_set: str
    sentences: str
    values: list[str]
    marks: list[str]


def tiles(run: RunData, anp: str, itop: float | None) -> list[Tile]:
    """The summary of one run.

    Args:
        run: The run.
        anp: Share of active neurons in words.
        itop: Share of links that were ever active, in [0, 1]; None if it is not known.
    """
    sparsity = number(run.recipe, "sparsity", "sparsity")
    data = mapping(run.recipe, "data")
    languages = f"{data.get('source_lang', '?')} → {data.get('target_lang', '?')}"
    family = mapping(run.recipe, "model").get("family") or "pretrained model"
    found = [
        Tile("Method", run.method, f"{run.last_step:,.0f} of {_count(run.max_steps)} steps"),
        Tile("Task", languages, f"{family}, {len(run.layers)} sparse layers"),
        _bleu(run),
        _size(run),
        Tile("Training time", duration(run.training_seconds), _processor(run)),
    ]
    if not run.dense:
        target = "unknown" if sparsity is None else f"{sparsity:.1%}"
        density = f"measured density {run.density:.2%}" if run.final else ""
        found.insert(1, Tile("Sparsity", target, density))
        found.append(Tile("ANP", anp, "neurons between layers that are active"))
        explored = "unknown" if itop is None else f"{itop:.1%}"
        found.append(Tile("ITOP", explored, "links that were active at some time"))
    return found


def score_table(runs: Sequence[RunData]) -> tuple[list[ScoreRow], list[str]]:
    """Scores of all runs on all their test sets, and the signatures they point to."""
    signatures: list[str] = []
    rows = []
    for run in runs:
        for name, scores in run.scores.items():
            values, marks = [], []
            for key, _ in MEASURES:
                value = number(scores, key, "value")
                signature = mapping(scores, key).get("signature")
                if signature is not None and str(signature) not in signatures:
                    signatures.append(str(signature))
                values.append("-" if value is None else f"{value:.2f}")
                marks.append("" if signature is None else str(signatures.index(str(signature)) + 1))
            count = _count(number(scores, "n_sentences"))
            rows.append(ScoreRow(run.name, str(name), count, values, marks))
    return rows, signatures


def size_table(runs: Sequence[RunData]) -> list[tuple[str, list[Tile]]]:
    """Rows of sizes and speed, a value for each run."""
    rows: list[tuple[str, list[Tile]]] = []
    for key, dense_key, label, unit in SIZES:
        cells = []
        for run in runs:
            value, dense = number(run.sizes, key), number(run.sizes, dense_key)
            ratio = f"{value / dense:.3f} of dense" if value is not None and dense else ""
            cells.append(Tile(label, "-" if value is None else _amount(value, unit), ratio))
        rows.append((label, cells))
    times = [Tile("", duration(run.training_seconds), _processor(run)) for run in runs]
    speeds = [Tile("", _speed(run)) for run in runs]
    return [*rows, ("training time", times), ("steps per second", speeds)]


def duration(seconds: float | None) -> str:
    """Seconds in words that fit their size."""
    if seconds is None:
        return "unknown"
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.1f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def _bleu(run: RunData) -> Tile:
    for name, scores in run.scores.items():
        value = number(scores, "bleu", "value")
        if value is not None:
            return Tile("BLEU", f"{value:.2f}", f"on {name}")
    return Tile("BLEU", "none yet", "the run has not been scored")


def _size(run: RunData) -> Tile:
    value, dense = number(run.sizes, "parameters"), number(run.sizes, "dense_parameters")
    if value is None or not dense:
        return Tile("Size", "unknown")
    return Tile("Size", f"{value / dense:.3f} of dense", f"{value:,.0f} parameters in all")


def _speed(run: RunData) -> str:
    return f"{run.last_step / run.training_seconds:.2f}" if run.training_seconds else "-"


def _processor(run: RunData) -> str:
    machine: Any = run.environment.get("gpu") or run.environment.get("processor")
    threads = run.environment.get("threads")
    if not machine:
        return ""
    return f"{machine}, threads: {threads}" if threads else str(machine)


def _amount(value: float, unit: str) -> str:
    return f"{value / 1e6:,.2f} MB" if unit == "bytes" else f"{value:,.0f}"


def _count(value: float | None) -> str:
    return "?" if value is None else f"{value:,.0f}"
