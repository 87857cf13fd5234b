"""Which part of a Transformer a layer belongs to, and measures summarised by part."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np

from hf_chts.analysis.network import Undefined

Stack = Literal["encoder", "decoder", "other"]
Block = Literal["self-attention", "cross-attention", "feed-forward", "other"]

_STACKS: tuple[Stack, ...] = ("encoder", "decoder", "other")
_BLOCKS: dict[Block, str] = {  # the first that is found counts
    "cross-attention": (
        r"\b(encoder_attn|EncDecAttention|cross_?attn|crossattention|multihead_attn)\b"
    ),
    "self-attention": r"\b(self_attn|SelfAttention|attn|attention)\b",
    "feed-forward": (
        r"\b(fc\d|linear\d|mlp|ffn|feed_forward|DenseReluDense|(intermediate|output)\.dense)\b"
    ),
}


class Part(NamedTuple):
    """A part of a Transformer.

    Attributes:
        stack: ``encoder`` or ``decoder``; ``other`` where the name says neither, as in models of
            one stack (GPT-2, LLaMA).
        block: What the layer works for; ``other`` for embeddings, heads and plain layers.
    """

    stack: Stack
    block: Block

    def __str__(self) -> str:
        return f"{self.stack} {self.block}"


@dataclass(frozen=True)
class Summary:
    """A measure over the layers of one part.

    Attributes:
        n_layers: Layers where it is defined, at least 1.
        n_undefined: Layers where it is not.
        mean: Mean over the former, each layer counting alike.
        standard_deviation: Their standard deviation (of the population), at least 0.
        minimum: The lowest value.
        maximum: The highest value.
    """

    n_layers: int
    n_undefined: int
    mean: float
    standard_deviation: float
    minimum: float
    maximum: float


def by_part(name: str) -> Part:
    """The part that a layer belongs to, by the names that Transformers' families use.

    Args:
        name: Qualified name of a layer, or of a group of neurons
            (:func:`hf_chts.analysis.whole_network.group_name`).
    """
    words = re.findall(r"\w+", name)
    # the first one: layers of a BERT decoder are called decoder.bert.encoder.layer
    stacks = (stack for word in words for stack in _STACKS if word == stack)
    blocks = (block for block, pattern in _BLOCKS.items() if re.search(pattern, name))
    return Part(next(stacks, "other"), next(blocks, "other"))


def summarise(values: Mapping[str, float | Undefined]) -> dict[Part, Summary | Undefined]:
    """Summarise a measure of layers, or of groups of neurons, by the part they belong to.

    Args:
        values: The measure by name of the layer or group.

    Returns:
        A row a part: encoder before decoder, self-attention before cross-attention before
        feed-forward. Undefined where it is undefined in every layer of the part.

    Raises:
        ValueError: If a value is not a finite number.
    """
    parts: dict[Part, list[float | Undefined]] = {}
    for name, value in values.items():
        if not (isinstance(value, Undefined) or math.isfinite(value)):
            raise ValueError(f"{name} has the value {value}: give a finite number or Undefined")
        parts.setdefault(by_part(name), []).append(value)
    return {part: _summary(parts[part]) for part in sorted(parts, key=in_order)}


def in_order(part: Part) -> tuple[int, int]:
    """A key that sorts parts: by stack, then self-, cross-attention, feed-forward, other."""
    blocks = ("self-attention", "cross-attention", "feed-forward", "other")
    return _STACKS.index(part.stack), blocks.index(part.block)


def _summary(values: list[float | Undefined]) -> Summary | Undefined:
    missing = [value for value in values if isinstance(value, Undefined)]
    known = np.array([value for value in values if not isinstance(value, Undefined)], dtype=float)
    if not known.size:
        return missing[0]
    spread = float(known.std())
    low, high = float(known.min()), float(known.max())
    return Summary(known.size, len(missing), float(known.mean()), spread, low, high)
