"""Links multiplied as a matrix, where that is faster than link by link: most links, matrix units.

The matrix is there for the time of a product and is never kept for the backward pass.
"""

from __future__ import annotations

import functools
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from jaxtyping import Float, Int
from torch import Tensor
from torch.autograd.function import once_differentiable

from hf_chts.layers.kernels import dense
from hf_chts.layers.kernels.binary import binary, threads

# What makes up for the matrix, which is written anew each time: tokens, and products with them.
_LEAST_TOKENS = 256
_LEAST_PRODUCTS = 1024 * 256 * 256
# Shares of links from which a matrix is faster, measured (docs/speed.md): with AMX on a Xeon,
# which multiplies dense float32 fast, too; with AVX-512's bfloat16 alone on a Zen 4; with AVX2 on a
# Zen 3, where torch has plain loops for dense bfloat16.
_WITH_AMX = {torch.float32: 0.65, torch.bfloat16: 0.2}
_WITH_AVX512_BF16 = {torch.float32: 0.95, torch.bfloat16: 0.45}
_ELSEWHERE = {torch.float32: 0.65, torch.bfloat16: float("inf")}


@functools.cache
def _least_densities() -> dict[torch.dtype, float]:
    if getattr(torch.cpu, "_is_amx_tile_supported", bool)():
        return _WITH_AMX
    has_bfloat16 = getattr(torch.cpu, "_is_avx512_bf16_supported", bool)()
    return _WITH_AVX512_BF16 if has_bfloat16 else _ELSEWHERE


def is_faster(x: Tensor, n_links: int, out_features: int, in_features: int) -> bool:
    """Whether :func:`linear` outruns the work link by link, on ``x`` in float32 or bfloat16."""
    n = x.numel()
    if n < _LEAST_TOKENS * in_features or n * out_features < _LEAST_PRODUCTS:
        return False  # first, since a few tokens are decoded in microseconds
    fits = x.shape[-1:] == (in_features,)
    return fits and n_links >= _least_densities()[x.dtype] * out_features * in_features


def linear(
    x: Float[Tensor, "*batch in"],
    values: Float[Tensor, " n_links"],
    bias: Float[Tensor, " out"] | None,
    crow: Int[Tensor, " pointers"],
    col: Int[Tensor, " n_links"],
) -> Float[Tensor, "*batch out"]:
    """``x @ W.T + bias``, computed in the type of ``x``, on the CPU."""
    with torch.autocast("cpu", enabled=False):  # it would make float32 narrower once more
        y: Tensor = _AsMatrix.apply(x, values, bias, crow, col)
    return y


class _AsMatrix(torch.autograd.Function):
    """Saves the links, not the matrix, and writes it again in the backward."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, values: Tensor, bias: Tensor | None, crow: Tensor, col: Tensor
    ) -> Tensor:
        ctx.bias_dtype = None if bias is None else bias.dtype
        ctx.save_for_backward(x, values, crow, col)
        weight = _spread(values.to(x.dtype), crow, col, x.shape[-1])
        return F.linear(x, weight, None if bias is None else bias.to(x.dtype))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, values, crow, col = ctx.saved_tensors
        grad_x, matrix, grad_bias = dense.gradients(
            grad,
            x,
            lambda: _spread(values.to(grad.dtype), crow, col, x.shape[-1]),
            ctx.needs_input_grad[:3],
        )
        grad_values = None if matrix is None else _collect(matrix, crow, col).to(values.dtype)
        grad_bias = None if grad_bias is None else grad_bias.to(ctx.bias_dtype)
        return grad_x, grad_values, grad_bias, None, None


def _spread(values: Tensor, crow: Tensor, col: Tensor, in_features: int) -> Tensor:
    """The (out, in) matrix with ``values`` at the links and 0 elsewhere."""
    values = values.contiguous()
    matrix = values.new_empty((crow.shape[0] - 1, in_features))
    _move(binary().spread, matrix, crow, col, values, matrix)
    return matrix


def _collect(matrix: Tensor, crow: Tensor, col: Tensor) -> Tensor:
    """The entries of a matrix at the links."""
    matrix = matrix.contiguous()
    values = matrix.new_empty(col.shape)
    _move(binary().collect, matrix, crow, col, matrix, values)
    return values


def _move(
    move: Any, matrix: Tensor, crow: Tensor, col: Tensor, source: Tensor, target: Tensor
) -> None:
    move(
        *matrix.shape,
        col.shape[0],
        crow.data_ptr(),
        col.data_ptr(),
        col.dtype == torch.int32,
        source.data_ptr(),
        target.data_ptr(),
        matrix.element_size(),
        threads(),
    )
