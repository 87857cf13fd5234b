"""A number type for which the processor has no fast products."""

from __future__ import annotations

import warnings
from dataclasses import replace

import pytest
import torch
from tiny_comparisons import write_recipe
from tiny_training import marian, trainer_of

from hf_chts.comparison.grid import Cell, recipes_for
from hf_chts.training import precision
from hf_chts.translation.recipe import load_recipe

TOLD = "no fast way to multiply dense matrices in bfloat16.* take training.precision=fp32"


@pytest.fixture(params=[True, False])
def is_fast(request, monkeypatch):
    monkeypatch.setattr(precision, "_multiplies_bfloat16", lambda: request.param)
    return request.param


def make_trainer(folder, training_precision) -> None:
    trainer_of(marian(), folder, bf16=training_precision == "bf16")


def make_comparison(folder, training_precision) -> None:
    recipe = load_recipe(write_recipe(folder))
    recipe = replace(recipe, training=replace(recipe.training, precision=training_precision))
    recipes_for(recipe, [Cell("dense", 0.0, 1), Cell("set", 0.8, 1)], {})


@pytest.mark.parametrize("make", [make_trainer, make_comparison])
def test_bfloat16_is_told_where_it_is_slow(make, is_fast, tmp_path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        make(tmp_path, "fp32")
        if is_fast:
            make(tmp_path, "bf16")
            return
    with pytest.warns(UserWarning, match=TOLD):
        make(tmp_path, "bf16")


@pytest.mark.parametrize(("capability", "expected"), [("AVX2", False), ("AVX512", True)])
def test_processors_of_this_kind(capability, expected) -> None:
    if torch.backends.cpu.get_cpu_capability() != capability:
        pytest.skip(f"this processor has no {capability}, or more")
    assert precision._multiplies_bfloat16() is expected


def test_without_onednn_nothing_is_known(monkeypatch) -> None:
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: False)
    assert precision._multiplies_bfloat16()
