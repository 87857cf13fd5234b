"""Dense models of other sizes."""

from __future__ import annotations

from dataclasses import replace

import pytest
from tiny_comparisons import write_recipe

from hf_chts import SparsityConfig, sparsify
from hf_chts.comparison.baselines import n_weights
from hf_chts.comparison.grid import Cell, recipe_for
from hf_chts.translation.data import load_pairs
from hf_chts.translation.model import empty_model, make_model, make_tokenizers
from hf_chts.translation.recipe import load_recipe

FAMILIES = {
    "marian": {},
    "bart": {"encoder_layers": 1, "decoder_layers": 3},
    "t5": {"d_model": 48, "d_ff": 96, "d_kv": 16, "num_heads": 3, "num_layers": 2},
    "mt5": {"d_model": 48, "d_ff": 96, "d_kv": 12, "num_heads": 4, "num_decoder_layers": 1},
}


def of_family(recipe, family):
    config = recipe.model.config if "5" not in family else {}
    model = replace(recipe.model, family=family, config={**config, **FAMILIES[family]})
    return replace(recipe, model=model)


@pytest.fixture(scope="module")
def recipe(tmp_path_factory):
    return load_recipe(write_recipe(tmp_path_factory.mktemp("baselines")))


def weights(recipe, method, sparsity):
    """Trained numbers of a model that is really made."""
    made = recipe_for(recipe, Cell(method, sparsity, 1), {})
    model = make_model(made, make_tokenizers(made, load_pairs(made.data.train)))
    sparsify(model, made.sparsity)
    counted = n_weights(made)
    assert counted == sum(p.numel() for p in model.parameters() if p.requires_grad)
    return counted


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("sparsity", [0.5, 0.9])
def test_as_many_weights_as_the_sparse_model(recipe, family, sparsity) -> None:
    recipe = of_family(recipe, family)
    narrow, full = weights(recipe, "narrow-dense", sparsity), weights(recipe, "dense", 0.0)
    assert narrow == pytest.approx(weights(recipe, "set", sparsity), rel=0.01)
    assert narrow < full


def test_two_vocabularies_are_counted_twice(recipe) -> None:
    recipe = replace(recipe, tokenizer=replace(recipe.tokenizer, joint=False))
    narrow = weights(recipe, "narrow-dense", 0.8)
    assert narrow == pytest.approx(weights(recipe, "set", 0.8), rel=0.01)


def test_heads_and_layers_stay(recipe) -> None:
    full = empty_model(recipe).config
    narrow = empty_model(recipe_for(recipe, Cell("narrow-dense", 0.9, 1), {})).config
    assert narrow.d_model % 4 == 0
    assert narrow.d_model < full.d_model
    proportion = narrow.encoder_ffn_dim / narrow.decoder_ffn_dim
    assert proportion == pytest.approx(48 / 64, rel=0.05)
    same = ("encoder_attention_heads", "decoder_attention_heads", "encoder_layers")
    for name in (*same, "decoder_layers", "vocab_size", "dropout"):
        assert getattr(narrow, name) == getattr(full, name)


def test_sparsity_0_is_the_model_itself(recipe) -> None:
    narrow = recipe_for(recipe, Cell("narrow-dense", 0.0, 1), {})
    assert n_weights(narrow) == n_weights(recipe_for(recipe, Cell("dense", 0.0, 1), {}))


@pytest.mark.parametrize(
    ("family", "field"), [("bart", "decoder_layers"), ("t5", "num_decoder_layers")]
)
def test_shallow_decoder(recipe, family, field) -> None:
    recipe = of_family(recipe, family)
    made = recipe_for(recipe, Cell("shallow-decoder", 0.0, 1), {})
    assert made.model.config == {**recipe.model.config, field: 1}
    assert made.sparsity == SparsityConfig(
        method="dense", sparsity=0.0, seed=1, update_interval=2, stop_fraction=0.8
    )


@pytest.mark.parametrize("method", ["narrow-dense", "shallow-decoder"])
def test_what_has_no_such_sizes(recipe, method) -> None:
    pretrained = replace(recipe, model=replace(recipe.model, pretrained="some/model"))
    with pytest.raises(ValueError, match=f"{method} is a model of another size, for which some/"):
        recipe_for(pretrained, Cell(method, 0.9, 1), {})
    other = replace(recipe, model=replace(recipe.model, family="prophetnet", config={}))
    with pytest.raises(ValueError, match=f"{method}: the sizes of model.family 'prophetnet'"):
        recipe_for(other, Cell(method, 0.9, 1), {})


def test_no_width_comes_near(recipe) -> None:
    config = {"encoder_attention_heads": 16, "decoder_attention_heads": 32, "vocab_size": 50}
    config = {**recipe.model.config, **config, "encoder_ffn_dim": 1, "decoder_ffn_dim": 1}
    wide = replace(recipe, model=replace(recipe.model, config=config))
    with pytest.raises(ValueError, match="heads of 32 to a layer comes near the"):
        recipe_for(wide, Cell("narrow-dense", 0.9, 1), {})
