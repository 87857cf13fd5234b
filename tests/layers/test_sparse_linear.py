"""SparseLinear is a linear layer that stores active links only."""

import copy
import os
import subprocess
import sys
from pathlib import Path

import jaxtyping
import pytest
import torch
import torch.nn.functional as F
from sparse_cases import IN, KERNELS, OUT, backward, layer_of
from torch import nn
from torch.utils.checkpoint import checkpoint

from hf_chts.layers import structure
from hf_chts.layers.sparse_linear import SparseLinear, sparse_layers


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


@pytest.fixture
def _types_unchecked():
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


@pytest.mark.usefixtures("_types_unchecked")
@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("autocast", [True, False])
@pytest.mark.parametrize("dtype", [torch.int64, torch.bool, torch.complex64])
def test_only_floating_point_numbers_are_taken(kernel, autocast, dtype):
    layer, x = layer_of(kernel=kernel), torch.ones(2, IN, dtype=dtype)
    says = f"takes floating-point numbers; got {dtype}"
    with torch.autocast("cpu", enabled=autocast), pytest.raises(TypeError, match=says):
        layer(x)


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


def test_autocast_leaves_double_precision_alone():
    layer, x = layer_of(dtype=torch.float64), torch.randn(3, IN, dtype=torch.float64)
    with torch.autocast("cpu", torch.bfloat16):
        y, want = layer(x), F.linear(x, layer.to_dense(), layer.bias)
    torch.testing.assert_close(y, want)


# Dense gradients


def dense_gradient(layer, x, target):
    """Autograd's gradient of a dense weight for the loss used below."""
    weight = layer.to_dense().detach().requires_grad_()
    loss = (F.linear(x, weight, layer.bias.detach()) * target).square().sum()
    return torch.autograd.grad(loss, weight)[0]


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


def test_the_native_kernel_refuses_other_types_by_name():
    with pytest.raises(ValueError, match=r"native kernel cannot run: .*float64"):
        layer_of(dtype=torch.float64, kernel="native")


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
