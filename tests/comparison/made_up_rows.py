"""Rows of a table with made-up values, as if many runs had been trained."""

from pathlib import Path
from zlib import crc32

import numpy as np

from hf_chts.comparison.grid import Cell
from hf_chts.comparison.results import RunResult
from hf_chts.comparison.rows import Estimate, Row

METHODS = (
    "dense", "shallow-decoder", "narrow-dense", "static", "set", "rigl", "mest", "gmp", "granet",
    "cht", "chts", "chtss", "chts_random", "rigl_soft", "set_cosine", "static_brf",
)  # fmt: skip


def made_up_rows(methods=METHODS, sparsities=(0.9, 0.95, 0.98), seeds=(1, 2, 3), flops=True):
    pairs = {
        (method, 0.0 if method in ("dense", "shallow-decoder") else sparsity)
        for method in methods
        for sparsity in sparsities
    }
    ordered = sorted(pairs, key=lambda row: (row[1], methods.index(row[0])))
    return [a_row(method, sparsity, seeds, flops) for method, sparsity in ordered]


def a_row(method, sparsity, seeds=(1, 2, 3), flops=True):
    runs = [a_run(Cell(method, sparsity, seed), flops) for seed in seeds]
    names = runs[0].measures
    values = {name: Estimate.of([run.measures[name] for run in runs]) for name in names}
    return Row(method, sparsity, runs, values, {}, {"test2016": 0.012}, None)


def a_run(cell, flops=True):
    rng = np.random.default_rng(crc32(cell.name.encode()))
    rank = METHODS.index(cell.method) if cell.method in METHODS else 3
    loss = 1.9 + 1.6 * max(0.0, cell.sparsity - 0.75) + 0.012 * ((7 * rank) % 16)
    steps = np.arange(150, 3001, 150)
    curve = loss + 5.5 * np.exp(-steps / (330 + 10 * (rank % 5))) + 0.004 * rng.normal(size=20)
    bleu = 41 - 14 * (loss - 1.9) + 0.25 * rng.normal()
    per_step = 2e10 * (0.3 + (1 - cell.sparsity) * 0.7)
    measures = {
        "bleu/test2016": bleu, "bleu/test2017": bleu - 9, "chrf/test2016": bleu + 24,
        "chrf/test2017": bleu + 17, "validation_loss": curve.min(),
        "trained_weights": 5.2e5 + 1e6 * (1 - cell.sparsity),
    }  # fmt: skip
    losses = [(int(step), float(y)) for step, y in zip(steps, curve, strict=True)]
    counts = [per_step * int(step) for step in steps] if flops else []
    return RunResult(cell, Path(cell.name), "done", "", measures, losses, counts)
