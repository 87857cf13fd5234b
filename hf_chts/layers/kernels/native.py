"""The native kernel: float32 on CPUs, by the C++ in ``native/``.

``native/kernels.cpp`` explains how it works. This module loads the binary, makes it an operator of
torch (``torch.ops.hf_chts.sparse_linear``, which compiles, exports and differentiates), and builds
its index. ``HF_CHTS_ISA=avx512|avx2|baseline`` forces an instruction set; it is read once.
"""

from __future__ import annotations

import ctypes
import functools
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

_COMPUTES = (torch.float32, torch.bfloat16)  # the types of x; sums are in float32
_I64, _PTR, _BOOL, _INT = ctypes.c_int64, ctypes.c_void_p, ctypes.c_bool, ctypes.c_int
_SIGNATURES: dict[str, tuple[Any, list[Any]]] = {
    "choose": (ctypes.c_char_p, [ctypes.c_char_p]),
    "max_lines": (_I64, []),
    "index_bytes": (_I64, [_I64] * 3),
    "build_index": (_BOOL, [_I64] * 3 + [_PTR, _PTR, _BOOL, _PTR]),
    "forward": (
        None,
        [_I64] * 3 + [_PTR, _PTR, _BOOL, _PTR, _I64, _PTR, _I64] + [_PTR] * 3 + [_BOOL, _INT],
    ),
    "backward": (
        None,
        [_I64] * 3 + [_PTR, _I64, _PTR, _I64, _PTR, _I64] + [_PTR] * 4 + [_BOOL, _INT],
    ),
}


class _Binary:
    """The loaded library: its functions, and the name of the instruction set it picked."""

    def __init__(self, path: Path) -> None:
        # The library names OpenMP's functions but brings no OpenMP: torch, imported above, has
        # loaded its own for all to see. So both share one pool of threads.
        library = ctypes.CDLL(str(path))
        for name, (result, arguments) in _SIGNATURES.items():
            function = getattr(library, f"hf_chts_{name}")
            function.restype, function.argtypes = result, arguments
            setattr(self, name, function)
        wanted = os.environ.get("HF_CHTS_ISA", "")
        chosen = self.choose(wanted.encode())
        if chosen is None:
            raise OSError(f"HF_CHTS_ISA={wanted} is not an instruction set of this machine")
        self.isa: str = chosen.decode()

    choose: Callable[[bytes], bytes | None]
    max_lines: Callable[[], int]
    index_bytes: Callable[..., int]
    build_index: Callable[..., bool]
    forward: Callable[..., None]
    backward: Callable[..., None]


@functools.cache
def _load() -> _Binary | str:
    """The binary, or why there is none."""
    found = sorted(Path(__file__).with_name("native").glob("_native*.so"))
    if not found:
        return "its binary was not built (install with a C++ compiler present)"
    try:
        return _Binary(found[0])
    except OSError as error:
        return f"its binary does not load: {error}"


def _binary() -> _Binary:
    loaded = _load()
    if isinstance(loaded, str):
        raise RuntimeError(f"the native kernel cannot run: {loaded}")
    return loaded


def isa() -> str | None:
    """The instruction set in use (``avx512``, ``avx2`` or ``baseline``); None without a binary."""
    loaded = _load()
    return None if isinstance(loaded, str) else loaded.isa


def why_unavailable(values: Tensor) -> str | None:
    """Why this kernel cannot take these link weights; None if it can."""
    if values.device.type != "cpu":
        return f"it runs on CPUs and the layer is on {values.device.type}"
    if values.dtype != torch.float32:
        return f"it computes with float32 weights and the layer has {values.dtype}"
    loaded = _load()
    return loaded if isinstance(loaded, str) else None


def build_index(
    crow: Int[Tensor, " out+1"], col: Int[Tensor, " n_links"], out_features: int, in_features: int
) -> tuple[Tensor, ...]:
    """The links in row-major order (as given) and both views of them, in one tensor of bytes.

    Raises:
        ValueError: If the indices are not sound, or the layer is too wide.
    """
    binary = _binary()
    if max(out_features, in_features) >= binary.max_lines():
        raise ValueError(
            f"the native kernel takes widths below {binary.max_lines()}; got a layer of "
            f"{out_features} x {in_features}: use kernel='dense'"
        )
    crow = crow.to(torch.int32).contiguous()
    if col.dtype != torch.int16:
        col = col.to(torch.int32)
    col = col.contiguous()
    if crow.shape != (out_features + 1,) or col.dim() != 1:
        raise ValueError(
            f"expected {out_features + 1} row pointers and a list of columns; got shapes "
            f"{tuple(crow.shape)} and {tuple(col.shape)}"
        )
    sizes = (out_features, in_features, col.numel())
    views = torch.empty(binary.index_bytes(*sizes), dtype=torch.uint8)
    wide = col.dtype == torch.int32
    if not binary.build_index(*sizes, crow.data_ptr(), col.data_ptr(), wide, views.data_ptr()):
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
    """``x @ W.T + bias`` in the type of ``x``; float32 inside, other types by a cast."""
    if x.dtype not in _COMPUTES:
        cast: Tensor = torch.ops.hf_chts.sparse_linear(x.float(), values, bias, *index)
        return cast.to(x.dtype)
    y: Tensor = torch.ops.hf_chts.sparse_linear(x, values, bias, *index)
    return y


