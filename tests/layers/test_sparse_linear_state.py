"""Links that are set, copied, saved and loaded."""

import copy
import pickle

import pytest
import torch
import torch.nn.functional as F
from native_cases import needs_binary
from sparse_cases import IN, KERNELS, OUT, backward, layer_of
from torch import nn

from hf_chts.layers.sparse_linear import SparseLinear

# Replacing links


def test_new_links_keep_the_parameter_and_with_the_same_number_its_storage():
    layer = layer_of()
    parameter, storage = layer.values, layer.values.data_ptr()
    layer.set_links(torch.arange(20), torch.ones(20))
    assert layer.values is parameter
    assert layer.values.data_ptr() == storage
    assert layer.to_dense().flatten()[:20].tolist() == [1.0] * 20
    backward(layer, torch.randn(2, IN), torch.randn(2, OUT))
    layer.set_links(torch.arange(7), torch.ones(7))
    assert layer.values is parameter
    assert layer.values.grad is None
    assert layer.nnz == 7
    backward(layer, torch.randn(2, IN), torch.randn(2, OUT))
    assert layer.values.grad.shape == (7,)


def test_new_links_are_used_at_once():
    layer, x = layer_of(), torch.randn(3, IN)
    layer(x)
    layer.set_links(torch.tensor([0]), torch.tensor([2.0]))
    want = torch.zeros(3, OUT)
    want[:, 0] = 2 * x[:, 0]
    torch.testing.assert_close(layer(x), want + layer.bias)


@pytest.mark.parametrize("n_links", [7, 20])
def test_new_links_have_weights_of_their_own(n_links):
    first, second, values = layer_of(20), layer_of(20), torch.ones(n_links)
    for layer in (first, second):
        layer.set_links(torch.arange(n_links), values)
    values.zero_()
    with torch.no_grad():
        first.values.mul_(3)
    assert first.values.tolist() == [3.0] * n_links
    assert second.values.tolist() == [1.0] * n_links


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("numbers", [(20,), (7,), (7, 20)])
def test_links_that_change_before_the_backward_are_refused(kernel, numbers):
    layer = layer_of(20, kernel=kernel)
    y = layer(torch.randn(3, IN, requires_grad=True)).sum()
    for n_links in numbers:
        layer.set_links(torch.arange(n_links), torch.ones(n_links))
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        y.backward()


def test_unsound_links_change_nothing():
    layer = layer_of()
    before = layer.to_dense().detach()
    with pytest.raises(ValueError, match="distinct, sorted"):
        layer.set_links(torch.tensor([5, 3]), torch.ones(2))
    with pytest.raises((ValueError, TypeError), match=r"3 values for 2 links|n_links=2"):
        layer.set_links(torch.tensor([3, 5]), torch.ones(3))
    assert torch.equal(layer.to_dense(), before)


def test_a_layer_before_it_has_links_says_so():
    with pytest.raises(RuntimeError, match=r"6 x 10 has no sound links: set them with set_links"):
        SparseLinear(IN, OUT, 4)(torch.randn(2, IN))


@pytest.mark.parametrize("shape", [(0, 4), (4, 0), (0, 0)])
def test_a_layer_without_neurons_is_refused(shape):
    with pytest.raises(ValueError, match="holds no link"):
        SparseLinear(*shape, 0)


# Moving and copying


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16])
def test_a_change_of_type_leaves_indices_alone(dtype):
    layer = layer_of(kernel="auto")
    positions = layer.positions
    layer.to(dtype)
    assert layer.values.dtype == layer.bias.dtype == dtype
    assert (layer.crow_indices.dtype, layer.col_indices.dtype) == (torch.int32, torch.int16)
    assert torch.equal(layer.positions, positions)
    x = torch.randn(2, IN, dtype=dtype)
    want = F.linear(x, layer.to_dense(), layer.bias)
    torch.testing.assert_close(layer(x), want, atol=1e-2, rtol=1e-2)


