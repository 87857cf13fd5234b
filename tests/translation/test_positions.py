"""How many tokens the models of every family take."""

from __future__ import annotations

import families
import pytest
import torch
import transformers as hf

from hf_chts.translation.decode import translate
from hf_chts.translation.positions import positions
from hf_chts.translation.tokenizer import TokenizerPair, train_tokenizer

LIMITED = [
    *("marian", "bart", "mbart", "plbart", "pegasus", "blenderbot", "led", "prophetnet"),
    *("bert2bert", "roberta2roberta"),
]
"""Families that fail beyond their last position."""

WORD = 5


def make(name):
    if name != "roberta2roberta":
        return families.make(name).eval()
    part = {
        "vocab_size": families.VOCABULARY, "hidden_size": 16, "num_attention_heads": 2,
        "intermediate_size": 24, "num_hidden_layers": 1, "max_position_embeddings": 64,
        "pad_token_id": 1,
    }  # fmt: skip
    encoder = hf.RobertaConfig(**part)
    decoder = hf.RobertaConfig(**part, is_decoder=True, add_cross_attention=True)
    config = hf.EncoderDecoderConfig.from_encoder_decoder_configs(encoder, decoder)
    config.pad_token_id, config.decoder_start_token_id, config.eos_token_id = 1, 2, 3
    return hf.EncoderDecoderModel(config).eval()


@torch.no_grad()
def take(model, n_source, n_target):
    ids = torch.full((1, n_source), WORD)
    model(ids, torch.ones_like(ids), decoder_input_ids=torch.full((1, n_target), WORD))


@pytest.mark.parametrize("name", LIMITED)
def test_a_side_may_have_so_many_tokens_and_no_more(name) -> None:
    model = make(name)
    most = positions(model.config)
    take(model, most, most)
    with pytest.raises((IndexError, RuntimeError)):
        take(model, 4, most + 1)


def test_windows_fit_into_the_positions() -> None:
    model = families.make("led").eval()
    model.config.attention_window = [4, 6]
    assert positions(model.config) == 60


@pytest.mark.parametrize("name", ["t5", "mt5", "umt5"])
def test_relative_positions_have_no_end(name) -> None:
    assert positions(families.make(name).config) is None


@pytest.mark.parametrize("name", ["led", "prophetnet", "bert2bert", "roberta2roberta"])
def test_long_text_is_translated(name) -> None:
    """A source beyond the positions is cut, and the translation ends before theirs do."""
    tokenizer = train_tokenizer(["a man sits on a bench"] * 3, families.VOCABULARY)
    model = make(name)
    model.generation_config.eos_token_id = None  # it never ends by itself
    with pytest.warns(UserWarning, match="1 of 1 sentences have more than 6. tokens and were cut"):
        (made,) = translate(model, TokenizerPair(tokenizer, tokenizer), ["a man sits " * 40])
    assert isinstance(made, str)
