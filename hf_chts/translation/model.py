"""The tokenizers and the model that a recipe asks for."""

from __future__ import annotations

import dataclasses
import difflib
import itertools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from huggingface_hub.errors import StrictDataclassError
from torch import nn
from transformers import AutoConfig, AutoModelForSeq2SeqLM

from hf_chts.network.linears import find_linears
from hf_chts.patching import plan
from hf_chts.translation.data import ParallelText
from hf_chts.translation.positions import positions
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
        ValueError: As :func:`empty_model`, and if a new model's tokenizer has no padding or no end.
    """
    section = recipe.model
    if section.pretrained is not None:
        # float32 whatever the type of the file: weights in 16 bits lose small steps
        model = AutoModelForSeq2SeqLM.from_pretrained(
            section.pretrained,
            config=_pretrained_config(recipe),
            dtype=torch.float32,
            trust_remote_code=False,
        )
        keep_frozen(model)
        return model
    config = _with_tokens(_new_config(recipe), tokenizers)
    model = AutoModelForSeq2SeqLM.from_config(config)
    for finding in find_linears(model):
        if finding.sparse:
            _draw_xavier(finding.module, section.init_scale)
    generation = model.generation_config
    generation.bad_words_ids = [[config.pad_token_id]]
    generation.forced_eos_token_id = config.eos_token_id
    generation.max_length = None
    return model


def config_of(name: str) -> Any:
    """The configuration of a saved model, by its folder or hub id; no code of its own is run.

    Raises:
        ValueError: If there is no such folder, and the hub gives no such model.
        OSError: If a folder's file cannot be read.
    """
    try:
        return AutoConfig.from_pretrained(name, trust_remote_code=False)
    except OSError as error:
        if Path(name).exists():
            raise
        raise ValueError(f"there is no folder {name}, and from the hub: {error}") from error


def empty_model(recipe: Recipe) -> Any:
    """The recipe's model without memory for its weights, to find out whether it can be made.

    Raises:
        ValueError: If the family is unknown, has no such settings, cannot be made of their values,
            cannot have two vocabularies, or has fewer positions than a training pair may have
            tokens; if settings change the sizes of a pretrained model.
    """
    section = recipe.model
    if section.pretrained is not None:
        config = _pretrained_config(recipe)
    else:
        config = _new_config(recipe)
        config.vocab_size = config.decoder_vocab_size = recipe.tokenizer.vocab_size
        config.pad_token_id = config.decoder_start_token_id = 0
        if not recipe.tokenizer.joint:
            config.share_encoder_decoder_embeddings = False
    model = _without_memory(recipe, config)
    if section.pretrained is not None and section.config:
        _refuse_other_sizes(recipe, model)
    most = positions(config)
    if most is not None and most < recipe.data.max_length:
        raise ValueError(
            f"the model has {most} positions for the tokens of a side, fewer than "
            f"data.max_length={recipe.data.max_length}: lower the one or raise the other"
        )
    return model


def _without_memory(recipe: Recipe, config: Any) -> Any:
    try:
        with torch.device("meta"):
            return AutoModelForSeq2SeqLM.from_config(config)
    except Exception as error:  # whatever values that nobody has tried lead to
        raise ValueError(_told(recipe, error)) from error


def _refuse_other_sizes(recipe: Recipe, model: Any) -> None:
    """Refuse settings by which a pretrained model's weights do not fit, or are no longer shared."""
    name = recipe.model.pretrained or ""
    saved = dict(_without_memory(recipe, config_of(name)).named_parameters())  # shared ones once
    asked = dict(model.named_parameters())
    other = [key for key in saved | asked if _shape(saved, key) != _shape(asked, key)]
    if other:
        raise ValueError(
            f"model.config changes the sizes of model.pretrained {name!r} ({other[0]} is "
            f"{_shape(saved, other[0])} there and {_shape(asked, other[0])} by model.config): "
            "leave sizes out, all at once by model.config={}"
        )


def _shape(state: Mapping[str, nn.Parameter], key: str) -> str:
    return " x ".join(map(str, state[key].shape)) if key in state else "missing"


def settled(recipe: Recipe) -> Recipe:
    """The recipe with the method that ``"auto"`` means for its model.

    Raises:
        ValueError: As :func:`empty_model`, and if the model cannot be made sparse in that way.
    """
    method = plan(empty_model(recipe), recipe.sparsity)[2].method
    return dataclasses.replace(recipe, sparsity=dataclasses.replace(recipe.sparsity, method=method))


