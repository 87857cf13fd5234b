"""The native kernel as an operator of torch, and what it refuses."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from native_cases import Layer, needs_binary
from torch.utils.checkpoint import checkpoint

from hf_chts.layers.kernels import binary, native

# ---- As an operator ----


def operator_arguments(layer: Layer, tokens: int = 20):
    return (torch.randn(tokens, layer.in_), layer.values, layer.bias, *layer.index, layer.in_)


@needs_binary
@pytest.mark.parametrize("learns", [True, False])
@pytest.mark.parametrize("bias", [True, False])
def test_opcheck(learns, bias):
    layer = Layer(12, 15, 0.3)
    x, values, given_bias, *rest = operator_arguments(layer)
    floats = [t.requires_grad_(learns) for t in (x, values, given_bias)]
    arguments = (*floats[:2], floats[2] if bias else None, *rest)
    torch.library.opcheck(torch.ops.hf_chts.sparse_linear.default, arguments)


@needs_binary
def test_opcheck_backward():
    layer = Layer(12, 15, 0.3)
    x = torch.randn(20, 15)
    arguments = (torch.randn(20, 12), x, layer.values, layer.index[2], True, False, True)
    torch.library.opcheck(torch.ops.hf_chts.sparse_linear_backward.default, arguments)


@needs_binary
def test_compiles_without_a_break():
    layer, x = Layer(24, 32, 0.3).requires_grad(), torch.randn(2, 10, 32, requires_grad=True)
    compiled = torch.compile(lambda x: layer(x).relu(), fullgraph=True, backend="aot_eager")
    wanted = (x, layer.values, layer.bias)
    expected = torch.autograd.grad(layer(x).relu().sum(), wanted)
    actual = torch.autograd.grad(compiled(x).sum(), wanted)
    for a, b in zip(actual, expected, strict=True):
        torch.testing.assert_close(a, b)


class Module(torch.nn.Module):
    def __init__(self, layer: Layer):
        super().__init__()
        self.values, self.bias = torch.nn.Parameter(layer.values), torch.nn.Parameter(layer.bias)
        self.index, self.sizes = layer.index, (layer.out, layer.in_)

    def forward(self, x):
        return native.linear(x, self.values, self.bias, self.index, *self.sizes)


@needs_binary
def test_exports():
    module, x = Module(Layer(24, 32, 0.3)), torch.randn(5, 32)
    exported = torch.export.export(module, (x,))
    torch.testing.assert_close(exported.module()(x), module(x))


@needs_binary
@pytest.mark.parametrize("reentrant", [True, False])
def test_gradient_checkpointing(reentrant):
    module, x = Module(Layer(24, 32, 0.3)), torch.randn(40, 32, requires_grad=True)
    module(x).square().sum().backward()
    expected = [t.grad.clone() for t in (x, module.values, module.bias)]
    for tensor in (x, module.values, module.bias):
        tensor.grad = None
    checkpoint(module, x, use_reentrant=reentrant).square().sum().backward()
    for tensor, grad in zip((x, module.values, module.bias), expected, strict=True):
        torch.testing.assert_close(tensor.grad, grad)


@needs_binary
def test_no_second_derivative_in_silence():
    layer, x = Layer(8, 8, 0.5).requires_grad(), torch.randn(20, 8, requires_grad=True)
    (grad,) = torch.autograd.grad(layer(x).square().sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        grad.sum().backward()


# ---- Errors ----


@needs_binary
@pytest.mark.parametrize(
    ("crow", "col"),
    [([0, 2], [3, 1]), ([0, 2], [1, 1]), ([0, 2], [1, 4]), ([0, 2], [-1, 1]), ([0, 1], [0, 1])],
)
def test_unsound_indices_are_refused(crow, col):
    indices = torch.tensor(crow, dtype=torch.int32), torch.tensor(col, dtype=torch.int16)
    with pytest.raises(ValueError, match=r"in \[0, 4\)"):
        native.build_index(*indices, 1, 4)


@needs_binary
def test_falling_row_pointers_and_wrong_shapes_are_refused():
    col = torch.tensor([0, 1], dtype=torch.int16)
    with pytest.raises(ValueError, match="row pointers must rise"):
        native.build_index(torch.tensor([0, 3, 2], dtype=torch.int32), col, 2, 4)
    with pytest.raises(ValueError, match="expected 4 row pointers"):
        native.build_index(torch.tensor([0, 2], dtype=torch.int32), col, 3, 4)


@needs_binary
def test_too_wide_a_layer_is_refused():
    crow = torch.zeros(2, dtype=torch.int32)
    with pytest.raises(ValueError, match="use kernel='dense'"):
        native.build_index(crow, crow[:0], 1, 2**23)


@needs_binary
def test_shapes_that_do_not_fit_are_refused():
    layer = Layer(6, 8, 0.5)
    with pytest.raises(ValueError, match="takes 8 features"):
        layer(torch.zeros(3, 7))
    with pytest.raises(ValueError, match="takes 8 features"):
        layer(torch.tensor(1.0))
    with pytest.raises(ValueError, match="got 1 values"):
        native.linear(torch.zeros(3, 8), torch.zeros(1), None, layer.index, 6, 8)
    with pytest.raises(ValueError, match="5 biases"):
        native.linear(torch.zeros(3, 8), layer.values, torch.zeros(5), layer.index, 6, 8)
    with pytest.raises(ValueError, match="takes float32 values"):
        native.linear(torch.zeros(3, 8), layer.values.double(), None, layer.index, 6, 8)
    with pytest.raises(ValueError, match=r"float32 or bfloat16.*x in torch\.float16"):
        torch.ops.hf_chts.sparse_linear(
            torch.zeros(3, 8).half(), layer.values, None, *layer.index, 8
        )


def test_says_what_it_cannot_take():
    assert "on CPUs" in str(native.why_unavailable(torch.zeros(1, device="meta")))
    assert "float32" in str(native.why_unavailable(torch.zeros(1).double()))


def test_says_that_there_is_no_binary(monkeypatch):
    monkeypatch.setattr(binary, "PATH", Path("/nowhere/_native.so"))
    binary.load.cache_clear()
    try:
        assert "was not built" in str(native.why_unavailable(torch.zeros(1)))
        assert native.isa() is None
        with pytest.raises(RuntimeError, match="cannot run"):
            binary.binary()
    finally:
        binary.load.cache_clear()
