"""Tiny models of every family that the package promises to make sparse."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

import torch
import transformers as hf
from torch import nn
from transformers.pytorch_utils import Conv1D

from hf_chts import sparse_layers
from hf_chts.network.wiring import hidden_groups

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


def _bert2gpt2():
    part = {"vocab_size": VOCABULARY, "hidden_size": 16, "num_attention_heads": 2}
    encoder = hf.BertConfig(**part, num_hidden_layers=2, intermediate_size=24)
    decoder = hf.GPT2Config(
        vocab_size=VOCABULARY,
        n_embd=16,
        n_layer=2,
        n_head=2,
        n_positions=64,
        n_inner=24,
        is_decoder=True,
        add_cross_attention=True,
    )
    config = hf.EncoderDecoderConfig.from_encoder_decoder_configs(encoder, decoder)
    for key, value in SPECIAL.items():
        setattr(config, key, value)
    return hf.EncoderDecoderModel(config)


def _bigbird_pegasus():
    return hf.BigBirdPegasusConfig(**BART_LIKE, attention_type="original_full", use_bias=True)


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
    "bert2gpt2": Family(_bert2gpt2, 26, r"lm_head|pooler", base=False),
    "bigbird_pegasus": Family(_seq2seq(_bigbird_pegasus), 32),
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


def make_idle(model: nn.Module) -> None:
    """Give a sparse model idle neurons of both kinds, and biases and weights that show.

    Of feed-forward neurons a quarter loses its inputs and a quarter its outputs, of the value
    neurons in each first of two heads every other one.
    """
    generator = torch.Generator().manual_seed(3)
    layers = sparse_layers(model)
    masks = {name: layer.mask for name, layer in layers.items()}
    for group in hidden_groups(model):
        *before, behind = group
        if behind[0].axis == "out":
            continue  # queries and keys
        n_neurons = len(_mask_of(masks, behind[0]))
        step = torch.arange(n_neurons) % 4
        if re.search(r"\.(v|v_proj|value|value_proj|c_attn)$", before[0][0].layer):
            head = torch.arange(n_neurons) < n_neurons // 2
            step = torch.where(head, step % 2, 2)
        for end in (end for side in before for end in side):
            _cut(masks, end, step == 0)
        for end in behind:
            _cut(masks, end, step == 1)
    for name, layer in layers.items():
        positions = masks[name].flatten().nonzero().squeeze(1)
        layer.set_links(positions, torch.randn(len(positions), generator=generator) / 3)
        if layer.bias is not None:
            layer.bias.data.normal_(generator=generator)


def _mask_of(masks, end):
    neurons = masks[end.layer] if end.axis == "out" else masks[end.layer].t()
    return neurons if end.index is None else neurons[end.index]


def _cut(masks, end, which):
    index = torch.arange(len(which)) if end.index is None else end.index
    neurons = masks[end.layer] if end.axis == "out" else masks[end.layer].t()
    neurons[index[which]] = False


@torch.no_grad()
def logits(model: nn.Module, name: str) -> torch.Tensor:
    """Outputs in evaluation mode."""
    training = model.training
    model.eval()
    result = model(**batch(name)).logits
    model.train(training)
    return result


@torch.no_grad()
def beams(model: nn.Module, name: str, **options: object) -> torch.Tensor:
    """Beam search."""
    training = model.training
    model.eval()
    ids = batch(name)["input_ids"]
    settings = {"max_new_tokens": 5, "num_beams": 2, "do_sample": False, **options}
    result = model.generate(input_ids=ids, **settings)
    model.train(training)
    return result
