from __future__ import annotations

from collections import Counter

import pytest
from families import FAMILIES, expected, make

from hf_chts.analysis.network import Undefined
from hf_chts.analysis.parts import Part, Summary, by_part, in_order, summarise

ENCODER = {("encoder", "self-attention"): 8, ("encoder", "feed-forward"): 4}
DECODER = {("decoder", "self-attention"): 8, ("decoder", "cross-attention"): 8}
TWO_STACKS = {**ENCODER, **DECODER, ("decoder", "feed-forward"): 4}
GATED = {**TWO_STACKS, ("encoder", "feed-forward"): 6, ("decoder", "feed-forward"): 6}
COUNTS = {
    **dict.fromkeys(("t5_gated_untied", "mt5", "umt5", "t5gemma"), GATED),
    "led": {**TWO_STACKS, ("encoder", "self-attention"): 14},
    "llama": {("other", "self-attention"): 8, ("other", "feed-forward"): 6},
    "bert2gpt2": {
        **ENCODER,
        ("decoder", "self-attention"): 4,
        ("decoder", "cross-attention"): 6,
        ("decoder", "feed-forward"): 4,
    },
    "gpt2": {("other", "self-attention"): 4, ("other", "feed-forward"): 4},
}


@pytest.mark.parametrize("name", FAMILIES)
def test_every_layer_of_every_family_has_its_part(name) -> None:
    found = Counter(by_part(layer) for layer in expected(name, make(name)))
    assert found == COUNTS.get(name, TWO_STACKS)


@pytest.mark.parametrize(
    ("name", "part"),
    [
        ("decoder.bert.encoder.layer.3.crossattention.self.query", "decoder cross-attention"),
        ("decoder.bert.encoder.layer.3.attention.output.dense", "decoder self-attention"),
        ("decoder.bert.encoder.layer.3.output.dense", "decoder feed-forward"),
        ("transformer.h.0.crossattention.q_attn", "other cross-attention"),
        ("transformer.decoder.layers.0.multihead_attn.out_proj", "decoder cross-attention"),
        ("transformer.encoder.layers.0.linear2", "encoder feed-forward"),
        ("model.encoder.layers.0.ffn.experts.expert_0.fc1", "encoder feed-forward"),
        ("model.encoder.layers.0.fc1 > model.encoder.layers.0.fc2", "encoder feed-forward"),
        ("decoder.cls.predictions.transform.dense", "decoder other"),
        ("lm_head", "other other"),
        ("0", "other other"),
        ("autoencoder.attn_norm", "other other"),  # parts of words do not count
    ],
)
def test_parts_of_names(name, part) -> None:
    assert str(by_part(name)) == part


def test_summary_by_part() -> None:
    found = summarise(
        {
            "model.decoder.layers.0.fc1": 1.0,
            "model.decoder.layers.0.fc2": Undefined("no path"),
            "model.decoder.layers.1.fc1": 4.0,
            "model.decoder.layers.0.encoder_attn.q_proj": 7,
            "model.encoder.layers.0.self_attn.q_proj": Undefined("no link"),
        }
    )
    assert found == {
        Part("decoder", "feed-forward"): Summary(2, 1, 2.5, 1.5, 1.0, 4.0),
        Part("decoder", "cross-attention"): Summary(1, 0, 7.0, 0.0, 7.0, 7.0),
        Part("encoder", "self-attention"): Undefined("no link"),
    }
    assert list(found) == sorted(found, key=in_order)
    assert [part.stack for part in found] == ["encoder", "decoder", "decoder"]
    assert summarise({}) == {}


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_numbers_that_are_none_are_refused(value) -> None:
    with pytest.raises(ValueError, match=r"fc1 has the value .*give a finite number or Undefined"):
        summarise({"fc1": value})
