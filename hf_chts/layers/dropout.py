"""Dropout without torch's serial random numbers, of the same distribution."""

from __future__ import annotations

import contextlib
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional

from hf_chts.layers.kernels import native_dropout
from hf_chts.layers.stand_in import stands_in

_LEVELS = 1 << 16
_torch_dropout = functional.dropout


def faster_dropout() -> contextlib.AbstractContextManager[None]:
    """A context in which ``torch.nn.functional.dropout`` on CPUs runs in the native kernel.

    torch draws one double per number from one serial generator; here a hash of a seed and the
    place gives 16 bits per number, and the backward pass makes them again instead of keeping a
    mask. The seed comes from torch's generator, so ``torch.manual_seed`` and the states that
    checkpoints keep decide it; results do not depend on the number of threads. The chance to be
    dropped is rounded to a multiple of 2^-16 and the rest scaled by what was rounded to, so
    expectations are exact. A dropped number is 0, also where it was infinite.

    What the kernel cannot take goes to torch: other devices and types, ``inplace``, a probability
    that rounds to 0 or 1, models under ``torch.compile``. Without a binary all of it does.
    """
    return stands_in("dropout", _dropout)


def _dropout(
    input: Float[Tensor, "*shape"], p: float = 0.5, training: bool = True, inplace: bool = False
) -> Float[Tensor, "*shape"]:
    keep = round((1 - p) * _LEVELS)
    if not training or inplace or not 0 < keep < _LEVELS or not _takes(input):
        return _torch_dropout(input, p, training, inplace)
    seed = int(torch.empty((), dtype=torch.int64).random_())
    y: Tensor = _Dropout.apply(input, seed, keep)
    return y


def _takes(x: Tensor) -> bool:
    compiling = torch.compiler.is_compiling() or torch.jit.is_tracing()
    return type(x) is Tensor and not compiling and native_dropout.takes(x)


class _Dropout(torch.autograd.Function):
    """Linear in x, and its own transpose."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, seed: int, keep: int) -> Tensor:
        ctx.seed, ctx.keep = seed, keep
        return native_dropout.drop(x, seed, keep)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        return native_dropout.drop(grad, ctx.seed, ctx.keep), None, None
