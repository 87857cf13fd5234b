"""Dropout by the C++ in ``native/dropout.cpp``: float32 and bfloat16 on CPUs."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from hf_chts.layers.kernels.binary import binary, load, threads

_TYPES = (torch.float32, torch.bfloat16)


def takes(x: Tensor) -> bool:
    """Whether :func:`drop` can take this tensor."""
    return x.device.type == "cpu" and x.dtype in _TYPES and not isinstance(load(), str)


def drop(x: Float[Tensor, "*shape"], seed: int, keep: int) -> Float[Tensor, "*shape"]:
    """``x * 65536 / keep`` where a hash of ``seed`` and the place keeps a number, else 0.

    Args:
        x: What :func:`takes` takes; places are counted in row-major order.
        seed: In [0, 2^63).
        keep: Numbers kept of 65,536, in [1, 65535].
    """
    x = x.contiguous()
    y = torch.empty_like(x)
    is_bfloat16 = x.dtype == torch.bfloat16
    binary().dropout(x.numel(), x.data_ptr(), y.data_ptr(), seed, keep, is_bfloat16, threads())
    return y
