"""SparseLinear is a linear layer that stores active links only."""

import copy
import os
import pickle
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.checkpoint import checkpoint

from hf_chts.layers import structure
from hf_chts.layers.sparse_linear import SparseLinear, sparse_layers

OUT, IN = 6, 10


def layer_of(n_links=20, *, bias=True, dtype=torch.float32, seed=0, kernel="dense"):
    generator = torch.Generator().manual_seed(seed)
    layer = SparseLinear(IN, OUT, n_links, bias, kernel=kernel, dtype=dtype)
    positions = torch.randperm(OUT * IN, generator=generator)[:n_links].sort().values
    layer.set_links(positions, torch.randn(n_links, generator=generator).to(dtype))
    if bias:
        nn.init.normal_(layer.bias, generator=generator)
    return layer


KERNELS = ["dense", "auto"]


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("leading", [(), (4,), (2, 3), (0, 3)])
def test_equals_the_dense_layer(kernel, bias, leading):
    layer = layer_of(bias=bias, kernel=kernel)
    x = torch.randn(*leading, IN)
    torch.testing.assert_close(layer(x), F.linear(x, layer.to_dense(), layer.bias))


def test_to_dense_mask_and_positions_agree():
    layer = layer_of()
    weight = layer.to_dense()
    assert torch.equal(weight != 0, layer.mask)
    assert torch.equal(layer.mask.flatten().nonzero().squeeze(1), layer.positions)
    assert torch.equal(weight[layer.mask], layer.values)
    assert layer.nnz == 20
    assert layer.density == 20 / 60
    weight.sum().backward()
    assert layer.values.grad.tolist() == [1.0] * 20


def test_gradcheck_in_double():
    layer = layer_of(dtype=torch.float64)
    x = torch.randn(2, IN, dtype=torch.float64, requires_grad=True)

    def call(x, values, bias):
        return torch.func.functional_call(layer, {"values": values, "bias": bias}, (x,))

    assert torch.autograd.gradcheck(call, (x, layer.values, layer.bias))


@pytest.mark.parametrize("kernel", KERNELS)
def test_autocast_computes_in_bf16_and_keeps_gradients_in_fp32(kernel):
    layer = layer_of(kernel=kernel)
    x = torch.randn(3, IN, requires_grad=True)
    with torch.autocast("cpu", torch.bfloat16):
        y = layer(x)
    assert y.dtype == torch.bfloat16
    y.float().square().sum().backward()
    assert layer.values.grad.dtype == layer.bias.grad.dtype == x.grad.dtype == torch.float32
    torch.testing.assert_close(y.float(), layer(x), atol=0.05, rtol=0.05)


# Dense gradients


def dense_gradient(layer, x, target):
    """Autograd's gradient of a dense weight for the loss used below."""
    weight = layer.to_dense().detach().requires_grad_()
    loss = (F.linear(x, weight, layer.bias.detach()) * target).square().sum()
    return torch.autograd.grad(loss, weight)[0]


def backward(layer, x, target, call=None):
    y = layer(x) if call is None else call(layer, x)
    (y * target).square().sum().backward()


@pytest.mark.parametrize("kernel", KERNELS)
def test_the_dense_gradient_is_summed_over_micro_batches(kernel):
    layer = layer_of(kernel=kernel)
    batches = [(torch.randn(2, 3, IN), torch.randn(2, 3, OUT)) for _ in range(3)]
    layer.capture_dense_grad = True
    for x, target in batches:
        backward(layer, x, target)
    want = sum(dense_gradient(layer, x, target) for x, target in batches)
    assert layer.dense_grad.dtype == torch.float32
    torch.testing.assert_close(layer.dense_grad, want)
    torch.testing.assert_close(layer.dense_grad[layer.mask], layer.values.grad)


def test_the_dense_gradient_comes_only_when_asked_for():
    layer = layer_of()
    backward(layer, torch.randn(2, IN), torch.randn(2, OUT))
    assert layer.dense_grad is None
    layer.capture_dense_grad = True
    with torch.no_grad():
        layer(torch.randn(2, IN))
    assert layer.dense_grad is None
    layer.capture_dense_grad = False
    backward(layer, torch.randn(2, IN), torch.randn(2, OUT))
    assert layer.dense_grad is None


