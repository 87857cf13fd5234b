"""The dense model that a recipe asks for: drawn anew, or loaded."""

from __future__ import annotations

from dataclasses import replace

import families
import pytest
import torch

from hf_chts.network.linears import find_linears
from hf_chts.translation.data import load_pairs
from hf_chts.translation.model import empty_model, make_model, make_tokenizers
from hf_chts.translation.tokenizer import train_tokenizer


def made(recipe, **model):
    section = replace(recipe.model, **model)
    recipe = replace(recipe, model=section)
    torch.manual_seed(0)
    return make_model(recipe, make_tokenizers(recipe, load_pairs(recipe.data.train)))


def test_weights_are_xaviers_times_the_scale(recipe) -> None:
    """Variance 2 / (inputs + outputs), biases 0; what never becomes sparse is not scaled."""
    whole, half = made(recipe), made(recipe, init_scale=0.5)
    layers = dict(half.named_modules())
    draws = []
    for finding in find_linears(whole):
        weight, halved = finding.module.weight, layers[finding.name].weight
        factor = 0.5 if finding.sparse else 1
        assert torch.allclose(halved, factor * weight), finding.name
        if finding.sparse:
            draws.append(weight.flatten() * (sum(weight.shape) / 2) ** 0.5)
            assert not finding.module.bias.any()
    assert torch.cat(draws).std().item() == pytest.approx(1, abs=0.05)


def test_tokens_are_those_of_the_tokenizer(recipe) -> None:
    """Every hypothesis ends, and none holds padding."""
    model, tokenizer = made(recipe), make_tokenizers(recipe, load_pairs(recipe.data.train)).target
    assert model.config.vocab_size == len(tokenizer)
    assert model.config.decoder_start_token_id == model.config.pad_token_id
    assert model.config.pad_token_id == tokenizer.pad_token_id
    generation = model.generation_config
    assert generation.forced_eos_token_id == generation.eos_token_id == tokenizer.eos_token_id
    assert generation.bad_words_ids == [[tokenizer.pad_token_id]]


def test_a_pretrained_model_trains_in_float32(recipe, tmp_path) -> None:
    """Also where its file is in 16 bits, in which small steps are lost."""
    families.make("marian").to(torch.bfloat16).save_pretrained(tmp_path)
    train_tokenizer(["a man sits"] * 3, families.VOCABULARY).save_pretrained(tmp_path)
    model = made(recipe, pretrained=str(tmp_path), config={})
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
    frozen = {name for name, p in model.named_parameters() if not p.requires_grad}
    assert frozen == {f"model.{side}.embed_positions.weight" for side in ("encoder", "decoder")}


@pytest.fixture
def saved(tmp_path) -> str:
    """A pretrained Marian, of width 16."""
    families.make("marian").save_pretrained(tmp_path)
    train_tokenizer(["a man sits"] * 3, families.VOCABULARY).save_pretrained(tmp_path)
    return str(tmp_path)


def test_settings_change_a_pretrained_model(recipe, saved) -> None:
    """What it does while it trains; weights and all other fields are those that were saved."""
    model = made(recipe, pretrained=saved, config={"dropout": 0.3, "d_model": 16})
    loaded = families.FAMILIES["marian"].auto.from_pretrained(saved)
    assert (model.config.dropout, loaded.config.dropout) == (0.3, 0.1)
    assert model.model.encoder.layers[0].dropout == 0.3
    assert model.config.to_diff_dict() == loaded.config.to_diff_dict() | {"dropout": 0.3}
    assert all(map(torch.equal, model.state_dict().values(), loaded.state_dict().values()))


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"d_model": 32}, "changes the sizes of .* is 40 x 16 there and 40 x 32 by model.config"),
        ({"encoder_layers": 3}, "is missing there and .* leave sizes out, all at once by"),
        ({"encoder_layers": 1}, "and missing by model.config"),
        ({"tie_word_embeddings": False}, "embed_tokens.weight is missing there and 40 x 16 by"),
        ({"dropuot": 0.1}, "unknown key model.config.dropuot: marian has none; did you mean drop"),
        ({"encoder_layers": -1}, "model.config.encoder_layers must be at least 0; got -1"),
        ({"dropout": "much"}, r"model.pretrained .*field .dropout.:\n.*much"),
    ],
)
def test_settings_that_a_pretrained_model_cannot_take(recipe, saved, config, message) -> None:
    section = replace(recipe.model, pretrained=saved, config=config)
    with pytest.raises(ValueError, match=message):
        empty_model(replace(recipe, model=section))
