"""Tiny models of every family that the package promises to make sparse."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

import torch
import transformers as hf
from torch import nn
from transformers.pytorch_utils import Conv1D

VOCABULARY = 40
LENGTH = 8
SPECIAL = {"pad_token_id": 0, "eos_token_id": 1, "bos_token_id": 2, "decoder_start_token_id": 2}
BART_LIKE = {
    "vocab_size": VOCABULARY,
    "d_model": 16,
    "encoder_layers": 2,
    "decoder_layers": 2,
    "encoder_attention_heads": 2,
    "decoder_attention_heads": 2,
    "encoder_ffn_dim": 24,
    "decoder_ffn_dim": 24,
    "max_position_embeddings": 64,
    **SPECIAL,
}
T5_LIKE = {
    "vocab_size": VOCABULARY,
    "d_model": 16,
    "d_kv": 8,
    "d_ff": 24,
    "num_layers": 2,
    "num_decoder_layers": 2,
    "num_heads": 2,
    **SPECIAL,
}
LLAMA_LIKE = {
    "vocab_size": VOCABULARY,
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 4,
    "max_position_embeddings": 64,
    "pad_token_id": 0,
    "eos_token_id": 1,
    "bos_token_id": 2,
}


@dataclass(frozen=True)
class Family:
    """How to make a tiny model, and which linears of it stay dense by name."""

    make: Callable[[], nn.Module]
    n_sparse: int
    dense: str = r"lm_head"
    causal: bool = False
    base: bool = True  # whether AutoModel loads it without its head

    @property
    def auto(self):
        return hf.AutoModelForCausalLM if self.causal else hf.AutoModelForSeq2SeqLM


def _seq2seq(config):
    return lambda: hf.AutoModelForSeq2SeqLM.from_config(config())


def _causal(config):
    return lambda: hf.AutoModelForCausalLM.from_config(config())


def _led():
    return hf.LEDConfig(
        **{k: v for k, v in BART_LIKE.items() if k != "max_position_embeddings"},
        attention_window=4,
        max_encoder_position_embeddings=64,
        max_decoder_position_embeddings=64,
    )


def _prophetnet():
    return hf.ProphetNetConfig(
        vocab_size=VOCABULARY,
        hidden_size=16,
        num_encoder_layers=2,
        num_decoder_layers=2,
        num_encoder_attention_heads=2,
        num_decoder_attention_heads=2,
        encoder_ffn_dim=24,
        decoder_ffn_dim=24,
        max_position_embeddings=64,
        **SPECIAL,
    )


def _fsmt():
    common = {k: v for k, v in BART_LIKE.items() if k != "vocab_size"}
    return hf.FSMTConfig(
        langs=["en", "de"], src_vocab_size=VOCABULARY, tgt_vocab_size=VOCABULARY, **common
    )


def _bert2bert():
    part = {
        "vocab_size": VOCABULARY,
        "hidden_size": 16,
        "num_attention_heads": 2,
        "intermediate_size": 24,
        "max_position_embeddings": 64,
    }
    encoder = hf.BertConfig(**part, num_hidden_layers=2)
    decoder = hf.BertConfig(**part, num_hidden_layers=2, is_decoder=True, add_cross_attention=True)
    config = hf.EncoderDecoderConfig.from_encoder_decoder_configs(encoder, decoder)
    for key, value in SPECIAL.items():
        setattr(config, key, value)
    return hf.EncoderDecoderModel(config)


def _t5gemma():
    module = {
        **LLAMA_LIKE,
        "query_pre_attn_scalar": 4,
        "layer_types": ["full_attention"] * 2,
        "num_hidden_layers": 2,
    }
    return hf.T5GemmaConfig(
        encoder=hf.models.t5gemma.T5GemmaModuleConfig(**module),
        decoder=hf.models.t5gemma.T5GemmaModuleConfig(
            **module, is_decoder=True, cross_attention_hidden_size=16
        ),
        vocab_size=VOCABULARY,
        **SPECIAL,
    )


FAMILIES = {
    "marian": Family(_seq2seq(lambda: hf.MarianConfig(**BART_LIKE)), 32),
    "bart": Family(_seq2seq(lambda: hf.BartConfig(**BART_LIKE)), 32),
    "mbart": Family(_seq2seq(lambda: hf.MBartConfig(**BART_LIKE)), 32),
    "t5": Family(_seq2seq(lambda: hf.T5Config(**T5_LIKE)), 32),
    "t5_gated_untied": Family(
        _seq2seq(
            lambda: hf.T5Config(
                **T5_LIKE, feed_forward_proj="gated-gelu", tie_word_embeddings=False
            )
        ),
        36,
    ),
    "mt5": Family(_seq2seq(lambda: hf.MT5Config(**T5_LIKE)), 36),
    "umt5": Family(_seq2seq(lambda: hf.UMT5Config(**T5_LIKE)), 36),
    "m2m100": Family(_seq2seq(lambda: hf.M2M100Config(**BART_LIKE)), 32),
    "pegasus": Family(_seq2seq(lambda: hf.PegasusConfig(**BART_LIKE)), 32),
    "blenderbot": Family(_seq2seq(lambda: hf.BlenderbotConfig(**BART_LIKE)), 32),
    "led": Family(_seq2seq(_led), 38),
    "prophetnet": Family(_seq2seq(_prophetnet), 32, r"lm_head|relative_pos_embeddings"),
    "fsmt": Family(_seq2seq(_fsmt), 32, r"output_projection"),
    "plbart": Family(_seq2seq(lambda: hf.PLBartConfig(**BART_LIKE)), 32),
    "bert2bert": Family(_bert2bert, 32, r"decoder\.cls\.|pooler", base=False),
    "t5gemma": Family(_seq2seq(_t5gemma), 36, r"lm_head\.out_proj"),
    "llama": Family(_causal(lambda: hf.LlamaConfig(**LLAMA_LIKE)), 14, causal=True),
    "gpt2": Family(
        _causal(
            lambda: hf.GPT2Config(
                vocab_size=VOCABULARY,
                n_embd=16,
                n_layer=2,
                n_head=2,
                n_positions=64,
                pad_token_id=0,
                eos_token_id=1,
                bos_token_id=2,
            )
        ),
        8,
        causal=True,
    ),
}


def make(name: str) -> nn.Module:
    """A tiny model with fixed weights, ready to train."""
    with torch.random.fork_rng():
        torch.manual_seed(1)
        return FAMILIES[name].make().train()


def linears(model: nn.Module) -> set[str]:
    """Names of all linear layers, by their class."""
    return {n for n, m in model.named_modules() if type(m) in (nn.Linear, Conv1D)}


def expected(name: str, model: nn.Module) -> set[str]:
    """Names of the linear layers that must become sparse."""
    return {n for n in linears(model) if not re.search(FAMILIES[name].dense, n)}


def batch(name: str) -> dict[str, torch.Tensor]:
    """Inputs with labels."""
    generator = torch.Generator().manual_seed(2)
    ids = torch.randint(3, VOCABULARY, (2, LENGTH), generator=generator)
    labels = torch.randint(3, VOCABULARY, (2, LENGTH), generator=generator)
    return {"input_ids": ids, "labels": ids if FAMILIES[name].causal else labels}


@torch.no_grad()
def logits(model: nn.Module, name: str) -> torch.Tensor:
    """Outputs in evaluation mode."""
    training = model.training
    model.eval()
    result = model(**batch(name)).logits
    model.train(training)
    return result


@torch.no_grad()
def beams(model: nn.Module, name: str) -> torch.Tensor:
    """Beam search."""
    training = model.training
    model.eval()
    ids = batch(name)["input_ids"]
    result = model.generate(input_ids=ids, max_new_tokens=5, num_beams=2, do_sample=False)
    model.train(training)
    return result
