"""What the runs of a comparison have to show so far, read from their folders."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from safetensors import SafetensorError

from hf_chts.comparison.costs import Workload
from hf_chts.comparison.folder import ComparisonFolder
from hf_chts.comparison.grid import Cell
from hf_chts.comparison.trained_model import model_measures
from hf_chts.config import from_mapping
from hf_chts.engine.budget import density_settles
from hf_chts.safe_saving import checkpoints
from hf_chts.translation.recipe import Recipe, load_recipe
from hf_chts.translation.tokenizer import TokenizerPair

METRICS = ("bleu", "chrf", "paper_bleu")

State = Literal["done", "failed", "diverged", "damaged", "unfinished", "missing"]
Workloads = dict[Any, Workload | str]
"""Average steps by what decides them, or why one is not known: most runs share theirs."""


@dataclass(frozen=True)
class RunResult:
    """One run, as far as it came.

    Attributes:
        cell: Which run.
        path: Its folder.
        state: How far it came. ``diverged``: a loss, gradient or weight was not finite.
        reason: Why it is not done, or what of it could not be measured, in words.
        measures: What is compared, by name; what is not known is left out. BLEU, chrF and BLEU
            lower-cased are ``bleu/SET``, ``chrf/SET`` and ``paper_bleu/SET`` for each test set.
        losses: Steps of the validations, and losses in nats per token.
        flops: Floating-point operations of the training up to these steps; empty if not known.
        workload: Its average step; None if not known.
        signatures: sacreBLEU's signatures by metric.
        environment: Versions, machine and command.
    """

    cell: Cell
    path: Path
    state: State
    reason: str = ""
    measures: dict[str, float] = field(default_factory=dict)
    losses: list[tuple[int, float]] = field(default_factory=list)
    flops: list[float] = field(default_factory=list)
    workload: Workload | None = None
    signatures: dict[str, str] = field(default_factory=dict)
    environment: dict[str, Any] = field(default_factory=dict)

    def translations(self, test_set: str) -> list[str]:
        """Translations of a test set, a sentence an entry."""
        path = self.path / "translations" / f"{test_set}.txt"
        lines = path.read_text(encoding="utf-8").split("\n")
        return lines if lines[-1] else lines[:-1]


@dataclass(frozen=True)
class Comparison:
    """A comparison and its runs.

    Attributes:
        recipe: What all runs have in common.
        record: What was asked for, as ``comparison.json`` has it.
        runs: All runs that were asked for.
    """

    recipe: Recipe
    record: Mapping[str, Any]
    runs: dict[Cell, RunResult]

    @property
    def rows(self) -> list[tuple[str, float]]:
        """Methods with their sparsities, first what is not sparse, then by rising sparsity."""
        pairs = dict.fromkeys((cell.method, cell.sparsity) for cell in self.runs)
        return sorted(pairs, key=lambda row: row[1])

    def of(self, method: str, sparsity: float) -> list[RunResult]:
        """The runs of a row, by rising seed."""
        row = method, sparsity
        runs = [run for cell, run in self.runs.items() if (cell.method, cell.sparsity) == row]
        return sorted(runs, key=lambda run: run.cell.seed)


def read_comparison(directory: Path) -> Comparison:
    """Read the folder that ``hf-chts compare`` writes to, finished or not.

    Raises:
        ValueError: If the folder is missing or holds no comparison, or a damaged record.
    """
    folder = ComparisonFolder(directory)
    if not folder.record.is_file():
        raise ValueError(
            f"{directory} holds no comparison ({folder.record.name} is missing): give the folder "
            "that was given to hf-chts compare --output"
        )
    try:
        record = _json(folder.record)
        recipe = from_mapping(Recipe, record["recipe"])
        grid = [Cell(**cell) for cell in record["cells"]]
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{folder.record} is damaged ({error}): put it back") from None
    workloads: Workloads = {}
    return Comparison(recipe, record, {cell: _read_run(folder, cell, workloads) for cell in grid})


def _read_run(folder: ComparisonFolder, cell: Cell, workloads: Workloads) -> RunResult:
    path, state = folder.run(cell).path, folder.state(cell)
    if state == "new":
        return RunResult(cell, path, "missing")
    if state == "begun":
        last = max(checkpoints(folder.run(cell).checkpoints), default=0)
        return RunResult(cell, path, "unfinished", f"it has come to step {last}")
    try:
        if state == "done":
            return _read_finished(cell, path, workloads)
        failure = _json(folder.failure(cell))
        outcome: State = "diverged" if failure["outcome"] == "diverged" else "failed"
        return RunResult(cell, path, outcome, str(failure["error"]))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        return RunResult(cell, path, "damaged", f"{type(error).__name__}: {error}")


def _read_finished(cell: Cell, path: Path, workloads: Workloads) -> RunResult:
    scores, sizes = _json(path / "bleu.json"), _json(path / "sizes.json")
    lines = (path / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    rows = [json.loads(line) for line in lines]
    losses = [(int(row["step"]), float(row["eval_loss"])) for row in rows if "eval_loss" in row]
    losses = [(step, loss) for step, loss in losses if math.isfinite(loss)]
    steps = max(int(row["step"]) for row in rows)
    settled = density_settles(load_recipe(path / "recipe.yaml").sparsity, steps)
    at_density = [loss for step, loss in losses if step >= settled]
    by_name = {
        f"{metric}/{test_set}": found[metric]
        for test_set, found in scores["test"].items()
        for metric in METRICS
    }
    measures = {
        **{name: float(score["value"]) for name, score in by_name.items()},
        **({"validation_loss": min(at_density)} if at_density else {}),
        "file_megabytes": sizes["file_bytes"] / 1e6,
        "steps": float(steps),
        "seconds_per_step": scores["training_seconds"] / steps,
    }
    workload, of_model, flops, reason = None, dict[str, float](), list[float](), ""
    try:
        workload, reason = _workload(path, workloads)
        of_model, flops = model_measures(path, workload, [*(step for step, _ in losses), steps])
    except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
        reason = f"its model was not measured ({error})"
    return RunResult(
        cell=cell,
        path=path,
        state="done",
        reason=reason,
        measures=measures | of_model,
        losses=losses,
        flops=flops[:-1],
        workload=workload,
        signatures={name.partition("/")[0]: x["signature"] for name, x in by_name.items()},
        environment=_json(path / "environment.json"),
    )


def _workload(path: Path, known: Workloads) -> tuple[Workload | None, str]:
    """A run's average step, or None and why it is not known."""
    recipe = load_recipe(path / "recipe.yaml")
    training, tokenizer = recipe.training, recipe.tokenizer
    sizes = training.batch_tokens, training.accumulation, recipe.data.max_length
    key = recipe.data.train, tokenizer, sizes
    if key not in known:
        try:
            codes = tokenizer.source_code, tokenizer.target_code
            known[key] = Workload.of(recipe, TokenizerPair.load(path / "tokenizer", *codes))
        except (OSError, ValueError, ImportError) as error:
            known[key] = f"operations are not counted, for the training text is missing ({error})"
    found = known[key]
    return (None, found) if isinstance(found, str) else (found, "")


def _json(path: Path) -> dict[str, Any]:
    data = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(data, dict):
        raise ValueError(f"{path.name} holds no object")
    return data
