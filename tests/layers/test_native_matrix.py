"""Links multiplied as a matrix: where, and like a dense layer."""

import pytest
import torch
from native_cases import Layer, assert_close, needs_binary

from hf_chts.layers.kernels import native_matrix


def way(y):
    """How a result was worked out."""
    return type(y.grad_fn).__name__.removesuffix("Backward")


LEAST_DENSITIES = native_matrix._least_densities


@pytest.fixture(autouse=True)
def as_with_amx(monkeypatch):
    """Layers of a size that tests can afford, on a processor with units for matrices."""
    monkeypatch.setattr(native_matrix, "_LEAST_PRODUCTS", 1)
    monkeypatch.setattr(native_matrix, "_least_densities", lambda: native_matrix._WITH_AMX)


@needs_binary
@pytest.mark.parametrize("wide", [False, True])
@pytest.mark.parametrize("leading", [(300,), (3, 100)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_outputs_and_gradients_are_those_of_a_dense_layer(dtype, leading, wide):
    layer = Layer(30, 20, 0.8, wide=wide).requires_grad()
    x = torch.randn(*leading, 20).to(dtype).requires_grad_()
    y = layer(x)
    assert way(y) == "_AsMatrix"
    direction = torch.randn(y.shape).to(dtype)
    grads = torch.autograd.grad(y, (x, layer.values, layer.bias), direction)
    rows, up, weight = x.detach().double(), direction.double(), layer.dense()
    assert (y.dtype, *(g.dtype for g in grads)) == (dtype, dtype, torch.float32, torch.float32)
    assert_close(y, rows @ weight.T + layer.bias.detach().double(), dtype)
    assert_close(grads[0], up @ weight, dtype)
    flat_up, flat_rows = up.reshape(300, 30), rows.reshape(300, 20)
    assert_close(grads[1], (flat_up.T @ flat_rows)[layer.mask], dtype)
    assert_close(grads[2], flat_up.sum(0), dtype)


@needs_binary
@pytest.mark.parametrize(
    ("dtype", "density", "tokens", "expected"),
    [
        (torch.float32, 0.75, 256, "_AsMatrix"),
        (torch.float32, 0.55, 256, "_Eager"),
        (torch.float32, 0.75, 255, "_Eager"),
        (torch.bfloat16, 0.3, 256, "_AsMatrix"),
        (torch.bfloat16, 0.1, 256, "_Eager"),
        (torch.bfloat16, 0.3, 255, "_Eager"),
    ],
)
def test_many_links_and_tokens_are_multiplied_as_a_matrix(dtype, density, tokens, expected):
    layer = Layer(40, 50, density).requires_grad()
    assert way(layer(torch.randn(tokens, 50, dtype=dtype))) == expected


@pytest.fixture(params=["AMX", "AVX-512 with bfloat16", "neither"])
def units(request, monkeypatch):
    """A processor with units for matrices, with units for bfloat16, and with neither."""
    has_amx, has_bfloat16 = request.param == "AMX", request.param != "neither"
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: has_amx, raising=False)
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: has_bfloat16, raising=False)
    monkeypatch.setattr(native_matrix, "_least_densities", LEAST_DENSITIES.__wrapped__)
    return request.param


@needs_binary
@pytest.mark.parametrize(("tokens", "expected"), [(1024, "_AsMatrix"), (1023, "_Eager")])
def test_small_products_go_link_by_link(monkeypatch, tokens, expected):
    monkeypatch.undo()
    layer = Layer(128, 512, 1.0).requires_grad()
    assert way(layer(torch.randn(tokens, 512))) == expected


@needs_binary
@pytest.mark.parametrize(
    ("dtype", "density", "expected"),
    [
        (torch.float32, 0.55, []),
        (torch.float32, 0.75, ["AMX", "neither"]),
        (torch.float32, 1.0, ["AMX", "AVX-512 with bfloat16", "neither"]),
        (torch.bfloat16, 0.1, []),
        (torch.bfloat16, 0.3, ["AMX"]),
        (torch.bfloat16, 0.55, ["AMX", "AVX-512 with bfloat16"]),
        (torch.bfloat16, 1.0, ["AMX", "AVX-512 with bfloat16"]),
    ],
)
def test_how_many_links_make_a_matrix_depends_on_the_processor(units, dtype, density, expected):
    layer = Layer(40, 50, density).requires_grad()
    taken = way(layer(torch.randn(256, 50, dtype=dtype)))
    assert taken == ("_AsMatrix" if units in expected else "_Eager")


@needs_binary
def test_a_layer_without_bias():
    layer = Layer(30, 20, 0.8).requires_grad()
    x = torch.randn(300, 20, requires_grad=True)
    y = layer(x, bias=False)
    assert way(y) == "_AsMatrix"
    y.sum().backward()
    weight = layer.dense()
    assert_close(y, x.detach().double() @ weight.T, torch.float32)
    assert_close(x.grad, weight.sum(0).expand(300, 20), torch.float32)


@needs_binary
def test_values_that_are_not_side_by_side():
    layer = Layer(30, 20, 0.8)
    x = torch.randn(300, 20)
    expected = layer(x)
    layer.values = torch.stack([layer.values, torch.full_like(layer.values, 9)], 1)[:, 0]
    assert not layer.values.is_contiguous()
    assert torch.equal(layer(x), expected)


@needs_binary
@pytest.mark.parametrize(
    ("narrow", "dtype"), [(torch.float16, torch.float16), (torch.bfloat16, torch.float64)]
)
def test_what_is_cast_to_float32_stays_so_under_autocast(narrow, dtype):
    layer = Layer(30, 20, 0.8).requires_grad()
    x = torch.randn(300, 20).to(dtype).requires_grad_()
    expected = layer(x)
    with torch.autocast("cpu", narrow):
        y = layer(x)
    assert torch.equal(y, expected)
    leaves = x, layer.values, layer.bias
    grads = torch.autograd.grad(y.square().sum(), leaves)
    assert all(map(torch.equal, grads, torch.autograd.grad(expected.square().sum(), leaves)))


@needs_binary
def test_only_wanted_gradients_are_made():
    layer = Layer(20, 30, 0.9)
    layer.bias.requires_grad_()
    x = torch.randn(300, 30)
    layer(x).sum().backward()
    torch.testing.assert_close(layer.bias.grad, torch.full((20,), 300.0))
    assert x.grad is None
    assert layer.values.grad is None


@needs_binary
def test_no_matrix_is_kept_for_the_backward():
    layer, kept = Layer(20, 30, 0.9).requires_grad(), []
    with torch.autograd.graph.saved_tensors_hooks(
        lambda tensor: kept.append(tensor.numel()) or tensor, lambda tensor: tensor
    ):
        layer(torch.randn(300, 30))
    assert sorted(kept) == sorted([300 * 30, layer.values.numel(), 21, layer.col.numel()])


@needs_binary
def test_a_second_derivative_is_refused_and_not_wrong():
    layer = Layer(20, 30, 0.9).requires_grad()
    x = torch.randn(300, 30, requires_grad=True)
    (grad,) = torch.autograd.grad(layer(x).square().sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        grad.sum().backward()


@needs_binary
def test_wrong_shapes_are_refused_as_by_the_other_way():
    layer = Layer(20, 30, 0.9)
    with pytest.raises(ValueError, match="takes 30 features; got x of"):
        layer(torch.randn(300, 31))
    layer.values = torch.randn(layer.values.numel() + 1)
    with pytest.raises(ValueError, match=r"a layer of 20 x 30 with \d+ links; got \d+ values"):
        layer(torch.randn(300, 30))
