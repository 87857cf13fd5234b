"""Attention of one new token a row by the C++ in ``native/attention.cpp``: float32 on CPUs."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from hf_chts.layers.kernels.binary import binary, check_memory, load, threads


def takes(*tensors: Tensor) -> bool:
    """Whether :func:`attend` can take these as query, keys and values."""
    return not isinstance(load(), str) and all(
        tensor.device.type == "cpu" and tensor.dtype == torch.float32 for tensor in tensors
    )


def attend(
    query: Float[Tensor, "rows heads width"],
    keys: Float[Tensor, "tokens places heads width"],
    values: Float[Tensor, "tokens places heads width"],
    rows: Int[Tensor, "tokens|1 rows"],
    mask: Bool[Tensor, "rows tokens"] | None,
    scale: float,
) -> Float[Tensor, "rows heads width"]:
    """``softmax(scale * query @ keys.T) @ values`` of each row, with no gradient.

    Args:
        query: What :func:`takes` takes.
        keys: Token ``t`` of row ``r`` is ``keys[t, rows[t, r]]``; heads and features adjacent.
        values: Likewise, with the same strides.
        rows: int32, each below ``places``; of one row if it is the same for all tokens.
        mask: True for tokens that are seen; None if all are. A row that sees none gets zeros.
        scale: Of the scores.
    """
    query, rows = query.contiguous(), rows.contiguous()
    mask = mask if mask is None or mask.stride(1) == 1 else mask.contiguous()
    n_rows, heads, width = query.shape
    y = torch.empty_like(query)
    finished = binary().run_attention(
        n_rows,
        keys.shape[0],
        heads,
        width,
        query.data_ptr(),
        keys.data_ptr(),
        values.data_ptr(),
        keys.stride(0),
        keys.stride(1),
        rows.data_ptr(),
        0 if rows.shape[0] == 1 else rows.stride(0),
        None if mask is None else mask.data_ptr(),
        0 if mask is None else mask.stride(0),
        scale,
        y.data_ptr(),
        threads(),
    )
    check_memory(finished)
    return y
