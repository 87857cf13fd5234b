"""Numbers of a recipe do in training what they are for."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from hf_chts.config import SparsityConfig
from hf_chts.rules.schedules import noam
from hf_chts.translation import run
from hf_chts.translation.recipe import load_recipe


def logged(recipe, folder, **training) -> list[dict]:
    """What two steps of a training log."""
    wanted = replace(recipe.training, max_steps=2, evaluate_every=1, **training)
    run.train(replace(recipe, training=wanted), folder)
    rows = [json.loads(x) for x in (folder / "metrics.jsonl").read_text().splitlines()]
    return [row for row in rows if "loss" in row]


def test_smoothing_and_rates_reach_the_log(recipe, tmp_path) -> None:
    """Smoothing is linear in its share, and the first loss is that of the same weights."""
    shares = (0.0, 0.2, 0.6)
    rows = {
        share: logged(recipe, tmp_path / str(share), label_smoothing=share, schedule="noam")
        for share in shares
    }
    plain, little, much = (rows[share][0]["loss"] for share in shares)
    assert abs(little - plain) > 1e-4
    assert much - plain == pytest.approx(3 * (little - plain), rel=0.02, abs=1e-4)
    warmup, rate = recipe.training.warmup_steps, recipe.training.learning_rate
    found = [row["learning_rate"] for row in rows[0.0]]
    assert found == pytest.approx([rate * noam(step, warmup, 16) for step in (1, 2)])


def test_a_recipe_without_a_method_says_afterwards_which_it_had(recipe, tmp_path) -> None:
    sparsity = SparsityConfig(sparsity=0.7, update_interval=1)
    logged(replace(recipe, sparsity=sparsity), tmp_path)
    assert load_recipe(tmp_path / "recipe.yaml").sparsity == replace(sparsity, method="chts_tied")
    assert "chts_tied at 70.00% sparsity" in (tmp_path / "patching.txt").read_text()
    assert "chts_tied" in (tmp_path / "model" / "README.md").read_text()
