"""Attention in bfloat16 on CPUs without torch's slow backward pass."""

from __future__ import annotations

import contextlib
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from hf_chts.layers.stand_in import stands_in

_torch_attention = functional.scaled_dot_product_attention


def faster_attention() -> contextlib.AbstractContextManager[None]:
    """A context in which attention in bfloat16 on CPUs that trains computes in float32.

    torch's backward pass of it in bfloat16 takes 2 to 16 times as long as in float32, for heads
    of 32 and 64 and 16 to 128 tokens; a whole step of a small model takes twice as long by it.
    Queries, keys and values are widened and the result is narrowed again, so sums are as exact.

    Attention with dropout, of other types, on other devices, without gradients or under
    ``torch.compile`` goes to torch.
    """
    return stands_in("scaled_dot_product_attention", _attention)


def _attention(
    query: Float[Tensor, "*batch queries width"],
    key: Float[Tensor, "*batch keys width"],
    value: Float[Tensor, "*batch keys width_of_value"],
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    *args: Any,
    **kwargs: Any,
) -> Float[Tensor, "*batch queries width_of_value"]:
    if dropout_p > 0 or not _takes(query, key, value):
        return _torch_attention(query, key, value, attn_mask, dropout_p, *args, **kwargs)
    if attn_mask is not None and attn_mask.is_floating_point():
        attn_mask = attn_mask.float()
    with torch.autocast("cpu", enabled=False):  # it would narrow them again
        wide = (query.float(), key.float(), value.float())
        y = _torch_attention(*wide, attn_mask, dropout_p, *args, **kwargs)
    return y.to(value.dtype)


def _takes(*tensors: Tensor) -> bool:
    if torch.compiler.is_compiling() or torch.jit.is_tracing() or not torch.is_grad_enabled():
        return False
    return any(x.requires_grad for x in tensors) and all(
        type(x) is Tensor and x.is_cpu and x.dtype == torch.bfloat16 for x in tensors
    )
