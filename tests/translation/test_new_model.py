"""The dense model that a recipe asks for: drawn anew, or loaded."""

from __future__ import annotations

from dataclasses import replace

import families
import pytest
import torch

from hf_chts.network.linears import find_linears
from hf_chts.translation.data import load_pairs
from hf_chts.translation.model import make_model, make_tokenizers
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
