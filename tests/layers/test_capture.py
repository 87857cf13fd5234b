"""What a layer collects of its backwards."""

import copy

import pytest
import torch
from sparse_cases import IN, KERNELS, OUT, backward, layer_of
from torch import nn
from torch.utils.checkpoint import checkpoint


def listening(kernel="dense", **kwargs):
    layer = layer_of(kernel=kernel, **kwargs)
    layer.capture_coactivation = True
    return layer


def correlation(x, y):
    both = torch.cat([x.reshape(-1, IN), y.detach().reshape(-1, OUT)], 1)
    return torch.corrcoef(both.T)[IN:, :IN]


def check(layer, x, **tolerance):
    tolerance = tolerance or {"rtol": 1e-4, "atol": 1e-5}
    torch.testing.assert_close(
        layer.coactivation.correlation(), correlation(x, layer(x)), **tolerance
    )


@pytest.mark.parametrize("kernel", KERNELS)
def test_inputs_and_outputs_of_all_micro_batches_count(kernel):
    layer = listening(kernel)
    batches = torch.randn(3, 2, 5, IN)
    for x in batches:
        backward(layer, x, torch.randn(2, 5, OUT))
    assert layer.coactivation.n_tokens == 30
    assert layer.dense_grad is None
    check(layer, batches)


def test_both_kinds_at_once():
    layer, only = listening(), layer_of()
    layer.capture_dense_grad = only.capture_dense_grad = True
    x, target = torch.randn(4, IN), torch.randn(4, OUT)
    for one in (layer, only):
        backward(one, x, target)
    assert torch.equal(layer.dense_grad, only.dense_grad)
    assert only.coactivation is None
    check(layer, x)


def test_gradients_are_untouched():
    layer = listening()
    plain = copy.deepcopy(layer)
    plain.capture_coactivation = False
    x, again = (torch.ones(3, IN).requires_grad_() for _ in range(2))
    target = torch.randn(3, OUT)
    backward(layer, x, target)
    backward(plain, again, target)
    assert torch.equal(layer.values.grad, plain.values.grad)
    assert torch.equal(x.grad, again.grad)


@pytest.mark.parametrize("reentrant", [True, False])
@pytest.mark.parametrize("kernel", KERNELS)
def test_checkpointed_tokens_count_once(reentrant, kernel):
    layer = listening(kernel)
    x = torch.randn(7, IN, requires_grad=True)
    target = torch.randn(7, OUT)
    backward(layer, x, target, lambda f, x: checkpoint(f, x, use_reentrant=reentrant))
    assert layer.coactivation.n_tokens == 7
    check(layer, x.detach())


def test_forwards_without_a_backward_do_not_count():
    layer = listening()
    layer(torch.randn(3, IN)).sum()
    layer.eval()
    layer(torch.randn(3, IN)).sum()
    with torch.no_grad():
        layer(torch.randn(3, IN))
    assert layer.coactivation is None


def test_tokens_that_the_loss_does_not_depend_on_do_not_count():
    layer = listening()
    x = torch.randn(2, 6, IN)
    x[0, 4:], x[1, 3:] = 100.0, 100.0
    kept = (x[..., 0] != 100.0).unsqueeze(-1)
    (layer(x).square() * kept).sum().backward()
    assert layer.coactivation.n_tokens == 7
    check(layer, x[kept.squeeze(-1)])


def test_a_loss_that_depends_on_nothing_counts_nothing():
    layer = listening()
    (layer(torch.randn(3, IN)) * 0).sum().backward()
    assert layer.coactivation.n_tokens == 0
    assert (layer.coactivation.correlation() == 0).all()


def test_autocast():
    layer = listening()
    x, target = torch.randn(200, IN), torch.randn(200, OUT)
    with torch.autocast("cpu", torch.bfloat16):
        backward(layer, x, target)
    assert layer.coactivation.products.dtype == torch.float32
    check(layer, x, rtol=0.02, atol=0.02)


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("what", ["capture_dense_grad", "capture_coactivation"])
def test_outputs_may_be_changed_in_place(what, kernel):
    layer, other = (layer_of(kernel=kernel) for _ in range(2))
    setattr(layer, what, True)
    setattr(other, what, True)
    x = torch.randn(5, IN)
    nn.Sequential(layer, nn.ReLU(inplace=True))(x).square().sum().backward()
    nn.Sequential(other, nn.ReLU())(x).square().sum().backward()
    assert torch.equal(layer.values.grad, other.values.grad)
    if what == "capture_dense_grad":
        assert torch.equal(layer.dense_grad, other.dense_grad)
    else:
        check(layer, x)


def test_a_neuron_without_links_scores_nothing():
    layer = listening()
    positions = torch.arange(IN)  # the first output neuron has all links
    layer.set_links(positions, torch.randn(IN))
    x = torch.randn(50, IN)
    backward(layer, x[:20], torch.randn(20, OUT))
    backward(layer, x[20:], torch.randn(30, OUT))
    found = layer.coactivation.correlation()
    assert (found[1:] == 0).all()
    torch.testing.assert_close(found[0], correlation(x, layer(x))[0], rtol=1e-4, atol=1e-5)


def test_tokens_count_by_the_gradient_of_any_output_of_either_sign():
    layer, grad = listening(), torch.zeros(4, OUT)
    grad[0, :2] = torch.tensor([1.0, -1.0])  # adds up to 0
    grad[1, -1], grad[2, 1] = -3.0, 2.0
    x = torch.randn(4, IN)
    layer(x).backward(grad)
    assert layer.coactivation.n_tokens == 3
    check(layer, x[:3])


def test_rounding_is_no_dependence():
    layer = listening()
    x = torch.randn(6, IN)
    weight = torch.tensor([1.0, 2.0, 1e-7, 1e-3, 0.0, 1.0])[:, None]
    (layer(x) * weight).sum().backward()
    assert layer.coactivation.n_tokens == 4
    check(layer, x[[0, 1, 3, 5]])


def test_what_is_negligible_is_a_share_of_the_mean():
    """Which is 100,000 here, so that 1 is the limit."""
    layer, grad = listening(), torch.zeros(10, OUT)
    grad[:3, 0] = torch.tensor([1e6, 5.0, 0.5])
    x = torch.randn(10, IN)
    layer(x).backward(grad)
    assert layer.coactivation.n_tokens == 2
    check(layer, x[:2], rtol=1e-3, atol=1e-3)


def test_dense_gradients_beyond_the_range_of_half_precision():
    """float16 ends at 65,504; a GradScaler looks at active links only."""
    layer = layer_of(kernel="dense").half()
    layer.capture_dense_grad = True
    x, grad = torch.full((4, IN), 200.0).half(), torch.full((4, OUT), 100.0).half()
    layer(x).backward(grad)
    assert torch.equal(layer.dense_grad, torch.full((OUT, IN), 80_000.0))
