"""What a topology update does to links, weights and optimizer state."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from plain_loop import OPTIMIZERS, Loop, check_moved
from torch import nn

from hf_chts import SparsityConfig, Topology, sparse_layers, sparsify
from hf_chts.engine.budget import density_settles, last_update
from hf_chts.engine.optimizer_state import saliency

METHODS = ("static", "set", "rigl", "chts")


@pytest.mark.parametrize("method", METHODS)
def test_exact_link_counts_and_no_dense_tensors(method) -> None:
    loop = Loop(method=method)
    counts = {name: layer.nnz for name, layer in loop.layers.items()}
    assert counts == {"0": round(0.4 * 192), "2": round(0.4 * 160), "4": round(0.4 * 40)}
    for _ in range(12):
        updates = loop.go()
        assert {n: int(m.sum()) for n, m in loop.masks().items()} == counts
        assert bool(updates) == (method != "static" and loop.step % 2 == 0)
        for name, layer in loop.layers.items():
            assert layer.values.shape == layer.col_indices.shape == (counts[name],)
            assert layer.values.grad is None or layer.values.grad.shape == (counts[name],)
            assert layer.dense_grad is None
            next_reads = method == "rigl" and loop.topology.is_due(loop.step + 1)
            assert layer.capture_dense_grad == next_reads
            assert not layer.capture_coactivation
        loop.dense_state()  # checks the shapes of the optimizer's state


@settings(max_examples=25)
@given(
    method=st.sampled_from(METHODS[1:]),
    sparsity=st.floats(0.0, 0.97),
    zeta=st.floats(0, 1),
    how=st.sampled_from(["uniform", "er"]),
)
def test_any_density_and_zeta(method, sparsity, zeta, how) -> None:
    loop = Loop(method=method, sparsity=sparsity, zeta=zeta, layer_density=how, kernel="dense")
    counts = {name: layer.nnz for name, layer in loop.layers.items()}
    for _ in range(4):
        loop.go()
        assert {n: int(m.sum()) for n, m in loop.masks().items()} == counts


@pytest.mark.parametrize("method", ["gmp", "granet", "chtss"])
def test_obd_moves_density_to_layers_that_matter_as_it_falls(method) -> None:
    loop = Loop(method=method, sparsity=0.7, layer_density="obd", kernel="dense")
    size = sum(layer.in_features * layer.out_features for layer in loop.layers.values())
    counts = [layer.nnz for layer in loop.layers.values()]
    for _ in range(12):
        loop.before_update()
        state = loop.optimizer.state[loop.layers["0"].values]
        state["exp_avg_sq"].fill_(1e3)  # its gradients are far larger than the others'
        loop.topology.after_step(loop.step)
        now = [layer.nnz for layer in loop.layers.values()]
        assert all(b <= a for a, b in zip(counts, now, strict=True))
        counts = now
    assert sum(counts) == pytest.approx(0.3 * size, abs=len(counts))
    densities = {name: layer.density for name, layer in loop.layers.items()}
    assert densities["0"] > 0.4 > 0.2 > densities["2"] > 0.3 * 0.3 - 0.01


@pytest.mark.parametrize("frozen", [["2"], ["0", "2", "4"]])
def test_obd_leaves_frozen_layers_their_share(frozen) -> None:
    loop = Loop(method="gmp", sparsity=0.7, layer_density="obd")
    for name in frozen:
        loop.layers[name].values.requires_grad_(False)
    for _ in range(12):
        loop.go()
    for name in frozen:
        assert loop.layers[name].density == pytest.approx(0.3, abs=0.01)


def test_obd_saliency_by_hand() -> None:
    loop = Loop(method="chtss", sparsity=0.7, layer_density="obd")
    loop.go()
    layer = loop.layers["0"]
    values = layer.values.detach().fill_(3.0)
    loop.optimizer.state[layer.values]["exp_avg_sq"].fill_(0.25)
    assert torch.equal(saliency(loop.optimizer, layer, "0"), torch.full_like(values, 9 * 0.5))


def test_obd_takes_an_optimizer_that_keeps_squared_gradients() -> None:
    for kind in ("rmsprop", "adafactor", "adafactor_hf"):
        loop = Loop(kind, method="chtss", sparsity=0.7, layer_density="obd")
        assert loop.go() == []
        assert loop.go()
    for momentum, steps in ((0.9, 1), (0.0, 2)):  # without momentum it keeps nothing to look at
        loop = Loop("sgd", method="chtss", sparsity=0.7, layer_density="obd")
        loop.optimizer.param_groups[0]["momentum"] = momentum
        before = loop.masks()
        for _ in range(steps - 1):
            assert loop.go() == []
        with pytest.raises(ValueError, match="SGD keeps none for 0: take one of these"):
            loop.go()
        assert all(torch.equal(mask, before[name]) for name, mask in loop.masks().items())


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("method", ["set", "chts"])
def test_state_follows_links(optimizer, method) -> None:
    loop = Loop(optimizer, method=method, zeta=0.5, zeta_schedule="constant")
    moved = 0
    for _ in range(8):
        loop.before_update()
        before, old = loop.dense_state(), loop.masks()
        updates = loop.topology.after_step(loop.step)
        moved += sum(row.regrown for row in updates)
        check_moved(loop, before, old)
        if updates:
            assert all(layer.values.grad is None for layer in loop.layers.values())
    assert moved > 50
    assert len(loop.dense_state()) > len(loop.layers)  # there was state to move


def test_removed_and_regrown_in_one_update_never_left() -> None:
    """With all links removed and the whole matrix regrown every old link comes back."""
    loop = Loop(method="set", sparsity=0.0, zeta=1.0)
    loop.before_update()
    loop.topology.after_step(loop.step)
    loop.before_update()
    before, old = loop.dense_state(), loop.masks()
    updates = loop.topology.after_step(loop.step)
    assert [row.removed for row in updates] == [0, 0, 0]
    check_moved(loop, before, old)


def test_a_layer_of_one_link_gets_new_state() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 4))
    sparsify(model, SparsityConfig(method="set", sparsity=15 / 16, update_interval=1, zeta=1.0))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    topology = Topology(model, optimizer, total_steps=100)
    for step in range(1, 20):
        optimizer.zero_grad()
        topology.before_backward(step)
        model(torch.randn(8, 4)).square().sum().backward()
        optimizer.step()
        for row in topology.after_step(step):
            layer = sparse_layers(model)[row.name]
            assert row.n_links == 1
            if row.regrown:
                state = optimizer.state[layer.values]
                assert not layer.values.any()
                assert not state["exp_avg"].any()
                assert not state["exp_avg_sq"].any()


def test_soft_removal_hardens_over_training_and_draws_anew_each_time() -> None:
    """On two layers with the same links, of which half is to go."""

    def removal(exponent):
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(30, 30), nn.ReLU(), nn.Linear(30, 30))
        config = SparsityConfig(
            method="chts", sparsity=0.5, zeta=0.5, zeta_schedule="constant",
            removal_exponent=exponent, update_interval=1, stop_fraction=1.0,
        )  # fmt: skip
        sparsify(model, config)
        topology = Topology(model, torch.optim.SGD(model.parameters()), total_steps=10)
        one, other = sparse_layers(model).values()
        other.set_links(one.positions, one.values.detach())
        return one, lambda name, step: topology._remove(name, one.mask, one.nnz, step)

    layer, survivors = removal("delta_linear")
    size = layer.to_dense().abs()
    most = float(size[layer.mask].topk(layer.nnz // 2).values.sum())
    early, late = (float(size[survivors("0", step)].sum()) / most for step in (1, 10))
    assert early < 0.9 < 0.98 < late < 1
    _, survivors = removal(1.0)
    draws = [survivors("0", 1), survivors("0", 2), survivors("2", 1)]
    assert torch.equal(draws[0], survivors("0", 1))
    assert len({tuple(draw.flatten().tolist()) for draw in draws}) == 3


def test_a_rule_sees_no_weight_of_a_link_that_is_gone_already() -> None:
    loop = Loop(method="chtss", removal="relative_importance")
    mask = loop.layers["0"].mask
    mask[::2] = False
    (links,) = loop.topology._links("0", mask, loop.topology.removal, "removal", 1)
    assert torch.equal(links.mask, mask)
    assert torch.equal(links.weight, loop.layers["0"].to_dense().masked_fill(~mask, 0))
    assert links.weight.any()


def test_when_updates_are_due() -> None:
    loop = Loop(method="set", total=20, update_interval=3, stop_fraction=0.5)
    assert [step for step in range(1, 21) if loop.go()] == [3, 6, 9]
    assert [step for step in range(1, 30) if loop.topology.is_due(step)] == [3, 6, 9]


@pytest.mark.parametrize(
    ("fraction", "total", "interval", "expected"),
    [(0.75, 1200, 40, 880), (0.57, 100, 1, 57), (1.0, 10, 3, 9), (0.0, 10, 1, 0), (0.5, 3, 2, 0)],
)
def test_last_update(fraction, total, interval, expected) -> None:
    config = SparsityConfig(method="set", stop_fraction=fraction, update_interval=interval)
    assert last_update(config, total) == expected
    assert last_update(SparsityConfig(method="static"), total) == 0


@pytest.mark.parametrize("method", ["chtss", "chtss_cubic", "chtss_obd", "granet", "gmp", "mest"])
def test_a_model_at_its_final_density_stays_there_when_it_trains_again(method) -> None:
    """The schedule begins anew, and would give links back that were paid for once."""
    loop = Loop(method=method, sparsity=0.8)
    for _ in range(12):
        loop.go()
    final = {n: x.nnz for n, x in loop.layers.items()}
    assert sum(final.values()) == 38 + 32 + 8
    loop.topology, loop.step = Topology(loop.model, loop.optimizer, total_steps=12), 0
    for _ in range(12):
        loop.go()
        assert {n: x.nnz for n, x in loop.layers.items()} == final


@pytest.mark.parametrize(
    ("method", "expected"), [("dense", 0), ("chts", 0), ("mest", 60), ("gmp", 60), ("chtss", 60)]
)
def test_the_step_at_which_the_density_is_the_final_one(method, expected) -> None:
    config = SparsityConfig(method=method, update_interval=20, stop_fraction=0.75)
    assert density_settles(config, 100) == expected


def final(seed=0, **kwargs):
    loop = Loop(seed=seed, **kwargs)
    for _ in range(12):
        loop.go()
    return loop.dense_state(), loop.masks()


@pytest.mark.parametrize("method", METHODS[1:])
def test_same_seed_same_run(method) -> None:
    torch.manual_seed(1)
    one, masks = final(method=method)
    torch.rand(100)
    two, same = final(method=method)
    assert all(torch.equal(one[key], two[key]) for key in one)
    assert all(torch.equal(masks[name], same[name]) for name in masks)
    _, other = final(seed=1, method=method)
    assert not torch.equal(masks["0"], other["0"])


def test_gradient_is_summed_over_micro_batches() -> None:
    """Two half batches regrow the same links as the whole one."""
    masks = []
    for parts in (1, 2):
        loop = Loop(method="rigl", zeta=0.4, optimizer="sgd")
        loop.topology.before_backward(2)
        for x, y in zip(loop.data[0].chunk(parts), loop.data[1].chunk(parts), strict=True):
            loop.topology.before_backward(2)
            (nn.functional.cross_entropy(loop.model(x), y, reduction="sum") / 64).backward()
        loop.topology.after_step(2)
        masks.append(loop.masks())
    assert all(torch.equal(masks[0][name], masks[1][name]) for name in masks[0])


def test_updates_tell_the_truth() -> None:
    loop = Loop(method="set", zeta=0.4, sparsity=0.8)
    ever = loop.masks()
    for _ in range(12):
        loop.before_update()
        old = loop.masks()
        for row in loop.topology.after_step(loop.step):
            mask = loop.layers[row.name].mask
            ever[row.name] = ever[row.name] | mask
            assert row.removed == int((old[row.name] & ~mask).sum()) > 0
            assert row.regrown == int((mask & ~old[row.name]).sum())
            assert row.n_links == int(mask.sum())
            assert row.density == pytest.approx(float(mask.float().mean()))
            assert row.itop == pytest.approx(float(ever[row.name].float().mean()))
    assert float(ever["0"].float().mean()) > 0.3