@pytest.mark.parametrize("reentrant", [True, False])
@pytest.mark.parametrize("kernel", KERNELS)
def test_gradient_checkpointing_changes_nothing(reentrant, kernel):
    plain = layer_of(kernel=kernel)
    saving = copy.deepcopy(plain)
    x, target = torch.randn(2, 3, IN, requires_grad=True), torch.randn(2, 3, OUT)
    again = x.detach().clone().requires_grad_()
    plain.capture_dense_grad = saving.capture_dense_grad = True
    for _ in range(2):
        backward(plain, x, target)
        backward(saving, again, target, lambda f, x: checkpoint(f, x, use_reentrant=reentrant))
    assert torch.equal(plain.values.grad, saving.values.grad)
    assert torch.equal(plain.bias.grad, saving.bias.grad)
    assert torch.equal(x.grad, again.grad)
    assert torch.equal(plain.dense_grad, saving.dense_grad)


def test_the_dense_gradient_under_autocast():
    layer = layer_of()
    layer.capture_dense_grad = True
    x, target = torch.randn(4, IN), torch.randn(4, OUT)
    with torch.autocast("cpu", torch.bfloat16):
        backward(layer, x, target)
    assert layer.dense_grad.dtype == torch.float32
    torch.testing.assert_close(
        layer.dense_grad, dense_gradient(layer, x, target), atol=0.2, rtol=0.1
    )


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


def test_the_native_kernel_refuses_other_types_by_name():
    with pytest.raises(ValueError, match=r"native kernel cannot run: .*float64"):
        layer_of(dtype=torch.float64, kernel="native")


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


# The stand-in for the dense weight


def test_the_weight_stand_in_has_everything_but_numbers():
    layer = layer_of(dtype=torch.bfloat16)
    weight = layer.weight
    assert weight.shape == (OUT, IN)
    assert (weight.dtype, weight.device) == (torch.bfloat16, layer.values.device)
    assert bool(weight.isnan().all())
    assert weight.untyped_storage().nbytes() == 2
    assert not weight.requires_grad
    assert "weight" not in layer.state_dict()
    assert [name for name, _ in layer.named_parameters()] == ["values", "bias"]


def test_print_tells_shape_and_density():
    assert "in_features=10, out_features=6, links=20, density=0.3333, bias=True" in str(layer_of())


def test_sparse_layers_by_name():
    model = nn.ModuleDict({"a": layer_of(), "b": nn.Sequential(nn.Linear(2, 2), layer_of())})
    assert list(sparse_layers(model)) == ["a", "b.1"]
    assert sparse_layers(nn.Linear(2, 2)) == {}


def test_columns_beyond_16_bits():
    wide = SparseLinear(40_000, 2, 3, bias=False, kernel="dense")
    wide.set_links(torch.tensor([5, 39_999, 79_999]), torch.tensor([1.0, 2.0, 3.0]))
    assert wide.col_indices.dtype == torch.int32
    x = torch.zeros(40_000)
    x[39_999] = 1.0
    assert wide(x).tolist() == [2.0, 3.0]
    assert structure.count_bits(structure.pack(wide.mask)) == 3


# Compilation. A fresh interpreter, because checked shapes are not for the compiler to trace.

COMPILED = """
import torch
from torch import nn
import families, hf_chts
for kernel in ("dense", "auto"):
    model = nn.Sequential(nn.Linear(10, 12), nn.ReLU(), nn.Linear(12, 6))
    hf_chts.sparsify(model, hf_chts.SparsityConfig(sparsity=0.5, kernel=kernel))
    x = torch.randn(3, 10)
    torch._dynamo.reset()
    fast = torch.compile(model, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(fast(x), model(x))
    fast(x).square().sum().backward()
    compiled = [p.grad.clone() for p in model.parameters()]
    model.zero_grad()
    model(x).square().sum().backward()
    for got, parameter in zip(compiled, model.parameters(), strict=True):
        torch.testing.assert_close(got, parameter.grad)
    layer = model[0]
    layer.set_links(torch.arange(layer.nnz), torch.ones(layer.nnz))  # same number, other links
    torch.testing.assert_close(fast(x), model(x))
    exported = torch.export.export(model, (x,))
    torch.testing.assert_close(exported.module()(x), model(x))
    assert torch._dynamo.explain(model)(x).graph_break_count == 0
model = families.make("marian")
hf_chts.sparsify(model, hf_chts.SparsityConfig(sparsity=0.8))
model.eval()
batch = families.batch("marian")
torch._dynamo.reset()
fast = torch.compile(model, backend="aot_eager")
with torch.no_grad():
    torch.testing.assert_close(fast(**batch).logits, model(**batch).logits)
print("compiled")
"""


def test_compiles_and_exports_without_a_graph_break():
    root = Path(__file__).resolve().parents[2]
    paths = os.pathsep.join([str(root), str(root / "tests")])
    environment = {**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", COMPILED],
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.stdout.strip().endswith("compiled"), done.stderr[-3000:]
