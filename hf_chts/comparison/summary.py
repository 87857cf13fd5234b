"""What a comparison shows: tables, figures and their data, written and for the terminal."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from rich.console import RenderableType

from hf_chts.comparison import paper
from hf_chts.comparison.results import Comparison, RunResult, read_comparison
from hf_chts.comparison.rows import Findings, Row, findings
from hf_chts.comparison.table import comma_separated, markdown, sections, terminal
from hf_chts.safe_saving import write_text

METRIC_NAMES = {"bleu": "BLEU", "chrf": "chrF", "paper_bleu": "BLEU lower-cased"}


def summarise(directory: Path, *, baseline: str) -> RenderableType:
    """Write what a comparison's runs have to show so far.

    Into the folder go ``table.md``, ``table.csv`` and ``results.json``, which says what the table
    says and also what each run measured, and with the extra ``analysis`` the figures
    ``bleu_by_sparsity``, ``quality_by_weights`` and ``validation_loss``, each as PNG and SVG. Runs
    that are missing, have failed or diverged are named.

    Args:
        directory: Folder of the comparison.
        baseline: The method that others are tested against, at the same sparsity if it has one.

    Returns:
        The table, for the terminal.

    Raises:
        ValueError: If the folder holds no comparison, or not one with the baseline.
        OSError: If a file cannot be written.
    """
    comparison = read_comparison(directory)
    found = findings(comparison, baseline)
    test_sets = list(comparison.recipe.data.test)
    figures = _figures()
    notes = _notes(comparison, found)
    if figures is None:
        notes.append('the figures need matplotlib: pip install "hf-chts[analysis]"')
    else:
        figures.write_figures(directory, found.rows, test_sets)
    parts = sections(found, test_sets)
    write_text(directory / "table.md", markdown(parts, notes))
    write_text(directory / "table.csv", comma_separated(found, test_sets))
    data = _as_data(comparison, found, notes)
    write_text(directory / "results.json", json.dumps(data, indent=2, ensure_ascii=False) + "\n")
    return terminal(parts, notes)


def _figures() -> ModuleType | None:
    try:
        from hf_chts.comparison import figures
    except ModuleNotFoundError as error:
        if error.name != "matplotlib":
            raise
        return None
    return figures


def _notes(comparison: Comparison, found: Findings) -> list[str]:
    """How to read the table, where its numbers come from, and what is missing."""
    return [
        "mean ± standard error over the seeds that are done; without ± there is one seed",
        f"- {found.baseline}: less {found.baseline} of the same seed, which has the same data "
        "order and, where the model has the same shape, the same first weights of dense parts; "
        "mean ± standard error over the seeds that both have done",
        "p: how often the choice of test sentences alone would make a difference in BLEU or chrF "
        f"to {found.baseline} this large, by sacreBLEU's paired bootstrap: 1,000 resamples of the "
        "sentences, each with its translations by all seeds that both have done. Small ones count "
        "one tail: double them for a two-sided test. The spread between seeds is in ±, not in p, "
        "and p is not corrected for the number of rows",
        *_signature_notes(found),
        "validation loss: lowest of the run at its final density, nats per token, without label "
        "smoothing",
        "density and ANP (share of neurons between layers that percolation leaves active): of the "
        "model that is kept; ITOP: share of links that were ever active; all sparse layers "
        "together",
        "weights: numbers that training changes",
        *_cost_notes(comparison.runs.values()),
        *_paper_notes(found),
        *_machines(comparison.runs.values()),
        *(f"command: `{command}`" for command in comparison.record.get("commands", ())),
        *_settings_notes(comparison.record.get("settings", {})),
        *found.gaps,
    ]


def _signature_notes(found: Findings) -> list[str]:
    names = METRIC_NAMES | {"paired_bootstrap": "paired bootstrap"}
    return [
        f"{text}: {', '.join(f'`{signature}`' for signature in found.signatures[name])}"
        for name, text in names.items()
        if name in found.signatures
    ]


def _cost_notes(runs: Iterable[RunResult]) -> list[str]:
    workloads = dict.fromkeys(run.workload for run in runs if run.workload is not None)
    steps = [
        f"{w.pairs_per_step:.1f} pairs of {w.source_tokens} and {w.target_tokens} tokens"
        for w in workloads
    ]
    if not steps:
        return []
    return [
        "FLOP: matrix products, a multiply-add as two, sparse layers at their density; a step's "
        "forward, and twice that for its backward, mean over the run, without padding, with the "
        "dense gradients and correlations that updates read and without their other work; "
        f"an average step has {' or '.join(steps)}; translating: one hypothesis with cached keys "
        "and values, a token of the target, whose attention to earlier ones is counted in full",
        "seconds a step include topology updates and validations",
    ]


def _paper_notes(found: Findings) -> list[str]:
    if found.task is None:
        return []
    return [
        f"paper's BLEU: {paper.SOURCE}, {found.task.name}, dense and {100 * paper.SPARSITY:g}% "
        "sparse. Its settings (model, steps, vocabulary, scoring) are not those of this "
        "comparison: compare differences between methods, not levels"
    ]


def _settings_notes(settings: Mapping[str, Any]) -> list[str]:
    """What rows change in the recipe, as the command line would say it."""
    return [
        f"settings of {row}: " + ", ".join(f"`{name}={value}`" for name, value in _flat(changes))
        for row, changes in settings.items()
    ]


def _flat(settings: Mapping[str, Any], where: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in settings.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{where}{key}.")
        else:
            yield f"{where}{key}", value


def _machines(runs: Iterable[RunResult]) -> list[str]:
    """Machine and versions, once for all runs that share them, which are named if others do not."""
    known: dict[str, dict[str, None]] = {}
    for run in (run for run in runs if run.environment):
        for part in (*run.environment.get("earlier", ()), run.environment):
            known.setdefault(_machine(part), {})[run.cell.name] = None
    if len(known) == 1:
        return [f"machine: {text}" for text in known]
    return [f"machine of {', '.join(names)}: {text}" for text, names in known.items()]


def _machine(environment: dict[str, Any]) -> str:
    names = ("processor", "cores", "threads", "gpu", "torch", "transformers", "hf-chts", "commit")
    shown = {name: environment.get(name) for name in names}
    parts = [str(shown.pop("processor")), *(f"{n} {v}" for n, v in shown.items() if v is not None)]
    return ", ".join(parts)


def _as_data(comparison: Comparison, found: Findings, notes: Sequence[str]) -> dict[str, Any]:
    return {
        "baseline": found.baseline,
        "test_sets": list(comparison.recipe.data.test),
        "rows": [_row_data(row) for row in found.rows],
        "runs": [_run_data(run) for run in comparison.runs.values()],
        "signatures": found.signatures,
        "notes": list(notes),
    }


def _row_data(row: Row) -> dict[str, Any]:
    return {
        "method": row.method,
        "sparsity": row.sparsity,
        "seeds_asked": len(row.runs),
        "seeds_done": len(row.done),
        "values": {name: vars(value) for name, value in row.values.items()},
        "differences": {name: vars(value) for name, value in row.differences.items()},
        "p_values": row.p_values,
        "published_bleu": row.published_bleu,
    }


def _run_data(run: RunResult) -> dict[str, Any]:
    flops: Sequence[float | None] = run.flops or [None] * len(run.losses)
    return {
        "name": run.cell.name,
        **vars(run.cell),
        "state": run.state,
        "reason": run.reason,
        "measures": run.measures,
        "validation": [
            {"step": step, "loss": loss, "training_flops": count}
            for (step, loss), count in zip(run.losses, flops, strict=True)
        ],
        "environment": run.environment,
    }
