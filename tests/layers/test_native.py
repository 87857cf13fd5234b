"""The native kernel against dense float64."""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from native_cases import Layer, assert_close, needs_binary

from hf_chts.layers.kernels import binary, native

ROOT = Path(__file__).resolve().parents[2]


def assert_matches_dense(layer: Layer, x: torch.Tensor, bias: bool = True) -> None:
    layer.requires_grad()
    x = x.detach().requires_grad_()
    y = layer(x, bias)
    grad = torch.randn(y.shape).to(x.dtype)
    wanted = (x, layer.values) + ((layer.bias,) if bias else ())
    grads = torch.autograd.grad(y, wanted, grad)
    rows, grad_rows = x.detach().double(), grad.double().reshape(y.numel() // layer.out, layer.out)
    weight = layer.dense()
    expected = rows @ weight.T + (layer.bias.double() if bias else 0)
    assert y.dtype == x.dtype
    assert_close(y, expected.detach(), x.dtype)
    assert_close(grads[0], (grad.double() @ weight), x.dtype)
    flat = rows.reshape(grad_rows.shape[0], layer.in_)
    assert_close(grads[1], (grad_rows.T @ flat)[layer.mask], x.dtype)
    if bias:
        assert_close(grads[2], grad_rows.sum(0), x.dtype)


def strided(tokens: int, width: int, kind: str) -> torch.Tensor:
    """The same shape laid out in memory in different ways."""
    if kind == "transposed":
        return torch.randn(width, tokens).T
    if kind == "rows apart":
        return torch.randn(tokens, width + 5)[:, 2 : width + 2]
    if kind == "columns apart":
        return torch.randn(tokens, width * 2)[:, ::2]
    if kind == "expanded":
        return torch.randn(1, width).expand(tokens, width)
    return torch.randn(tokens * width + 1)[1:].view(tokens, width)  # misaligned


KINDS = ["transposed", "rows apart", "columns apart", "expanded", "misaligned"]


@needs_binary
@given(
    out=st.integers(1, 300),
    in_=st.integers(1, 300),
    tokens=st.one_of(st.integers(0, 20), st.integers(0, 200)),
    density=st.sampled_from([0.0, 0.02, 0.1, 0.5, 1.0]),
    kind=st.sampled_from(KINDS),
    dtype=st.sampled_from([torch.float32, torch.bfloat16, torch.float16]),
    bias=st.booleans(),
    wide=st.booleans(),
)
@settings(max_examples=60)
def test_matches_dense(out, in_, tokens, density, kind, dtype, bias, wide):
    layer = Layer(out, in_, density, seed=out + in_, wide=wide)
    assert_matches_dense(layer, strided(tokens, in_, kind).to(dtype), bias)


@needs_binary
@pytest.mark.parametrize("leading", [(), (3,), (2, 3), (2, 0, 3), (2, 1, 3, 4)])
def test_any_leading_dimensions(leading):
    assert_matches_dense(Layer(20, 30, 0.3), torch.randn(*leading, 30))


@needs_binary
@pytest.mark.parametrize("shape", [(1, 0), (0, 4), (0, 0), (5, 33_000)])
def test_extreme_widths(shape):
    layer = Layer(*shape, 0.01, wide=True)
    y = layer(torch.ones(2, shape[1]))
    assert_close(y, layer.dense().sum(1).expand(2, -1) + layer.bias.double(), torch.float32)


@needs_binary
@pytest.mark.parametrize("wanted", [(1, 0, 0), (0, 1, 0), (0, 0, 1), (1, 0, 1), (0, 1, 1)])
def test_gradients_that_nobody_needs_are_not_computed(wanted):
    layer = Layer(40, 50, 0.2)
    inputs = (torch.randn(70, 50), layer.values, layer.bias)
    for tensor, want in zip(inputs, wanted, strict=True):
        tensor.requires_grad_(bool(want))
    layer(inputs[0]).sum().backward()
    only = [tensor.grad for tensor in inputs]
    for tensor in inputs:
        tensor.grad = None
        tensor.requires_grad_()
    layer(inputs[0]).sum().backward()
    for tensor, grad, want in zip(inputs, only, wanted, strict=True):
        assert (grad is not None) == bool(want)
        if grad is not None:
            torch.testing.assert_close(grad, tensor.grad)


@needs_binary
def test_a_tokens_result_does_not_depend_on_its_neighbours():
    layer, x = Layer(64, 96, 0.2), torch.randn(200, 96)
    x[7] = torch.nan
    clean = torch.arange(200) != 7
    assert layer(x)[clean].isfinite().all()
    assert layer(x)[7].isnan().any()


@needs_binary
def test_bfloat16_rounds_like_torch():
    layer = Layer(30, 1, 1.0)
    x = torch.randn(64, 1).bfloat16()
    expected = (x.float() * layer.values + layer.bias).bfloat16()
    torch.testing.assert_close(layer(x), expected, rtol=2**-8, atol=0)


@needs_binary
@pytest.mark.parametrize("threads", [1, 2, 3])
def test_deterministic_for_a_number_of_threads(threads):
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        layer, x = Layer(200, 300, 0.1).requires_grad(), torch.randn(500, 300, requires_grad=True)
        runs = [
            (y := layer(x), *torch.autograd.grad(y.square().sum(), (x, layer.values, layer.bias)))
            for _ in range(3)
        ]
    finally:
        torch.set_num_threads(before)
    for run in runs[1:]:
        assert all(torch.equal(a, b) for a, b in zip(runs[0], run, strict=True))


@needs_binary
def test_several_python_threads_at_once():
    layers = [Layer(100 + i, 80 + i, 0.2, seed=i) for i in range(8)]
    xs = [torch.randn(90, layer.in_) for layer in layers]
    alone = [layer(x) for layer, x in zip(layers, xs, strict=True)]
    with ThreadPoolExecutor(4) as pool:
        for _ in range(20):
            together = list(pool.map(lambda pair: pair[0](pair[1]), zip(layers, xs, strict=True)))
            assert all(torch.equal(a, b) for a, b in zip(alone, together, strict=True))


def _use_in_child(queue, layer, x):
    queue.put(layer(x)[0, :5].tolist())  # torch's own large sums hang here


@needs_binary
def test_works_after_fork():
    layer, x = Layer(300, 300, 0.3), torch.randn(400, 300)
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    expected = layer(x)[0, :5].tolist()  # starts OpenMP's threads in the parent
    torch.set_num_threads(before)
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    child = context.Process(target=_use_in_child, args=(queue, layer, x), daemon=True)
    child.start()
    assert queue.get(timeout=30) == pytest.approx(expected, rel=1e-4)
    child.join(10)
    assert child.exitcode == 0


PROBE = """
import ctypes, sys, torch
from hf_chts.layers.kernels import native, native_attention, native_dropout
sys.path.insert(0, {tests!r})
from test_native import Layer
layer = Layer(70, 300, 0.2).requires_grad()
torch.manual_seed(1)
results = []
for tokens in (1, 3, 8, 16, 70):
    x = torch.randn(tokens, 300, requires_grad=True)
    y = layer(x)
    results += [y.detach(), *torch.autograd.grad(y.square().sum(), (x, layer.values, layer.bias))]
dropped = [native_dropout.drop(torch.ones(n), 7, 40000) for n in (0, 1, 5000)]
query, keys, values = torch.randn(5, 3, 21), torch.randn(9, 4, 3, 21), torch.randn(9, 4, 3, 21)
places = torch.randint(4, (9, 5), dtype=torch.int32)
seen = torch.rand(5, 9) < 0.7
attended = [native_attention.attend(query, keys, values, places, seen, 0.5)]
torch.save(results + dropped + attended, {file!r})
assert native.isa() == {isa!r}, native.isa()
# What a library that brings no OpenMP finds; sentencepiece may have loaded one for itself.
address = ctypes.cast(ctypes.CDLL(None).GOMP_parallel, ctypes.c_void_p).value
for line in open("/proc/self/maps"):
    first, _, last = line.split()[0].partition("-")
    if int(first, 16) <= address < int(last, 16):
        owner = line.split()[-1]
assert "/torch" in owner and "omp" in owner, owner
"""


def run_with_isa(isa: str, file: Path) -> subprocess.CompletedProcess[str]:
    code = PROBE.format(tests=str(Path(__file__).parent), file=str(file), isa=isa)
    env = {**os.environ, "HF_CHTS_ISA": isa, "PYTHONPATH": str(ROOT)}
    return subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True)


