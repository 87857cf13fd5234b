"""A cache for beam search in which no key and no value is ever copied.

Transformers appends to a cache by copying it, and copies it again to put beams in their new order;
it does so, too, with keys and values of the source, which are the same for all beams of a sentence.
Here states stay where they were made, the source's once a sentence, and a small table says where
each row's tokens lie (:class:`hf_chts.translation.beam_states.BeamStates`).
"""

from __future__ import annotations

import functools
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from transformers.cache_utils import Cache, DynamicCache, DynamicLayer, EncoderDecoderCache
from transformers.generation import GenerateBeamEncoderDecoderOutput

from hf_chts.translation.beam_states import BeamStates

# what ``generate`` calls a cache: Transformers 5.24 changed the name, and warns of the older one
CACHE_ARGUMENT = (
    "cache" if hasattr(GenerateBeamEncoderDecoderOutput, "cache") else "past_key_values"
)


class BeamCache(EncoderDecoderCache):
    """A cache for ``generate`` with several beams.

    Args:
        n_tokens: Most target tokens of a sentence, the start token included.
        beams: Rows that each sentence has.
    """

    def __init__(self, n_tokens: int, beams: int) -> None:
        self._places = _Places(n_tokens)
        source = DynamicCache()  # some models make a new one of this class, which serves as well
        source.layer_class_to_replicate = functools.partial(_Source, beams)
        make = functools.partial(_Target, self._places)
        super().__init__(Cache(layer_class_to_replicate=make), source)

    def reorder_cache(self, beam_idx: Int[Tensor, " rows"]) -> None:
        """Row ``i`` becomes what row ``beam_idx[i]`` was; the source is the same for all beams."""
        made = self._places.table[: self.get_seq_length()]
        made.copy_(made[:, beam_idx.to(made.device)])


class _Places:
    """Where the tokens of all rows lie, the same in all layers."""

    def __init__(self, n_tokens: int) -> None:
        self.n_tokens = n_tokens
        self.table: Int[Tensor, "tokens rows"] = torch.empty(0, 0, dtype=torch.int32)

    def make(self, rows: int, device: torch.device) -> None:
        """A new token lies in its own row."""
        if not self.table.numel():
            table = torch.arange(rows, dtype=torch.int32, device=device)
            self.table = table.repeat(self.n_tokens, 1)


class _Target(DynamicLayer):
    """Keys and values of the target's tokens, with room for all of them, tokens first in memory.

    Pages of tokens that are never made are never touched.
    """

    def __init__(self, places: _Places) -> None:
        super().__init__()
        self._places, self._made = places, 0

    def lazy_initialization(
        self,
        key_states: Float[Tensor, "rows heads new width"],
        value_states: Float[Tensor, "rows heads new width"],
    ) -> None:
        """Make the buffers."""
        super().lazy_initialization(key_states, value_states)
        self._places.make(len(key_states), key_states.device)
        self._rooms = [self._room(states) for states in (key_states, value_states)]

    def update(
        self,
        key_states: Float[Tensor, "rows heads new width"],
        value_states: Float[Tensor, "rows heads new width"],
        *args: Any,
        **kwargs: Any,
    ) -> tuple[Tensor, Tensor]:
        """Append; returns all keys and all values so far.

        Raises:
            ValueError: If there is no room left.
        """
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        begin, end = self._made, self._made + key_states.shape[-2]
        if end > self._places.n_tokens:
            raise ValueError(
                f"this cache has room for {self._places.n_tokens} tokens a sentence and got "
                f"{end}: make it with a larger n_tokens, or let fewer be made (max_new_tokens)"
            )
        self._made = end
        places = self._places.table[: self._made]
        for room, states in zip(self._rooms, (key_states, value_states), strict=True):
            room[begin : self._made] = states.permute(2, 0, 1, 3)
        self.keys, self.values = (BeamStates(room[: self._made], places) for room in self._rooms)
        return self.keys, self.values

    def get_seq_length(self) -> int:
        """Tokens so far."""
        return self._made

    def _room(self, states: Tensor) -> Tensor:
        rows, heads, _, width = states.shape
        return states.new_empty(self._places.n_tokens, rows, heads, width)


class _Source(DynamicLayer):
    """Keys and values of the source's tokens, kept once for all beams of a sentence."""

    def __init__(self, beams: int) -> None:
        super().__init__()
        self._beams = beams

    def update(
        self,
        key_states: Float[Tensor, "rows heads tokens width"],
        value_states: Float[Tensor, "rows heads tokens width"],
        *args: Any,
        **kwargs: Any,
    ) -> tuple[Tensor, Tensor]:
        """Keep; called once.

        Raises:
            ValueError: If the rows of a sentence are not of one source.
        """
        self.lazy_initialization(key_states, value_states)
        rows = torch.arange(len(key_states), dtype=torch.int32, device=key_states.device)
        places = (rows // self._beams)[None]
        self.keys, self.values = (
            BeamStates(_of_sentences(states, self._beams), places)
            for states in (key_states, value_states)
        )
        return self.keys, self.values


def _of_sentences(
    states: Float[Tensor, "rows heads tokens width"], beams: int
) -> Float[Tensor, "tokens sentences heads width"]:
    """The states of each sentence's first row, those of a sentence side by side in memory."""
    kept = states[::beams]
    rounding = 1e-3 * states.abs().max()  # rows of a product may differ in their last bits
    copies = kept.repeat_interleave(beams, dim=0)
    if len(states) % beams or not ((copies - states).abs() <= rounding).all():
        raise ValueError(
            f"this cache is for {beams} beams a sentence, and the {len(states)} rows it got are "
            "not that: give BeamCache the num_beams of generate"
        )
    return kept.transpose(1, 2).contiguous().transpose(0, 1)
