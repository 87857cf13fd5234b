"""Keys and values of beam search that are copied once a token, where Transformers copies thrice.

Transformers appends to a cache by copying it, and copies it again to put beams in their new order;
it does so, too, with keys and values of the source, which are the same for all beams of a sentence.
"""

from __future__ import annotations

import functools
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from transformers.cache_utils import Cache, DynamicCache, DynamicLayer, EncoderDecoderCache

Shape = tuple[int, ...]


class BeamCache(EncoderDecoderCache):
    """A cache for ``generate`` with several beams.

    Args:
        n_tokens: Most target tokens of a sentence, the start token included.
    """

    def __init__(self, n_tokens: int) -> None:
        spares: dict[Shape, Tensor] = {}
        make = functools.partial(_Layer, n_tokens, spares)
        super().__init__(Cache(layer_class_to_replicate=make), DynamicCache())

    def reorder_cache(self, beam_idx: Int[Tensor, " rows"]) -> None:
        """Put beams in their new order; the source is the same for all beams of a sentence."""
        self.self_attention_cache.reorder_cache(beam_idx)


class _Layer(DynamicLayer):
    """Keys and values of one layer in buffers with room for all tokens.

    Tokens come first in memory: one more stands behind the others without moving any, and pages of
    tokens that are never made are never touched. A new order is written to a spare buffer, which
    takes the place of the old one; all layers share the spares.
    """

    def __init__(self, n_tokens: int, spares: dict[Shape, Tensor]) -> None:
        super().__init__()
        self._n_tokens, self._spares = n_tokens, spares
        self._made = 0

    def lazy_initialization(
        self,
        key_states: Float[Tensor, "rows heads new width"],
        value_states: Float[Tensor, "rows heads new width"],
    ) -> None:
        """Make the buffers."""
        super().lazy_initialization(key_states, value_states)
        self._keys, self._values = self._room(key_states), self._room(value_states)

    def update(
        self,
        key_states: Float[Tensor, "rows heads new width"],
        value_states: Float[Tensor, "rows heads new width"],
        *args: Any,
        **kwargs: Any,
    ) -> tuple[Tensor, Tensor]:
        """Append; returns all keys and all values so far."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        begin, self._made = self._made, self._made + key_states.shape[-2]
        self._keys[begin : self._made] = key_states.permute(2, 0, 1, 3)
        self._values[begin : self._made] = value_states.permute(2, 0, 1, 3)
        self._show()
        return self.keys, self.values

    def reorder_cache(self, beam_idx: Int[Tensor, " rows"]) -> None:
        """Row ``i`` becomes what row ``beam_idx[i]`` was."""
        self._keys = self._in_order(self._keys, beam_idx)
        self._values = self._in_order(self._values, beam_idx)
        self._show()

    def _show(self) -> None:
        self.keys = self._keys[: self._made].permute(1, 2, 0, 3)
        self.values = self._values[: self._made].permute(1, 2, 0, 3)

    def _room(self, states: Tensor) -> Tensor:
        rows, heads, _, width = states.shape
        return states.new_empty(self._n_tokens, rows, heads, width)

    def _in_order(self, room: Tensor, beam_idx: Tensor) -> Tensor:
        spare = self._spares.pop(tuple(room.shape), None)
        spare = torch.empty_like(room) if spare is None else spare
        torch.index_select(room[: self._made], 1, beam_idx, out=spare[: self._made])
        self._spares[tuple(room.shape)] = room
        return spare
