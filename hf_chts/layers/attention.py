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
    """A context in which attention in bfloat16 on CPUs computes in float32.

    torch's backward pass of it in bfloat16 takes 2 to 16 times as long as in float32, for heads
    of 32 and 64 and 16 to 128 tokens (``scripts/bench_attention.py``). Queries, keys and values
    are widened and the result is narrowed again, so sums are as exact.

    Attention with dropout, of other types, on other devices or under ``torch.compile`` goes to
    torch.
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
    return y.to(torch.bfloat16)


def _takes(*tensors: Tensor) -> bool:
    """Whether torch would compute with these in bfloat16."""
    if torch.compiler.is_compiling() or torch.jit.is_tracing():
        return False
    types = [torch.bfloat16]
    if torch.is_autocast_enabled("cpu") and torch.get_autocast_dtype("cpu") == torch.bfloat16:
        types.append(torch.float32)  # autocast would narrow it
    return all(type(x) is Tensor and x.is_cpu and x.dtype in types for x in tensors)
