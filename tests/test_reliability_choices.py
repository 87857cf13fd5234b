"""Exact numbers of links, whatever the scores, shares and densities."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from plain_loop import Loop

from hf_chts import SparseLinear, SparsityConfig, Topology, initial_mask, sparse_layers, sparsify
from hf_chts.rules.select import choose


@settings(max_examples=150)
@given(
    st.lists(
        st.one_of(st.floats(allow_nan=True, width=32), st.sampled_from([0.0, 1e38, 3e38, 1e-45])),
        min_size=1,
        max_size=30,
    ),
    st.data(),
    st.sampled_from([None, 0.0, 1.0, 9.0, 1e6]),
)
def test_any_scores_give_exactly_k_links_or_an_error(scores, data, exponent) -> None:
    k = data.draw(st.integers(0, len(scores)))
    table = torch.tensor([scores])
    eligible = torch.ones_like(table, dtype=torch.bool)
    good = all(map(math.isfinite, scores)) and (exponent is None or min(scores) >= 0)
    if good:
        assert int(choose(table, eligible, k, torch.Generator(), exponent).sum()) == k
    else:
        with pytest.raises(ValueError, match=r"scores|soft choice"):
            choose(table, eligible, k, torch.Generator(), exponent)


@pytest.mark.parametrize("zeta", [0.0, 1e-9, 0.5, 0.999999, 1.0])
@pytest.mark.parametrize("method", ["set", "rigl", "chts", "chtss", "cht", "mest"])
def test_any_zeta_keeps_the_number_of_links(method, zeta) -> None:
    loop = Loop(method=method, zeta=zeta)
    for _ in range(4):
        loop.go()
    expected = {n: x.nnz for n, x in Loop(method=method, zeta=zeta).layers.items()}
    if method not in ("chtss",):  # whose density falls
        assert {n: x.nnz for n, x in loop.layers.items()} == expected
    for layer in loop.layers.values():
        assert layer.what_is_wrong() is None
        assert bool(layer.values.isfinite().all())


@settings(max_examples=40)
@given(
    st.integers(1, 9), st.integers(1, 9), st.floats(1e-6, 1 - 1e-6),
    st.sampled_from(["set", "rigl", "chts", "cht"]), st.floats(0, 1),
)  # fmt: skip
def test_tiny_layers_and_any_density(out, inp, sparsity, method, zeta) -> None:
    """Fewer candidates than links to regrow, no free place at all, or a density of no link."""
    model = torch.nn.Sequential(torch.nn.Linear(inp, out), torch.nn.ReLU(), torch.nn.Linear(out, 2))
    config = SparsityConfig(
        method=method, sparsity=sparsity, zeta=zeta, update_interval=1, stop_fraction=1.0
    )
    if round((1 - sparsity) * out * inp) < 1 or round((1 - sparsity) * out * 2) < 1:
        with pytest.raises(ValueError, match="no link"):
            sparsify(model, config)
        return
    sparsify(model, config)
    optimizer = torch.optim.Adam(model.parameters())
    topology = Topology(model, optimizer, total_steps=3)
    counts = {name: layer.nnz for name, layer in sparse_layers(model).items()}
    for step in (1, 2, 3):
        topology.before_backward(step)
        model(torch.randn(4, inp)).square().sum().backward()
        optimizer.step()
        topology.after_step(step)
        assert {name: layer.nnz for name, layer in sparse_layers(model).items()} == counts


def test_zero_weights_and_gradients_still_give_exact_counts() -> None:
    for method in ("set", "rigl", "chts", "mest"):
        loop = Loop(method=method)
        counts = [layer.nnz for layer in loop.layers.values()]
        for _ in range(4):
            with torch.no_grad():
                for layer in loop.layers.values():
                    layer.values.zero_()
            loop.go()
        assert [layer.nnz for layer in loop.layers.values()] == counts


@pytest.mark.parametrize("rule", ["er", "brf", "bsw", "bsf"])
def test_a_density_of_no_link_is_refused(rule) -> None:
    with pytest.raises(ValueError, match="leaves no link"):
        initial_mask(rule, 10, 10, 1e-9)
    assert isinstance(SparseLinear(3, 3, 0), torch.nn.Module)