_LIBRARY = torch.library.Library("hf_chts", "DEF")
_LIBRARY.define(
    "sparse_linear(Tensor x, Tensor values, Tensor? bias, Tensor crow, Tensor col, Tensor views)"
    " -> Tensor"
)
_LIBRARY.define(
    "sparse_linear_backward(Tensor grad, Tensor x, Tensor values, Tensor crow, Tensor col,"
    " Tensor views, bool want_x, bool want_values, bool want_bias) -> (Tensor, Tensor, Tensor)"
)
_forked = False


def _after_fork() -> None:
    global _forked  # OpenMP's threads did not follow into the child
    _forked = True


os.register_at_fork(after_in_child=_after_fork)


def _threads() -> int:
    return 1 if _forked else torch.get_num_threads()


def _as_rows(x: Tensor) -> Tensor:
    """A 2-D x with adjacent features; rows may lie apart. Copies only what it must."""
    rows = x if x.dim() == 2 else x.reshape(-1, x.shape[-1])
    return rows if rows.shape[1] < 2 or rows.stride(1) == 1 else rows.contiguous()


@torch.library.impl(_LIBRARY, "sparse_linear", "CPU")
def _forward(
    x: Tensor, values: Tensor, bias: Tensor | None, crow: Tensor, col: Tensor, views: Tensor
) -> Tensor:
    rows, out_features, values = _as_rows(x), crow.shape[0] - 1, values.contiguous()
    y = x.new_empty((*x.shape[:-1], out_features))
    bias = None if bias is None else bias.float().contiguous()
    _binary().forward(
        out_features,
        rows.shape[1],
        values.shape[0],
        crow.data_ptr(),
        col.data_ptr(),
        col.dtype == torch.int32,
        views.data_ptr(),
        rows.shape[0],
        rows.data_ptr(),
        rows.stride(0),
        values.data_ptr(),
        None if bias is None else bias.data_ptr(),
        y.data_ptr(),
        x.dtype == torch.bfloat16,
        _threads(),
    )
    return y


@torch.library.impl(_LIBRARY, "sparse_linear_backward", "CPU")
def _backward(
    grad: Tensor,
    x: Tensor,
    values: Tensor,
    crow: Tensor,
    col: Tensor,
    views: Tensor,
    want_x: bool,
    want_values: bool,
    want_bias: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    rows, grad_rows, values = _as_rows(x), _as_rows(grad), values.contiguous()
    grad_x = x.new_empty(x.shape if want_x else 0)
    grad_values = values.new_empty(values.shape if want_values else 0)
    grad_bias = values.new_empty(grad.shape[-1] if want_bias else 0)
    _binary().backward(
        grad_rows.shape[1],
        rows.shape[1],
        values.shape[0],
        views.data_ptr(),
        rows.shape[0],
        rows.data_ptr(),
        rows.stride(0),
        grad_rows.data_ptr(),
        grad_rows.stride(0),
        values.data_ptr(),
        grad_x.data_ptr() if want_x else None,
        grad_values.data_ptr() if want_values else None,
        grad_bias.data_ptr() if want_bias else None,
        x.dtype == torch.bfloat16,
        _threads(),
    )
    return grad_x, grad_values, grad_bias


@torch.library.register_fake("hf_chts::sparse_linear", lib=_LIBRARY)
def _forward_shape(
    x: Tensor, values: Tensor, bias: Tensor | None, crow: Tensor, col: Tensor, views: Tensor
) -> Tensor:
    return x.new_empty((*x.shape[:-1], crow.shape[0] - 1))


@torch.library.register_fake("hf_chts::sparse_linear_backward", lib=_LIBRARY)
def _backward_shape(
    grad: Tensor,
    x: Tensor,
    values: Tensor,
    crow: Tensor,
    col: Tensor,
    views: Tensor,
    want_x: bool,
    want_values: bool,
    want_bias: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    return (
        x.new_empty(x.shape if want_x else (0,)),
        values.new_empty(values.shape if want_values else (0,)),
        values.new_empty((crow.shape[0] - 1 if want_bias else 0,)),
    )


def _save(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    x, values, bias, crow, col, views = inputs
    ctx.bias_dtype = None if bias is None else bias.dtype
    ctx.save_for_backward(x, values, crow, col, views)


def _gradients(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    want_x, want_values, want_bias = ctx.needs_input_grad[:3]
    grad_x, grad_values, grad_bias = torch.ops.hf_chts.sparse_linear_backward(
        grad, *ctx.saved_tensors, want_x, want_values, want_bias
    )
    return (
        grad_x if want_x else None,
        grad_values if want_values else None,
        grad_bias.to(ctx.bias_dtype) if want_bias else None,
        None,
        None,
        None,
    )


torch.library.register_autograd(
    "hf_chts::sparse_linear", _gradients, setup_context=_save, lib=_LIBRARY
)
