"""Every recipe of the repository can be read, and its model made sparse."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from hf_chts.methods import METHODS, resolve
from hf_chts.patching import plan
from hf_chts.translation.averaging import refuse_moving_links
from hf_chts.translation.model import empty_model
from hf_chts.translation.recipe import load_recipe

FOLDER = Path(__file__).resolve().parents[1] / "recipes"
RECIPES = sorted(path for path in FOLDER.rglob("*.yaml") if path.name != "base.yaml")
NAMES = [str(path.relative_to(FOLDER)) for path in RECIPES]
TASKS = {"multi30k_en_de", "iwslt14_de_en", "wmt17_en_de", "wmt14_en_de", "europarl_en_fr",
         "finetune_opus_mt"}  # fmt: skip


def test_all_tasks_are_there() -> None:
    assert {path.parent.name for path in RECIPES} >= TASKS
    assert FOLDER / "quickstart.yaml" in RECIPES


@pytest.mark.parametrize("path", RECIPES, ids=NAMES)
def test_recipe_loads_and_its_model_can_be_made(path) -> None:
    recipe = load_recipe(path)
    assert resolve(recipe.sparsity).method in METHODS
    refuse_moving_links(recipe)
    assert recipe.training.warmup_steps < recipe.training.max_steps
    if recipe.model.pretrained is None:  # else it lies on the hub
        report, chosen, _ = plan(empty_model(recipe), recipe.sparsity)
        dense = recipe.sparsity.method == "dense"
        assert bool(chosen) != dense
        assert len(report.rows) >= 10


@pytest.mark.parametrize("path", RECIPES, ids=NAMES)
def test_method_files_are_named_by_their_method(path) -> None:
    if path.stem in METHODS:
        assert load_recipe(path).sparsity.method == path.stem
    if path.parent.name in TASKS and path.stem in METHODS:
        assert set(yaml.safe_load(path.read_text())) <= {"base", "sparsity", "training"}


@pytest.mark.parametrize("path", RECIPES, ids=NAMES)
def test_what_a_run_writes_is_the_same_recipe(path, tmp_path) -> None:
    recipe = load_recipe(path)
    written = tmp_path / "recipe.yaml"
    written.write_text(recipe.to_yaml(), encoding="utf-8")
    assert load_recipe(written) == recipe
