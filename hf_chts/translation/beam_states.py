"""Keys and values of beams that stay where they were made while beams change places."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention
from torch.utils._pytree import tree_map_only

from hf_chts.layers.kernels import native_attention


class BeamStates(Tensor):
    """Keys (or values) of all rows, shaped (rows, heads, tokens, width), none of them moved.

    To a model this is a tensor like any other: whatever it does with it, it does with a copy in
    order. Only ``scaled_dot_product_attention`` of one new token reads the states where they lie.

    Args:
        room: The memory; heads and features are adjacent.
        places: int32; token ``t`` of row ``r`` lies in ``room[t, places[t, r]]``. A single row of
            places holds for all tokens.
    """

    room: Float[Tensor, "tokens places heads width"]
    places: Int[Tensor, "tokens|1 rows"]
    _kept: Tensor | None

    @staticmethod
    def __new__(cls, room: Tensor, places: Tensor) -> BeamStates:
        """A tensor without memory of its own."""
        tokens, _, heads, width = room.shape
        shape = (places.shape[1], heads, tokens, width)
        made: BeamStates = Tensor._make_wrapper_subclass(
            cls, shape, dtype=room.dtype, device=room.device
        )
        made.room, made.places, made._kept = room, places, None
        return made

    def in_order(self) -> Float[Tensor, "rows heads tokens width"]:
        """A plain tensor of the same numbers, kept where the same places hold for all tokens."""
        if self._kept is not None:
            return self._kept
        tokens = torch.arange(len(self.room), device=self.room.device)
        made = self.room[tokens[:, None], self.places.long()].permute(1, 2, 0, 3)
        if len(self.places) < len(self.room):  # such as the source's, which are asked for again
            self._kept = made
        return made

    @classmethod
    def __torch_function__(
        cls,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        """What torch calls in place of any of its functions that is given such a tensor."""
        kwargs = kwargs or {}
        if func is scaled_dot_product_attention:
            attended = _attend(*args, **kwargs)
            if attended is not None:
                return attended
        if func in _FACTS:
            with torch._C.DisableTorchFunctionSubclass():
                return func(*args, **kwargs)
        args, kwargs = tree_map_only(BeamStates, lambda states: states.in_order(), (args, kwargs))
        return func(*args, **kwargs)

    @classmethod
    def __torch_dispatch__(cls, *call: Any, **kwargs: Any) -> Any:
        """Torch asks for it; all calls end in ``__torch_function__``."""
        raise NotImplementedError(f"{call[0]} of keys or values that lie where they were made")


_FACTS = {
    Tensor.shape.__get__,
    Tensor.dtype.__get__,
    Tensor.device.__get__,
    Tensor.size,
    Tensor.dim,
    Tensor.numel,
}


def _attend(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Float[Tensor, "rows heads one width"] | None:
    """``scaled_dot_product_attention`` by the native kernel; None where it cannot do it."""
    if not (type(key) is type(value) is BeamStates and type(query) is Tensor):
        return None
    rows, heads, tokens, width = key.shape
    same = key.places is value.places and key.room.shape == value.room.shape
    same = same and key.room.stride() == value.room.stride()
    plain = dropout_p == 0 and not is_causal and not enable_gqa and not query.requires_grad
    one = query.shape == (rows, heads, 1, width)
    seen = attn_mask is None or (attn_mask.dtype == torch.bool and attn_mask.shape[1:3] == (1, 1))
    if not (same and plain and one and seen):
        return None
    if not native_attention.takes(query, key.room, value.room):
        return None
    mask = None if attn_mask is None else attn_mask[:, 0, 0].expand(rows, tokens)
    scale = width**-0.5 if scale is None else scale
    made = native_attention.attend(query[:, :, 0], key.room, value.room, key.places, mask, scale)
    return made[:, :, None]
