"""The dense kernel: a dense weight that exists only while it is multiplied.

It is the right kernel on GPUs, whose dense products outrun sparse ones at 10% density, and the
reference on every device. Memory: one transient (out, in) matrix, never kept for the backward.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from jaxtyping import Float, Int
from torch import Tensor

from hf_chts.layers.structure import from_csr


def why_unavailable(values: Tensor) -> str | None:
    """None: this kernel runs everywhere."""
    return None


def build_index(
    crow: Int[Tensor, " pointers"],
    col: Int[Tensor, " n_links"],
    out_features: int,
    in_features: int,
) -> tuple[Tensor, ...]:
    """Flat positions of the links, int64."""
    return (from_csr(crow, col, in_features),)


def linear(
    x: Float[Tensor, "*batch in"],
    values: Float[Tensor, " n_links"],
    bias: Float[Tensor, " out"] | None,
    index: tuple[Tensor, ...],
    out_features: int,
    in_features: int,
) -> Float[Tensor, "*batch out"]:
    """``x @ W.T + bias``, computed in the type of ``x``; gradients in the types of the inputs."""
    shape = (out_features, in_features)
    y: Tensor = _TransientWeight.apply(x, values, bias, index[0], shape)
    return y


def scatter(values: Tensor, positions: Tensor, shape: tuple[int, int]) -> Tensor:
    """The dense (out, in) matrix with ``values`` at ``positions`` and 0 elsewhere."""
    flat = values.new_zeros(shape[0] * shape[1])
    return flat.index_copy_(0, positions, values).view(shape)


class _TransientWeight(torch.autograd.Function):
    """Saves the values, not the dense weight, and rebuilds the weight in the backward."""

    generate_vmap_rule = True

    @staticmethod
    def forward(
        x: Tensor, values: Tensor, bias: Tensor | None, positions: Tensor, shape: tuple[int, int]
    ) -> Tensor:
        weight = scatter(values.to(x.dtype), positions, shape)
        return F.linear(x, weight, None if bias is None else bias.to(x.dtype))

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        x, values, bias, positions, ctx.shape = inputs
        ctx.bias_dtype = None if bias is None else bias.dtype
        ctx.save_for_backward(x, values, positions)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        x, values, positions = ctx.saved_tensors
        grad = grads[0]
        wants = ctx.needs_input_grad[:3]
        grad_x, grad_weight, grad_bias = gradients(
            grad, x, lambda: scatter(values.to(grad.dtype), positions, ctx.shape), wants
        )
        if grad_weight is not None:
            grad_weight = grad_weight.flatten().index_select(0, positions).to(values.dtype)
        if grad_bias is not None:
            grad_bias = grad_bias.to(ctx.bias_dtype)
        return grad_x, grad_weight, grad_bias, None, None


def gradients(
    grad: Float[Tensor, "*batch out"],
    x: Float[Tensor, "*batch in"],
    weight: Callable[[], Tensor],
    wants: Sequence[bool],
) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
    """Gradients of ``x``, of the dense (out, in) weight and of the bias, where they are wanted.

    Args:
        grad: Gradient of ``x @ weight.T + bias``.
        x: As in the forward pass.
        weight: Makes the weight again.
        wants: Which of the three are wanted.
    """
    rows = grad.reshape(-1, grad.shape[-1])
    return (
        grad @ weight() if wants[0] else None,
        rows.t() @ x.reshape(-1, x.shape[-1]) if wants[1] else None,
        rows.sum(0) if wants[2] else None,
    )
