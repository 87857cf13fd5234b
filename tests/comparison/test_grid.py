"""Which runs a comparison has, and their recipes."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tiny_comparisons import write_recipe

from hf_chts.comparison.grid import BASELINES, Cell, cells, recipe_for, recipes_for
from hf_chts.methods import METHODS
from hf_chts.translation import run
from hf_chts.translation.recipe import load_recipe
from hf_chts.translation.training import TranslationTrainer

VARIANTS = {
    "chts": {"sparsity": {"init_scale": 0.5}, "training": {"learning_rate": 0.02}},
    "chts_ranked": {"sparsity": {"method": "chts", "regrowth_exponent": "ranked"}},
    "dense_fast": {"sparsity": {"method": "dense"}, "training": {"learning_rate": 0.1}},
    "narrow-dense": {"model": {"config": {"dropout": 0.0}}},
}


@pytest.fixture(scope="module")
def recipe(tmp_path_factory):
    return load_recipe(write_recipe(tmp_path_factory.mktemp("grid")))


def test_names_and_order() -> None:
    grid = cells(["dense", "chts", "narrow-dense", "chts"], [0.9, 0.95, 0.90], [2, 1], VARIANTS)
    assert [cell.name for cell in grid] == [
        *("dense-2", "chts-0.9-2", "chts-0.95-2", "narrow-dense-0.9-2", "narrow-dense-0.95-2"),
        *("dense-1", "chts-0.9-1", "chts-0.95-1", "narrow-dense-0.9-1", "narrow-dense-0.95-1"),
    ]
    assert cells(["dense", "shallow-decoder", "dense_fast"], [0.5, 0.6], [3], VARIANTS) == [
        Cell("dense", 0.0, 3), Cell("shallow-decoder", 0.0, 3), Cell("dense_fast", 0.0, 3)
    ]  # fmt: skip


@given(
    st.lists(st.sampled_from([*METHODS, *BASELINES, *VARIANTS]), min_size=1),
    st.lists(st.sampled_from([0.5, 0.9, 0.98]), min_size=1),
    st.lists(st.integers(0, 3), min_size=1),
)
def test_every_combination_once(methods, sparsities, seeds) -> None:
    grid = cells(methods, sparsities, seeds, VARIANTS)
    assert len({cell.name for cell in grid}) == len(grid)
    dense = {"dense", "shallow-decoder", "dense_fast"} & set(methods)
    n_rows = len(dense) + len(set(methods) - dense) * len(set(sparsities))
    assert len(grid) == n_rows * len(set(seeds))
    assert {cell.method for cell in grid} == set(methods)
    n = len(grid) // len(set(seeds))
    assert all(len({cell.seed for cell in grid[i : i + n]}) == 1 for i in range(0, len(grid), n))


def test_recipes_differ_where_they_are_told_to(recipe) -> None:
    plain = recipe_for(recipe, Cell("set", 0.8, 7), VARIANTS)
    assert (plain.sparsity.method, plain.sparsity.sparsity, plain.sparsity.seed) == ("set", 0.8, 7)
    assert plain.training == replace(recipe.training, seed=7)
    assert plain.model == recipe.model
    tuned = recipe_for(recipe, Cell("chts", 0.8, 7), VARIANTS)
    changed = replace(plain.sparsity, method="chts", init_scale=0.5)
    assert (tuned.sparsity, tuned.training.learning_rate) == (changed, 0.02)
    ranked = recipe_for(recipe, Cell("chts_ranked", 0.8, 7), VARIANTS)
    changed = replace(plain.sparsity, method="chts", regrowth_exponent="ranked")
    assert ranked == replace(plain, sparsity=changed)
    fast = recipe_for(recipe, Cell("dense_fast", 0.0, 7), VARIANTS)
    assert (fast.sparsity.method, fast.sparsity.sparsity) == ("dense", 0.0)
    assert fast.training.learning_rate == 0.1


def test_all_recipes_are_checked(recipe) -> None:
    grid = cells(["dense", "chtss", *BASELINES, *VARIANTS], [0.5, 0.8], [1, 2], VARIANTS)
    made = recipes_for(recipe, grid, VARIANTS)
    assert list(made) == grid
    for cell in (Cell("chts", 0.8, 2), Cell("narrow-dense", 0.5, 2), Cell("shallow-decoder", 0, 1)):
        assert made[cell] == recipe_for(recipe, cell, VARIANTS)
    assert made[Cell("narrow-dense", 0.5, 2)].model.config["dropout"] == 0.0


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"trainin": {"seed": 1}}, "row chts: unknown key trainin: did you mean training"),
        ({"training": {"max_step": 1}}, "row chts: unknown key .*did you mean training.max_steps"),
        ({"training": {"clip": "big"}}, "row chts: training.clip takes a number; got 'big'"),
        ({"model": {"config": {"width": 3}}}, "row chts: unknown key model.config.width"),
        ({"sparsity": {"exclude": [".*"]}}, "row chts: nothing to patch"),
        ({"sparsity": {"removal": "size"}}, "row chts: no removal rule 'size'"),
        ({"training": {"average_last": 3}}, "row chts: training.average_last=3 reaches back"),
    ],
)
def test_what_does_not_fit_names_the_row(recipe, changes, message) -> None:
    grid = cells(["dense", "chts"], [0.9], [1])
    with pytest.raises(ValueError, match=message):
        recipes_for(recipe, grid, {"chts": changes})


def test_one_seed_has_one_data_order_and_one_start(recipe, tmp_path, monkeypatch) -> None:
    seen: dict[str, list[torch.Tensor]] = {}

    class Recording(TranslationTrainer):
        def training_step(self, model, inputs, *args, **kwargs):
            tensors = seen.setdefault(self.args.output_dir, [model.model.shared.weight.clone()])
            tensors += [inputs["input_ids"].clone(), inputs["labels"].clone()]
            return super().training_step(model, inputs, *args, **kwargs)

    monkeypatch.setattr(run, "TranslationTrainer", Recording)
    short = replace(recipe, training=replace(recipe.training, max_steps=4, evaluate_every=4))
    grid = [*cells(["dense", "chts"], [0.7], [1]), Cell("chts", 0.7, 2)]
    for cell in grid:
        run.train(recipe_for(short, cell, {}), tmp_path / cell.name)
    dense, first, second = seen.values()
    assert len(dense) == 9
    assert all(map(torch.equal, dense, first))
    assert not torch.equal(dense[0], second[0])
    assert not all(map(torch.equal, dense[1:], second[1:]))
