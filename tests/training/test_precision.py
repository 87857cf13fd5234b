"""bfloat16 on processors that have no fast way to multiply it."""

from __future__ import annotations

import re
import warnings
from dataclasses import replace

import pytest
import torch
from tiny_comparisons import write_recipe
from tiny_training import marian, trainer_of

from hf_chts.comparison.grid import Cell, recipes_for
from hf_chts.training import precision
from hf_chts.translation.recipe import load_recipe

TOLD = "linear layers are dense, which this processor .* bfloat16: .* training.precision=fp32, or"


@pytest.fixture(params=[True, False])
def is_fast(request, monkeypatch):
    monkeypatch.setattr(precision, "multiplies_bfloat16", lambda: request.param)
    return request.param


def told(make) -> list[str]:
    """What users are told about dense layers."""
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        make()
    texts = [str(each.message) for each in seen]
    return [text for text in texts if re.search(TOLD, text)]


@pytest.mark.parametrize("bf16", [True, False])
@pytest.mark.parametrize("method", ["set", "dense"])
def test_trainers_tell_of_dense_layers(method, bf16, is_fast, tmp_path) -> None:
    model = marian(method=method)
    found = told(lambda: trainer_of(model, tmp_path, bf16=bf16))
    n_linear = 6 + 10  # of one layer each; the head is none of them
    dense = [f"{n_linear} linear layers are dense"] if method == "dense" else []
    expected = dense if bf16 and not is_fast else []
    assert [text.partition(",")[0] for text in found] == expected


@pytest.mark.parametrize("asked", ["fp32", "bf16"])
def test_comparisons_tell_of_dense_rows(asked, is_fast, tmp_path) -> None:
    recipe = load_recipe(write_recipe(tmp_path))
    recipe = replace(recipe, training=replace(recipe.training, precision=asked))
    sparse, dense = Cell("set", 0.8, 1), Cell("dense", 0.0, 1)
    assert told(lambda: recipes_for(recipe, [sparse], {})) == []
    found = told(lambda: recipes_for(recipe, [sparse, dense], {}))
    assert len(found) == (asked == "bf16" and not is_fast)


@pytest.mark.parametrize(("capability", "expected"), [("AVX2", False), ("AVX512", True)])
def test_processors_of_this_kind(capability, expected) -> None:
    if torch.backends.cpu.get_cpu_capability() != capability:
        pytest.skip(f"torch takes another instruction set than {capability} here")
    assert precision.multiplies_bfloat16() is expected


def test_without_onednn_nothing_is_known(monkeypatch) -> None:
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: False)
    assert precision.multiplies_bfloat16()