@needs_binary
def test_a_model_moves_whole_also_where_a_kernel_cannot_follow():
    """An error on the way would leave the first layers in another type than the rest."""
    model = nn.Sequential(layer_of(kernel="native"), nn.Linear(OUT, 2))
    x = torch.randn(3, IN)
    want = model[0](x)
    model.half()
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float16}
    with pytest.raises(ValueError, match=r"native kernel cannot run: .*float16; use kernel='auto'"):
        model(x.half())
    model.float()
    torch.testing.assert_close(model[0](x), want, atol=1e-2, rtol=1e-2)


def test_links_that_were_never_set_are_not_taken_for_none():
    layer, x = SparseLinear(IN, OUT, 0), torch.ones(2, IN)
    with pytest.raises(RuntimeError, match="has no sound links: set them"):
        layer(x)
    layer.set_links(torch.empty(0, dtype=torch.long), torch.empty(0))
    assert layer(x).shape == (2, OUT)


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("how", [copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))])
def test_copies_are_equal_and_independent(kernel, how):
    model, x = nn.Sequential(layer_of(kernel=kernel)), torch.randn(2, IN)
    again = how(model)
    assert torch.equal(again(x), model(x))
    assert again[0].values is not model[0].values
    again[0].set_links(torch.arange(3), torch.ones(3))
    assert model[0].nnz == 20


def test_an_emptied_layer_is_not_used_before_it_is_filled():
    layer = layer_of()
    state, x = copy.deepcopy(layer.state_dict()), torch.randn(2, IN)
    want = layer(x)
    layer.to("meta")
    layer.to_empty(device="cpu")
    layer.crow_indices.fill_(-1)
    layer.rebuild_index()
    with pytest.raises(RuntimeError, match="no sound links"):
        layer(x)
    layer.load_state_dict(state)
    assert torch.equal(layer(x), want)


# State dicts


@pytest.mark.parametrize("n_links", [5, 20, 60])
@pytest.mark.parametrize("assign", [True, False])
def test_a_state_dict_brings_its_number_of_links(n_links, assign):
    source, target = layer_of(n_links, seed=1), layer_of(20)
    parameter = target.values
    state = {key: tensor.clone() for key, tensor in source.state_dict().items()}
    target.load_state_dict(state, assign=assign)
    x = torch.randn(3, IN)
    assert torch.equal(target(x), source(x))
    assert torch.equal(target.mask, source.mask)
    assert assign or target.values is parameter


@pytest.mark.parametrize("order", [1, -1])
def test_a_layer_split_over_shards_is_loaded_whole(order):
    source, target = layer_of(9, seed=1), layer_of(20)
    x = torch.randn(3, IN)
    items = list(source.state_dict().items())[::order]
    for key, tensor in items:
        target.load_state_dict({key: tensor}, strict=False)
    assert torch.equal(target(x), source(x))


def damaged(change):
    state = {key: tensor.clone() for key, tensor in layer_of(20, seed=1).state_dict().items()}
    change(state)
    return state


def _swap(state):
    state["col_indices"][:2] = torch.tensor([9, 0], dtype=torch.int16)


DAMAGE = {
    "out of range": (lambda s: s["col_indices"].__setitem__(0, IN), "columns must lie"),
    "negative": (lambda s: s["col_indices"].__setitem__(0, -1), "columns must lie"),
    "unsorted": (_swap, "out of order or stored twice"),
    "row pointers": (lambda s: s["crow_indices"].__setitem__(0, 1), "row pointers must rise"),
    "lengths": (lambda s: s.update(values=torch.zeros(19)), "19 values for 20 links"),
    "rows": (lambda s: s.update(crow_indices=torch.zeros(3, dtype=torch.int32)), "expected 7 row"),
    "dense": (lambda s: s.update(weight=torch.zeros(OUT, IN)), "sparsify the dense model"),
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_a_damaged_state_dict_is_refused_and_not_used(kind):
    change, says = DAMAGE[kind]
    layer, x = layer_of(20), torch.randn(2, IN)
    before = layer(x)
    with pytest.raises(RuntimeError, match=says):
        layer.load_state_dict(damaged(change))
    assert torch.equal(layer(x), before)


def test_damage_in_pieces_is_not_used_either():
    layer = layer_of(20)
    for key, tensor in damaged(_swap).items():
        layer.load_state_dict({key: tensor}, strict=False)
    with pytest.raises(RuntimeError, match="no sound links"):
        layer(torch.randn(2, IN))
