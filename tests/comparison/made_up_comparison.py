"""Folders of comparisons as ``hf-chts compare`` leaves them, with made-up translations."""

import json
import random
from dataclasses import asdict

import yaml

from hf_chts.comparison.grid import Cell, cells
from hf_chts.translation.bleu import score
from hf_chts.translation.corpus import sentence_pairs
from hf_chts.translation.recipe import load_recipe

PAIRS = sentence_pairs(120)
REFERENCES = [target for _, target in PAIRS]
QUALITY = {"dense": 0.95, "chts": 0.9, "rigl": 0.9, "set": 0.6, "narrow-dense": 0.6}
"""Share of words that a method gets right."""
MACHINE = {"processor": "Abacus", "cores": 2, "threads": 1, "gpu": None, "torch": "2.13"}


def write_comparison(folder, methods, sparsities=(0.9,), seeds=(1, 2, 3), **record):
    """A comparison whose runs are all missing; returns them."""
    folder.mkdir(parents=True, exist_ok=True)
    for side, name in enumerate(("test.en", "test.de")):
        text = "".join(pair[side] + "\n" for pair in PAIRS)
        (folder.parent / name).write_text(text, encoding="utf-8")
    files = {"files": [str(folder.parent / "test.en"), str(folder.parent / "test.de")]}
    recipe = {
        "data": {"train": files, "validation": files, "test": {"test2016": files}},
        "training": {"max_steps": 20, "batch_tokens": 500},
    }
    (folder.parent / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    plain = yaml.safe_load(load_recipe(folder.parent / "recipe.yaml").to_yaml())
    grid = cells(methods, sparsities, seeds)
    whole = {
        "recipe": plain, "cells": [asdict(cell) for cell in grid], "methods": list(methods),
        "sparsities": list(sparsities), "seeds": list(seeds), "settings": {}, **record,
    }  # fmt: skip
    (folder / "comparison.json").write_text(json.dumps(whole))
    return grid


def write_done(folder, cell, *, bleu=None):
    """A run that came to its scores; its model was deleted."""
    path = folder / "runs" / cell.name
    (path / "translations").mkdir(parents=True)
    output = translations(cell)
    text = "".join(line + "\n" for line in output)
    (path / "translations" / "test2016.txt").write_text(text, encoding="utf-8")
    scores = score(output, REFERENCES, "de").as_dict()
    if bleu is not None:
        scores["bleu"]["value"] = bleu
    results = {"test": {"test2016": scores}, "training_seconds": 30.0}
    (path / "bleu.json").write_text(json.dumps(results))
    sizes = {"optimizer_bytes": 8_000_000, "file_bytes": 2_500_000}
    (path / "sizes.json").write_text(json.dumps(sizes))
    losses = [4.0, 2.5 + cell.seed / 10, 2.0 + cell.seed / 10, 2.2 + cell.seed / 10]
    rows = [{"step": 5 * (i + 1), "eval_loss": loss} for i, loss in enumerate(losses)]
    lines = [json.dumps(row) + "\n" for row in ({"step": 5, "loss": 5.0}, *rows)]
    (path / "metrics.jsonl").write_text("".join(lines))
    (path / "environment.json").write_text(json.dumps(MACHINE))
    (path / "recipe.yaml").write_text((folder.parent / "recipe.yaml").read_text())
    return path


def write_failed(folder, cell, outcome, error):
    path = folder / "runs" / cell.name
    path.mkdir(parents=True)
    record = {"outcome": outcome, "error": error, "exit_status": 2}
    (path / "failed.json").write_text(json.dumps(record))


def write_begun(folder, cell, step):
    path = folder / "runs" / cell.name
    (path / "checkpoints" / f"checkpoint-{step}").mkdir(parents=True)
    (path / "recipe.yaml").write_text((folder.parent / "recipe.yaml").read_text())


def translations(cell: Cell, references=REFERENCES):
    """References with words replaced, fewer of them by a better method."""
    rng = random.Random(cell.name)
    quality = QUALITY[cell.method]
    return [
        " ".join(word if rng.random() < quality else "Wort" for word in line.split())
        for line in references
    ]
