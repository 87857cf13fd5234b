"""The native kernel: float32 on CPUs, by the C++ in ``native/``.

``native/kernels.cpp`` explains how it works. This module builds its index and makes it an operator
of torch, ``torch.ops.hf_chts.sparse_linear``, which differentiates, compiles and exports.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.autograd.function import once_differentiable

from hf_chts.layers.kernels import dense, native_matrix
from hf_chts.layers.kernels.binary import binary, check_memory, load, threads

_COMPUTES = (torch.float32, torch.bfloat16)  # the types of x; sums are in float32


def isa() -> str | None:
    """The instruction set in use (``avx512``, ``avx2`` or ``baseline``); None without a binary."""
    loaded = load()
    return None if isinstance(loaded, str) else loaded.isa


def why_unavailable(values: Tensor) -> str | None:
    """Why this kernel cannot take these link weights; None if it can."""
    if values.device.type != "cpu":
        return f"it runs on CPUs and the layer is on {values.device.type}"
    if values.dtype != torch.float32:
        return f"it computes with float32 weights and the layer has {values.dtype}"
    loaded = load()
    return loaded if isinstance(loaded, str) else None


def build_index(
    crow: Int[Tensor, " pointers"],
    col: Int[Tensor, " n_links"],
    out_features: int,
    in_features: int,
) -> tuple[Tensor, ...]:
    """The links in row-major order (as given) and both views of them, in one tensor of bytes.

    Raises:
        ValueError: If the indices are not sound, or the layer is too wide.
    """
    native = binary()
    if max(out_features, in_features) >= native.max_lines():
        raise ValueError(
            f"the native kernel takes widths below {native.max_lines()}; got a layer of "
            f"{out_features} x {in_features}: use kernel='dense'"
        )
    crow = crow.to(torch.int32).contiguous()
    col = (col if col.dtype == torch.int16 else col.to(torch.int32)).contiguous()
    if crow.shape != (out_features + 1,) or col.dim() != 1:
        raise ValueError(
            f"expected {out_features + 1} row pointers and a list of columns; got shapes "
            f"{tuple(crow.shape)} and {tuple(col.shape)}"
        )
    sizes = (out_features, in_features, col.numel())
    views = torch.empty(native.index_bytes(*sizes), dtype=torch.uint8)
    wide = col.dtype == torch.int32
    if not native.build_index(*sizes, crow.data_ptr(), col.data_ptr(), wide, views.data_ptr()):
        raise ValueError(
            f"row pointers must rise from 0 to {col.numel()}, and columns strictly within each "
            f"row, in [0, {in_features}); these do not"
        )
    return crow, col, views


def linear(
    x: Float[Tensor, "*batch in"],
    values: Float[Tensor, " n_links"],
    bias: Float[Tensor, " out"] | None,
    index: tuple[Tensor, ...],
    out_features: int,
    in_features: int,
) -> Float[Tensor, "*batch out"]:
    """``x @ W.T + bias`` in the type of ``x``; float32 inside, other types by a cast.

    Many links are multiplied as a matrix where that is faster (``native_matrix``).
    Transforms of ``torch.func`` (``grad``, ``vmap``, ``jacrev``), which follow operations and not
    memory, are computed by the dense kernel.

    Raises:
        ValueError: If the shapes do not fit, or something is not on the CPU.
    """
    if x.dtype not in _COMPUTES:
        return linear(x.float(), values, bias, index, out_features, in_features).to(x.dtype)
    # Eager mode goes past torch's dispatcher, which would cost more than a small layer's work.
    if torch.compiler.is_compiling() or torch.jit.is_tracing() or type(x) not in _PLAIN:
        y: Tensor = torch.ops.hf_chts.sparse_linear(x, values, bias, *index, in_features)
    elif torch._C._are_functorch_transforms_active():
        positions = dense.build_index(index[0], index[1], out_features, in_features)
        y = dense.linear(x, values, bias, positions, out_features, in_features)
    elif native_matrix.is_faster(x, values.numel(), out_features, in_features):
        _check(x, values, bias, index[1], [out_features, in_features])
        y = native_matrix.linear(x, values, bias, *index[:2])
    elif not torch.is_grad_enabled():  # decoding one token, autograd's books take long
        crow, col, views = index
        y = _forward(x, values, bias, crow, col, views, in_features)
    else:
        y = _Eager.apply(x, values, bias, *index, in_features)
    return y


_PLAIN = (Tensor, torch.nn.Parameter)
_LIBRARY = torch.library.Library("hf_chts", "DEF")
_LIBRARY.define(
    "sparse_linear(Tensor x, Tensor values, Tensor? bias, Tensor crow, Tensor col, Tensor views,"
    " int in_features) -> Tensor"
)
_LIBRARY.define(
    "sparse_linear_backward(Tensor grad, Tensor x, Tensor values, Tensor views, bool want_x,"
    " bool want_values, bool want_bias) -> (Tensor, Tensor, Tensor)"
)


def _as_rows(x: Tensor) -> tuple[Tensor, int, int]:
    """A tensor with adjacent features, how many rows it has, and how far apart these lie.

    Copies only what it must.
    """
    width = x.shape[-1]
    if width and x.is_contiguous():
        return x, x.numel() // width, width
    rows = x if x.dim() == 2 else x.reshape(math.prod(x.shape[:-1]), width)
    rows = rows if rows.stride(1) == 1 else rows.contiguous()
    return rows, rows.shape[0], rows.stride(0)


def _check(x: Tensor, values: Tensor, bias: Tensor | None, col: Tensor, shape: list[int]) -> None:
    expected = f"a layer of {shape[0]} x {shape[1]} with {col.shape[0]} links"
    if x.dim() == 0 or x.shape[-1] != shape[1]:
        raise ValueError(f"{expected} takes {shape[1]} features; got x of {tuple(x.shape)}")
    if values.shape != col.shape or (bias is not None and bias.shape[0] != shape[0]):
        got = f"{values.numel()} values" + ("" if bias is None else f", {bias.numel()} biases")
        raise ValueError(f"{expected}; got {got}")
    on_cpu = x.is_cpu and values.is_cpu
    if values.dtype != torch.float32 or x.dtype not in _COMPUTES or not on_cpu:
        raise ValueError(
            "the native kernel takes float32 values and x in float32 or bfloat16, on the CPU; got "
            f"{values.dtype} values on {values.device} and x in {x.dtype} on {x.device}"
        )


@torch.library.impl(_LIBRARY, "sparse_linear", "CPU")
def _forward(
    x: Tensor,
    values: Tensor,
    bias: Tensor | None,
    crow: Tensor,
    col: Tensor,
    views: Tensor,
    in_features: int,
) -> Tensor:
    out_features = crow.shape[0] - 1
    _check(x, values, bias, col, [out_features, in_features])
    (rows, n_rows, stride), values = _as_rows(x), values.contiguous()
    y = x.new_empty((*x.shape[:-1], out_features))
    bias = None if bias is None else bias.float().contiguous()
    finished = binary().run_forward(
        out_features,
        in_features,
        col.shape[0],
        crow.data_ptr(),
        col.data_ptr(),
        col.dtype == torch.int32,
        views.data_ptr(),
        n_rows,
        rows.data_ptr(),
        stride,
        values.data_ptr(),
        None if bias is None else bias.data_ptr(),
        y.data_ptr(),
        x.dtype == torch.bfloat16,
        threads(),
    )
    check_memory(finished)
    return y


@torch.library.impl(_LIBRARY, "sparse_linear_backward", "CPU")
def _backward(
    grad: Tensor,
    x: Tensor,
    values: Tensor,
    views: Tensor,
    want_x: bool,
    want_values: bool,
    want_bias: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    if views.shape[0] != binary().index_bytes(grad.shape[-1], x.shape[-1], values.shape[0]):
        raise ValueError(f"there were other links than these {len(values)} in the forward pass")
    if grad.shape[:-1] != x.shape[:-1] or grad.dtype != x.dtype:
        raise ValueError(
            f"a gradient of {tuple(grad.shape)} in {grad.dtype} is not that of what was made of x "
            f"of {tuple(x.shape)} in {x.dtype}"
        )
    rows, n_rows, stride = _as_rows(x)
    grad_rows, _, grad_stride = _as_rows(grad)
    values = values.contiguous()
    wants = want_x, want_values, want_bias
    grads = _empty_gradients(grad, x, values, *wants)
    finished = binary().run_backward(
        grad.shape[-1],
        x.shape[-1],
        values.shape[0],
        views.data_ptr(),
        n_rows,
        rows.data_ptr(),
        stride,
        grad_rows.data_ptr(),
        grad_stride,
        values.data_ptr(),
        *(made.data_ptr() if wanted else None for made, wanted in zip(grads, wants, strict=True)),
        x.dtype == torch.bfloat16,
        threads(),
    )
    check_memory(finished)
    return grads


def _empty_gradients(
    grad: Tensor, x: Tensor, values: Tensor, want_x: bool, want_values: bool, want_bias: bool
) -> tuple[Tensor, Tensor, Tensor]:
    return (
        x.new_empty(x.shape if want_x else (0,)),
        values.new_empty(values.shape if want_values else (0,)),
        values.new_empty((grad.shape[-1] if want_bias else 0,)),
    )


@torch.library.register_fake("hf_chts::sparse_linear", lib=_LIBRARY)
def _forward_shape(
    x: Tensor,
    values: Tensor,
    bias: Tensor | None,
    crow: Tensor,
    col: Tensor,
    views: Tensor,
    in_features: int,
) -> Tensor:
    return x.new_empty((*x.shape[:-1], crow.shape[0] - 1))


@torch.library.register_fake("hf_chts::sparse_linear_backward", lib=_LIBRARY)
def _backward_shape(
    grad: Tensor,
    x: Tensor,
    values: Tensor,
    views: Tensor,
    want_x: bool,
    want_values: bool,
    want_bias: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    return _empty_gradients(grad, x, values, want_x, want_values, want_bias)


def _save(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    x, values, bias, _, _, views, _ = inputs
    ctx.bias_dtype = None if bias is None else bias.dtype
    ctx.save_for_backward(x, values, views)


def _gradients(ctx: Any, grad: Tensor, compute: Any) -> tuple[Tensor | None, ...]:
    wanted = ctx.needs_input_grad[:3]
    grads = compute(grad, *ctx.saved_tensors, *wanted)
    grad_x, grad_values, grad_bias = (
        g if want else None for g, want in zip(grads, wanted, strict=True)
    )
    if grad_bias is not None:
        grad_bias = grad_bias.to(ctx.bias_dtype)
    return grad_x, grad_values, grad_bias, None, None, None, None


torch.library.register_autograd(
    "hf_chts::sparse_linear",
    lambda ctx, grad: _gradients(ctx, grad, torch.ops.hf_chts.sparse_linear_backward),
    setup_context=_save,
    lib=_LIBRARY,
)


class _Eager(torch.autograd.Function):
    """The operator without the dispatcher."""

    @staticmethod
    def forward(ctx: Any, *inputs: Any) -> Tensor:
        y = _forward(*inputs)
        _save(ctx, inputs, y)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        return _gradients(ctx, grad, _backward)
