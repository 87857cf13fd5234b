from __future__ import annotations

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from hf_chts.layers.dropout import faster_dropout
from hf_chts.layers.kernels import native_dropout

pytestmark = pytest.mark.skipif(
    not native_dropout.takes(torch.ones(1)), reason="needs the native binary"
)


def dropped(x, p=0.3, seed=0, **kwargs):
    torch.manual_seed(seed)
    with faster_dropout():
        return F.dropout(x, p, **kwargs)


@given(
    shape=st.lists(st.integers(0, 70), min_size=0, max_size=3),
    p=st.floats(0.01, 0.99),
    dtype=st.sampled_from([torch.float32, torch.bfloat16]),
    seed=st.integers(0, 10),
)
@settings(max_examples=60)
def test_numbers_are_dropped_or_scaled(shape, p, dtype, seed) -> None:
    x = torch.randn(shape).to(dtype)
    y = dropped(x, p, seed)
    keep = round((1 - p) * 65536)
    scaled = (x.float() * (65536 / keep)).to(dtype)
    assert (y.shape, y.dtype) == (x.shape, dtype)
    torch.testing.assert_close(y, torch.where(y != 0, scaled, 0), rtol=1e-2, atol=0)
    assert torch.equal(y, dropped(x, p, seed))


@pytest.mark.parametrize("p", [0.1, 0.3, 0.5, 0.9])
def test_the_share_that_is_dropped(p) -> None:
    n = 1 << 20
    kept = dropped(torch.ones(n), p) != 0
    error = (p * (1 - p) / n) ** 0.5
    assert abs(kept.float().mean() - (1 - p)) < 4 * error
    assert abs(dropped(torch.ones(n), p).mean() - 1) < 4 * error / (1 - p)


@pytest.mark.parametrize("lag", [1, 2, 3, 4, 8, 16, 256, 1024])
def test_places_and_seeds_are_independent(lag) -> None:
    n = 1 << 20
    first, second = (dropped(torch.ones(n), 0.5, seed) - 1 for seed in (1, 2))  # -1 or 1
    for a, b in [(first[lag:], first[:-lag]), (first[lag:], second[:-lag]), (first, second)]:
        assert abs((a * b).mean()) < 4 / len(a) ** 0.5


def test_every_call_draws_anew_from_torchs_generator() -> None:
    x = torch.ones(1000)
    torch.manual_seed(3)
    with faster_dropout():
        first, second = F.dropout(x), F.dropout(x)
        torch.manual_seed(3)
        again = F.dropout(x)
    assert not torch.equal(first, second)
    assert torch.equal(first, again)


@pytest.mark.parametrize("strided", [False, True])
def test_the_gradient_is_dropped_where_the_number_was(strided) -> None:
    x = torch.randn(33, 70)
    x = (x.t() if strided else x).requires_grad_()
    y = dropped(x, 0.4)
    grad = torch.randn(*y.shape)
    (got,) = torch.autograd.grad(y, x, grad)
    keep = round(0.6 * 65536)
    torch.testing.assert_close(got, torch.where(y != 0, grad * (65536 / keep), 0))


def test_threads_do_not_matter() -> None:
    x, before = torch.randn(300_001), torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        alone = dropped(x)
        torch.set_num_threads(3)
        assert torch.equal(dropped(x), alone)
    finally:
        torch.set_num_threads(before)


def test_infinite_numbers_are_dropped_too() -> None:
    y = dropped(torch.full((1000,), float("inf")), 0.5)
    assert set(y.tolist()) == {0.0, float("inf")}


@pytest.mark.parametrize(
    ("x", "p", "kwargs"),
    [
        (torch.ones(100, dtype=torch.float64), 0.5, {}),
        (torch.ones(100), 0.0, {}),
        (torch.ones(100), 1.0, {}),
        (torch.ones(100), 0.5, {"training": False}),
        (torch.ones(100), 0.5, {"inplace": True}),
    ],
)
def test_what_goes_to_torch(x, p, kwargs) -> None:
    got = dropped(x.clone(), p, **kwargs)
    torch.manual_seed(0)
    assert torch.equal(got, F.dropout(x.clone(), p, **kwargs))


def test_a_bad_probability_is_torchs_error() -> None:
    with pytest.raises(ValueError, match="probability"):
        dropped(torch.ones(3), 1.5)


def test_modules_and_the_rest_of_torch_work_inside() -> None:
    model = nn.Sequential(nn.Linear(8, 8), nn.Dropout(0.5), nn.LayerNorm(8))
    twin = copy.deepcopy(model)
    x = torch.randn(64, 8)
    with faster_dropout():
        y = model(x)
    assert y.isfinite().all()
    with faster_dropout():
        torch.testing.assert_close(model.eval()(x), twin.eval()(x))


def by_grad(loss, weight):
    return torch.autograd.grad(loss, weight)[0]


def by_backward(loss, weight):
    loss.backward()
    return weight.grad


def by_backward_of_some(loss, weight):
    loss.backward(torch.ones(()), inputs=[weight])
    return weight.grad


@pytest.mark.parametrize(  # torch refuses the other ways with re-entrance
    ("way", "reentrant"),
    [(by_grad, False), (by_backward, False), (by_backward_of_some, False), (by_backward, True)],
)
def test_checkpointed_blocks_drop_the_same_twice(way, reentrant) -> None:
    block = nn.Sequential(nn.Linear(8, 8), nn.Dropout(0.5))
    x = torch.randn(64, 8, requires_grad=True)
    grads = []
    for run in (block, lambda x: checkpoint(block, x, use_reentrant=reentrant)):
        torch.manual_seed(0)
        block.zero_grad()
        with faster_dropout():
            y = run(x)
            dropped = [node for node in names_of(y) if "Dropout" in node]
            assert dropped == ([] if reentrant and run is not block else ["_DropoutBackward"])
            grads.append(way(y.square().sum(), block[0].weight).clone())
    assert torch.equal(*grads)


def names_of(y):
    """Names of what made a tensor, along its first inputs."""
    node = y.grad_fn
    while node is not None:
        yield node.name()
        node = node.next_functions[0][0] if node.next_functions else None
