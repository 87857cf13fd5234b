"""The dense kernel computes and differentiates like a dense layer, in every type."""

import pytest
import torch
import torch.nn.functional as F

from hf_chts.layers import structure
from hf_chts.layers.kernels import dense, pick_kernel

OUT, IN = 5, 7
SHAPE = (OUT, IN)


def links(dtype=torch.float64):
    mask = torch.rand(SHAPE) < 0.4
    mask[2] = False  # an output neuron without links
    index = dense.build_index(*structure.to_csr(structure.positions_of(mask), *SHAPE), *SHAPE)
    return mask, index, torch.randn(int(mask.sum()), dtype=dtype, requires_grad=True)


@pytest.mark.parametrize("leading", [(), (3,), (2, 3), (0,), (2, 0, 3), (1, 1, 1, 2)])
def test_any_leading_shape_equals_the_dense_layer(leading):
    mask, index, values = links()
    x = torch.randn(*leading, IN, dtype=torch.float64, requires_grad=True)
    bias = torch.randn(OUT, dtype=torch.float64, requires_grad=True)
    weight = torch.zeros(SHAPE, dtype=torch.float64)
    weight[mask] = values.detach()
    weight.requires_grad_()
    y, reference = dense.linear(x, values, bias, index, *SHAPE), F.linear(x, weight, bias)
    assert torch.equal(y, reference)
    direction = torch.randn_like(y)
    got = torch.autograd.grad(y, (x, values, bias), direction)
    want = torch.autograd.grad(reference, (x, weight, bias), direction)
    torch.testing.assert_close(got[0], want[0])
    torch.testing.assert_close(got[1], want[1][mask])
    torch.testing.assert_close(got[2], want[2])


@pytest.mark.parametrize("with_bias", [True, False])
def test_gradcheck(with_bias):
    _, index, values = links()
    x = torch.randn(2, 3, IN, dtype=torch.float64, requires_grad=True)
    bias = torch.randn(OUT, dtype=torch.float64, requires_grad=True) if with_bias else None
    assert torch.autograd.gradcheck(
        lambda *given: dense.linear(*given, index, *SHAPE), (x, values, bias)
    )


def test_only_wanted_gradients_are_made():
    _, index, values = links()
    x = torch.randn(3, IN, dtype=torch.float64)
    frozen = values.detach()
    bias = torch.randn(OUT, dtype=torch.float64, requires_grad=True)
    dense.linear(x, frozen, bias, index, *SHAPE).sum().backward()
    assert bias.grad.tolist() == [3.0] * OUT
    assert x.grad is None
    assert frozen.grad is None


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_gradients_come_in_the_types_of_the_inputs(dtype):
    _, index, values = links(torch.float32)
    x = torch.randn(4, IN, dtype=dtype, requires_grad=True)
    bias = torch.randn(OUT, requires_grad=True)
    y = dense.linear(x, values, bias, index, *SHAPE)
    y.sum().backward()
    assert (y.dtype, x.grad.dtype) == (dtype, dtype)
    assert (values.grad.dtype, bias.grad.dtype) == (torch.float32, torch.float32)


def test_the_backward_keeps_no_dense_weight():
    _, index, values = links()
    x = torch.randn(4, IN, dtype=torch.float64, requires_grad=True)
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(
        lambda tensor: kept.append(tuple(tensor.shape)) or tensor, lambda tensor: tensor
    ):
        dense.linear(x, values, None, index, *SHAPE)
    assert SHAPE not in kept
    assert (OUT * IN,) not in kept
    assert len(kept) == 3


def test_kernels_by_name():
    single = torch.zeros(3)
    assert pick_kernel("dense", single) is dense
    assert pick_kernel("auto", single.double()) is dense
    with pytest.raises(ValueError, match=r"native kernel cannot run: .*float64"):
        pick_kernel("native", single.double())
    with pytest.raises(ValueError, match="no kernel 'cuda'; known: auto, native, dense"):
        pick_kernel("cuda", single)