@torch.no_grad()
def refuse_misfit(recipe: Recipe, model: Any, batch: dict[str, torch.Tensor]) -> None:
    """Pass a batch through a new model as in training, to find out whether that can be done.

    Random numbers are drawn by the way: seed anew before those that count.

    Raises:
        ValueError: If it cannot, for example since a rate of dropout is above 1.
    """
    try:
        model.train()(**batch)
    except Exception as error:  # likewise
        raise ValueError(f"{_told(recipe, error)} (at the longest training pair)") from error


def keep_frozen(model: Any) -> None:
    """Freeze in a loaded model what a new one keeps frozen, such as Marian's table of positions.

    Transformers forgets it when it loads a dense model.
    """
    with torch.device("meta"):
        new = type(model)(model.config)
    frozen = {name for name, parameter in new.named_parameters() if not parameter.requires_grad}
    for name, parameter in model.named_parameters():
        if name in frozen:
            parameter.requires_grad_(False)


def _pretrained_config(recipe: Recipe) -> Any:
    """The configuration of the pretrained model, with what a recipe changes in it."""
    section = recipe.model
    config = config_of(section.pretrained or "")
    _refuse_bad_settings(section.config, config)
    try:
        for key, value in section.config.items():
            setattr(config, key, value)
    except Exception as error:  # values that nobody has tried
        raise ValueError(_told(recipe, error)) from error
    return config


def _refuse_bad_settings(settings: Mapping[str, Any], config: Any) -> None:
    """Refuse fields that a family has not, and counts below 0."""
    for key in settings:
        if not hasattr(config, key):
            close = difflib.get_close_matches(key, config.to_dict(), n=1)
            hint = f"; did you mean {close[0]}?" if close else ""
            raise ValueError(f"unknown key model.config.{key}: {config.model_type} has none{hint}")
    for key, value in settings.items():
        if isinstance(value, int) and value < 0 and not key.endswith("_id"):
            raise ValueError(f"model.config.{key} must be at least 0; got {value}")


def _new_config(recipe: Recipe) -> Any:
    """The configuration that a recipe writes out."""
    section = recipe.model
    try:
        config = AutoConfig.for_model(section.family)
    except ValueError as error:
        raise ValueError(_told(recipe, error)) from None
    _refuse_bad_settings(section.config, config)
    if not recipe.tokenizer.joint and not hasattr(config, "share_encoder_decoder_embeddings"):
        raise ValueError(
            "two vocabularies take a model with two embedding tables, such as marian; "
            "set tokenizer.joint to true"
        )
    try:
        return AutoConfig.for_model(section.family, **section.config)
    except Exception as error:  # likewise
        raise ValueError(_told(recipe, error)) from error


def _told(recipe: Recipe, error: Exception) -> str:
    """What made an error of Transformers, and its text without the list of all models there are."""
    section = recipe.model
    strict = isinstance(error, StrictDataclassError)
    text = str(error) if strict else str(error).split("\n")[0].split(" Should contain one of")[0]
    if section.pretrained is not None:
        where = f"model.pretrained {section.pretrained!r}"
    elif text.startswith("Unrecognized"):
        where = f"model.family {section.family!r}"
    else:
        where = "model.config"
    kind = "" if strict or isinstance(error, ValueError) else f"{type(error).__name__}: "
    return f"{where}: {kind}{text}"


def _with_tokens(config: Any, tokenizers: TokenizerPair) -> Any:
    """The configuration with vocabulary and special tokens of the tokenizers."""
    target = tokenizers.target
    for name in ("pad_token", "eos_token"):
        if getattr(target, name) is None:
            raise ValueError(
                f"a new model takes a tokenizer with a {name}, and tokenizer.pretrained has none: "
                "give it one and save it again, or have a tokenizer trained"
            )
    config.vocab_size = len(tokenizers.source)
    config.pad_token_id = target.pad_token_id
    config.decoder_start_token_id = target.pad_token_id
    config.eos_token_id = target.eos_token_id
    if hasattr(config, "forced_eos_token_id"):  # others cannot be saved with it
        config.forced_eos_token_id = target.eos_token_id
    config.bos_token_id = None
    if not tokenizers.joint:
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