@needs_binary
def test_instruction_sets_agree_and_share_the_openmp_of_torch(tmp_path):
    known = ["avx512", "avx2", "baseline"]
    results = {}
    for isa in known[known.index(native.isa() or "baseline") :]:
        ran = run_with_isa(isa, tmp_path / isa)
        assert ran.returncode == 0, ran.stderr
        results[isa] = torch.load(tmp_path / isa)
    for other in results.values():
        for a, b in zip(results["baseline"], other, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)


@needs_binary
def test_unknown_instruction_set_is_said(monkeypatch):
    monkeypatch.setenv("HF_CHTS_ISA", "mmx")
    binary.load.cache_clear()
    try:
        assert "HF_CHTS_ISA=mmx is not" in str(native.why_unavailable(torch.zeros(1)))
    finally:
        monkeypatch.undo()
        binary.load.cache_clear()
        assert native.isa() is not None  # the library is one: its choice is made anew


@needs_binary
def test_index_is_small():
    layer = Layer(2048, 512, 0.1)
    size = sum(t.numel() * t.element_size() for t in layer.index[2:])
    assert size <= 0.8 * 2048 * 512
    assert layer.index[0] is layer.crow or torch.equal(layer.index[0], layer.crow)
    assert layer.index[1].data_ptr() == layer.col.data_ptr()  # no second copy


@needs_binary
def test_gradients_of_other_links_are_refused():
    """Their number decides how far the kernel reads and writes."""
    layer, x, grad = Layer(30, 40, 0.3), torch.randn(5, 40), torch.randn(5, 30)
    with pytest.raises(ValueError, match="other links than these 100 in the forward pass"):
        torch.ops.hf_chts.sparse_linear_backward(
            grad, x, layer.values[:100], layer.index[2], True, True, True
        )


@needs_binary
@pytest.mark.parametrize("spoil", [lambda grad: grad[:4], lambda grad: grad.bfloat16()])
def test_gradients_of_another_shape_or_type_are_refused(spoil):
    """The kernel would read beyond their end."""
    layer, x = Layer(30, 40, 0.3), torch.randn(5, 40)
    with pytest.raises(ValueError, match=r"not that of what was made of x of \(5, 40\)"):
        torch.ops.hf_chts.sparse_linear_backward(
            spoil(torch.randn(5, 30)), x, layer.values, layer.index[2], True, True, True
        )
