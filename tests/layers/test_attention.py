from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from hf_chts.layers.attention import faster_attention

MASK = torch.ones(3, 1, 5, 7, dtype=torch.bool).tril(2)
MASKS = {
    "none": None,
    "bool": MASK,
    "added, float32": torch.zeros(3, 1, 5, 7).masked_fill(~MASK, -1e4),
    "added, bfloat16": torch.zeros(3, 1, 5, 7, dtype=torch.bfloat16).masked_fill(~MASK, -1e4),
}


def states(dtype=torch.bfloat16, grad=True):
    torch.manual_seed(0)
    shapes = [(3, 4, 5, 8), (3, 4, 7, 8), (3, 4, 7, 8)]
    return [torch.randn(shape).to(dtype).requires_grad_(grad) for shape in shapes]


def attend(inputs, mask=None, autocast=True, **kwargs):
    """The result, its gradients where there are any, and the types that the product saw."""
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast), faster_attention():
        y = F.scaled_dot_product_attention(*inputs, attn_mask=mask, **kwargs)
    grads = torch.autograd.grad(y.float().square().sum(), inputs) if y.requires_grad else ()
    return y, grads


def exact(inputs, mask=None, **kwargs):
    wide = [x.detach().double().requires_grad_() for x in inputs]
    mask = mask.double() if mask is not None and mask.is_floating_point() else mask
    y = F.scaled_dot_product_attention(*wide, attn_mask=mask, **kwargs)
    return y, torch.autograd.grad(y.square().sum(), wide)


@pytest.mark.parametrize("autocast", [True, False])
@pytest.mark.parametrize("mask", MASKS)
def test_results_and_gradients_are_those_of_attention(mask, autocast) -> None:
    inputs = states()
    y, grads = attend(inputs, MASKS[mask], autocast)
    assert {x.dtype for x in (y, *grads)} == {torch.bfloat16}
    wanted, wanted_grads = exact(inputs, MASKS[mask])
    # the result is rounded once: 8 bits
    torch.testing.assert_close(y.double(), wanted, rtol=2**-8, atol=1e-6)
    for got, expected in zip(grads, wanted_grads, strict=True):
        torch.testing.assert_close(got.double(), expected, rtol=0.03, atol=0.03)


@pytest.mark.parametrize("kwargs", [{"is_causal": True}, {"scale": 0.1}])
def test_other_arguments_are_passed_on(kwargs) -> None:
    inputs = states()
    torch.testing.assert_close(
        attend(inputs, **kwargs)[0].double(), exact(inputs, **kwargs)[0], rtol=2**-8, atol=1e-6
    )


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
@pytest.mark.parametrize("grad", [True, False])  # checkpointed blocks run both ways
def test_in_bfloat16_it_is_the_rounded_float32_result(dtype, grad) -> None:
    inputs = states(dtype, grad)  # autocast narrows float32
    wide = F.scaled_dot_product_attention(*(x.float() for x in inputs))
    assert torch.equal(attend(inputs)[0], wide.bfloat16())


@pytest.mark.parametrize(
    ("inputs", "kwargs"),
    [
        (states(torch.float32), {}),
        (states(torch.float16), {}),
        (states(), {"dropout_p": 0.5}),
    ],
    ids=["float32", "float16", "dropout"],
)
def test_what_goes_to_torch(inputs, kwargs) -> None:
    torch.manual_seed(1)
    got = attend(inputs, autocast=False, **kwargs)[0]
    torch.manual_seed(1)
    assert torch.equal(got, F.scaled_dot_product_attention(*inputs, **kwargs))


def test_outside_the_context_it_is_torchs() -> None:
    plain = F.scaled_dot_product_attention
    with faster_attention():
        assert F.scaled_dot_product_attention is not plain
    assert F.scaled_dot_product_attention is plain
