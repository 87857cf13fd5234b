"""The tokenizers and the model that a recipe asks for."""

from __future__ import annotations

import itertools
from typing import Any

import torch
from torch import nn
from transformers import AutoConfig, AutoModelForSeq2SeqLM

from hf_chts.linears import find_linears
from hf_chts.translation.data import ParallelText
from hf_chts.translation.recipe import Recipe
from hf_chts.translation.tokenizer import TokenizerPair, train_tokenizer


def make_tokenizers(recipe: Recipe, text: ParallelText) -> TokenizerPair:
    """Train the tokenizers on the training text, or load those of a pretrained model."""
    section = recipe.tokenizer
    name = section.pretrained or recipe.model.pretrained
    if name is not None:
        return TokenizerPair.load(name, section.source_code, section.target_code)
    if section.joint:
        both = itertools.chain(text.source, text.target)
        tokenizer = train_tokenizer(both, section.vocab_size, section.kind)
        return TokenizerPair(tokenizer, tokenizer)
    return TokenizerPair(
        train_tokenizer(text.source, section.vocab_size, section.kind),
        train_tokenizer(text.target, section.vocab_size, section.kind),
    )


def make_model(recipe: Recipe, tokenizers: TokenizerPair) -> Any:
    """Load the pretrained model, or draw a new one; still dense.

    A new model gets Xavier weights in its linear layers (Glorot and Bengio 2010, as in the
    original Transformer), scaled by ``model.init_scale``.

    Raises:
        ValueError: If the family is unknown, or cannot have two vocabularies.
    """
    section = recipe.model
    if section.pretrained is not None:
        return AutoModelForSeq2SeqLM.from_pretrained(section.pretrained)
    try:
        config = AutoConfig.for_model(section.family, **section.config)
        model = AutoModelForSeq2SeqLM.from_config(_with_tokens(config, tokenizers))
    except ValueError as error:
        raise ValueError(f"model.family {section.family!r}: {error}") from None
    for finding in find_linears(model):
        if finding.sparse:
            _draw_xavier(finding.module, section.init_scale)
    generation = model.generation_config
    generation.bad_words_ids = [[config.pad_token_id]]
    generation.max_length = None
    return model


def _with_tokens(config: Any, tokenizers: TokenizerPair) -> Any:
    """The configuration with vocabulary and special tokens of the tokenizers."""
    target = tokenizers.target
    config.vocab_size = len(tokenizers.source)
    config.pad_token_id = target.pad_token_id
    config.decoder_start_token_id = target.pad_token_id
    config.eos_token_id = config.forced_eos_token_id = target.eos_token_id
    config.bos_token_id = None
    if not tokenizers.joint:
        if not hasattr(config, "share_encoder_decoder_embeddings"):
            raise ValueError(
                "two vocabularies take a model with two embedding tables, such as marian; "
                "set tokenizer.joint to true"
            )
        config.share_encoder_decoder_embeddings = False
        config.decoder_vocab_size = len(target)
    elif hasattr(config, "decoder_vocab_size"):
        config.decoder_vocab_size = len(target)
    return config


@torch.no_grad()
def _draw_xavier(linear: nn.Module, scale: float) -> None:
    nn.init.xavier_normal_(linear.weight, gain=scale)  # type: ignore[arg-type]
    if linear.bias is not None:
        nn.init.zeros_(linear.bias)  # type: ignore[arg-type]
