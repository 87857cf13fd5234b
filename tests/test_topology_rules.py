"""Updates follow the rules of their method, exactly."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from plain_loop import Loop, check_moved
from torch import nn

from hf_chts import SparsityConfig, Topology, link_scores, sparse_layers, sparsify
from hf_chts.engine.ranks import SharedWork


def test_rigl_grows_the_largest_gradients() -> None:
    loop = Loop(method="rigl", zeta=0.4, zeta_schedule="constant")
    loop.go()
    old_weights = {n: layer.to_dense().detach().clone() for n, layer in loop.layers.items()}
    loop.step += 1
    loop.optimizer.zero_grad()
    reference = nn.Sequential(
        *(nn.Linear(x.in_features, x.out_features) if n in loop.layers else x
          for n, x in loop.model.named_children())
    )  # fmt: skip
    for name, layer in loop.layers.items():
        reference[int(name)].weight.data = old_weights[name]
        reference[int(name)].bias.data = layer.bias.detach().clone()
    nn.functional.cross_entropy(reference(loop.data[0]), loop.data[1]).backward()
    loop.topology.before_backward(loop.step)
    loop.loss().backward()
    loop.optimizer.step()
    before = {n: layer.to_dense().detach().abs() for n, layer in loop.layers.items()}
    old = loop.masks()
    loop.topology.after_step(loop.step)
    for name, layer in loop.layers.items():
        n_removed = int(0.4 * layer.nnz)
        survivors = torch.zeros_like(old[name])
        order = before[name].masked_fill(~old[name], -1).flatten().argsort(descending=True)
        survivors.view(-1)[order[: layer.nnz - n_removed]] = True
        scores = reference[int(name)].weight.grad.abs().masked_fill(survivors, -1)
        expected = survivors.clone()
        expected.view(-1)[scores.flatten().topk(n_removed).indices] = True
        assert torch.equal(layer.mask, expected)


def test_removal_ranks_magnitudes() -> None:
    loop = Loop(method="set", zeta=0.25)
    loop.go()
    loop.before_update()
    weights, old = loop.dense_state(), loop.masks()
    loop.topology.after_step(loop.step)
    for name, layer in loop.layers.items():
        size = weights[name, "weight"].abs()
        lost = old[name] & ~layer.mask
        smallest = size[old[name]].sort().values[: int(0.25 * layer.nnz)]
        assert lost.any()
        assert size[lost].max() <= smallest.max()


def test_set_grows_uniformly() -> None:
    """Every link that was inactive, or just removed, is regrown equally often."""
    torch.manual_seed(0)
    hits = torch.zeros(8, 8)
    for seed in range(100):
        model = nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 2))
        config = SparsityConfig(
            method="set", sparsity=0.5, update_interval=1, zeta=1.0, seed=seed, kernel="dense"
        )
        sparsify(model, config)
        topology = Topology(model, torch.optim.SGD(model.parameters(), lr=0.1), total_steps=10)
        topology.after_step(1)
        hits += sparse_layers(model)["0"].mask
    # binomial with n 100, p 1/2: variance 25; 64 cells
    assert (hits - 50).abs().max() < 4.5 * math.sqrt(25)
    assert ((hits - 50) ** 2 / 25).sum() < 110  # chi-square, about 63 degrees of freedom


@pytest.mark.parametrize("exponent", ["ranked", 1.0])
def test_chts_regrowth_follows_ch2_l3n(exponent) -> None:
    loop = Loop(
        method="chts", sparsity=0.8, zeta=0.3, zeta_schedule="constant", removal_exponent="ranked",
        regrowth_exponent=exponent, percolation=False,
    )  # fmt: skip
    loop.go()
    loop.before_update()
    weights, old = loop.dense_state(), loop.masks()
    loop.topology.after_step(loop.step)
    for name, layer in loop.layers.items():
        n_removed = int(0.3 * layer.nnz)
        size = weights[name, "weight"].abs().masked_fill(~old[name], -1)
        kept = torch.zeros_like(old[name])
        kept.view(-1)[size.flatten().argsort(descending=True)[: layer.nnz - n_removed]] = True
        assert bool((layer.mask | ~kept).all())
        scores = link_scores(kept, rule="ch2_l3n").nan_to_num(0).masked_fill(kept, 0)
        grown = layer.mask & ~kept
        n_positive = int((scores > 0).sum())
        assert int((scores[grown] > 0).sum()) == min(n_removed, n_positive)
        if exponent == "ranked" and n_positive > n_removed:
            rest = scores.masked_fill(layer.mask, 0)
            assert scores[grown].min() >= rest.max()


@pytest.mark.parametrize("schedule", ["constant", "cosine"])
def test_zeta_schedules_count(schedule) -> None:
    """Regrowth takes from the emptied matrix, so what is gone is what zeta took."""
    loop = Loop(method="rigl", sparsity=0.9, zeta=0.5, zeta_schedule=schedule, total=8)
    for step in range(1, 9):
        updates = loop.go()
        if step % 2:
            assert not updates
            continue
        share = 0.5 if schedule == "constant" else 0.25 * (1 + math.cos(math.pi * step / 8))
        for row in updates:
            assert row.removed == row.regrown <= int(share * row.n_links)
        if schedule == "constant":
            assert sum(row.removed for row in updates) > 0
        elif step == 8:
            assert all(row.removed == 0 for row in updates)


def test_number_of_survivors_is_what_zeta_leaves() -> None:
    loop = Loop(method="set", sparsity=0.95, zeta=0.5)
    loop.go()
    loop.before_update()
    for name, layer in loop.layers.items():
        kept = loop.topology._remove(name, layer.mask, layer.nnz, loop.step)
        assert int(kept.sum()) == layer.nnz - int(0.5 * layer.nnz)


def test_falling_density_ends_exactly_at_the_target() -> None:
    loop = Loop(
        method="set", sparsity=0.8, initial_sparsity=0.2, density_schedule="cubic", total=13,
        update_interval=3, stop_fraction=0.9,
    )  # fmt: skip
    start = {name: layer.nnz for name, layer in loop.layers.items()}
    assert start["0"] == round(0.8 * 192)
    seen = []
    for _ in range(13):
        loop.before_update()
        before, old = loop.dense_state(), loop.masks()
        loop.topology.after_step(loop.step)
        check_moved(loop, before, old)
        seen.append(loop.layers["0"].nnz)
    assert seen == sorted(seen, reverse=True)
    assert {n: x.nnz for n, x in loop.layers.items()} == {"0": 38, "2": 32, "4": 8}


@pytest.mark.parametrize("kernel", ["auto", "dense"])
def test_density_falls_while_the_last_loss_is_held(kernel) -> None:
    """A loop that keeps its last loss keeps a graph of the parameters' old sizes alive."""
    loop = Loop(method="chtss", sparsity=0.8, total=12, kernel=kernel)
    held = None
    for step in range(1, 13):
        loop.optimizer.zero_grad()
        loop.topology.before_backward(step)
        loss = loop.loss()
        loss.backward()
        loop.optimizer.step()
        loop.topology.after_step(step)
        held = loss
    assert held is not None
    assert {n: x.nnz for n, x in loop.layers.items()} == {"0": 38, "2": 32, "4": 8}


def test_percolation_cuts_dead_neurons() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 6))
    config = SparsityConfig(
        method="chts", sparsity=0.5, update_interval=1, zeta=0.0, zeta_schedule="constant",
        stop_fraction=1.0,
    )  # fmt: skip
    sparsify(model, config)
    first, last = sparse_layers(model).values()
    mask = torch.ones(8, 6, dtype=torch.bool)
    mask[3] = False  # hidden neuron 3 has no input
    positions = mask.flatten().nonzero().squeeze(1)[: first.nnz]
    first.set_links(positions, torch.ones(first.nnz))
    full = torch.arange(last.nnz)
    last.set_links(full, torch.ones(last.nnz))
    topology = Topology(model, torch.optim.SGD(model.parameters(), lr=0.0), total_steps=10)
    work = SharedWork(topology.layers)
    kept = topology._percolate({"0": first.mask, "2": last.mask}, work)
    assert min(work.seconds.values()) > 0
    dead = ~first.mask.any(1)
    assert dead[3]
    assert not kept["2"][:, dead].any()
    assert torch.equal(kept["2"][:, ~dead], last.mask[:, ~dead])
    links = int(last.mask[:, dead].sum())
    rows = {row.name: row for row in topology.after_step(1)}
    assert links > 0
    assert rows["2"].n_links == full.numel()


@pytest.mark.parametrize("method", ["gmp", "granet", "chtss"])
def test_falling_density_shrinks_links_and_state(method) -> None:
    loop = Loop(method=method, sparsity=0.8, update_interval=2, total=12)
    start = 0.0 if method == "gmp" else 0.5
    assert {n: x.density for n, x in loop.layers.items()} == pytest.approx(
        dict.fromkeys(loop.layers, 1 - start)
    )
    for _ in range(12):
        loop.before_update()
        before, old = loop.dense_state(), loop.masks()
        updates = loop.topology.after_step(loop.step)
        check_moved(loop, before, old)
        x = loop.step / 12
        if method == "chtss":
            sigma = [1 / (1 + math.exp(-12 * (at - 0.5))) for at in (x, 0, 1)]
            share = (sigma[0] - sigma[1]) / (sigma[2] - sigma[1])
        else:
            share = 1 - (1 - x) ** 3
        for row in updates:
            total = round(row.n_links / row.density)
            assert row.n_links == round((1 - start - (0.8 - start) * share) * total)
    counts = {name: layer.nnz for name, layer in loop.layers.items()}
    assert counts == {"0": round(0.2 * 192), "2": round(0.2 * 160), "4": round(0.2 * 40)}


def test_decay_keeps_the_highest_ranked_links() -> None:
    loop = Loop(method="chtss", sparsity=0.8, zeta=0.0, percolation=False, total=4)
    loop.before_update(), loop.topology.after_step(1), loop.before_update()
    weights = {name: layer.to_dense().detach().abs() for name, layer in loop.layers.items()}
    old = loop.masks()
    loop.topology.after_step(2)
    for name, weight in weights.items():
        shares = [weight / weight.sum(d, keepdim=True).clamp_min(1e-30) for d in (0, 1)]
        rank = (shares[0] + shares[1]).masked_fill(~old[name], -1)
        kept = torch.zeros_like(old[name]).flatten()
        kept[rank.flatten().topk(loop.layers[name].nnz).indices] = True
        assert torch.equal(loop.masks()[name].flatten(), kept)


@pytest.mark.parametrize("method", ["set", "chts", "rigl", "mest", "hebbian", "cht"])
def test_frozen_layers_keep_their_links(method) -> None:
    loop = Loop(method=method, zeta=0.5, zeta_schedule="constant", density_schedule="constant")
    frozen = loop.layers["2"]
    frozen.values.requires_grad_(False)
    before, weights = loop.masks(), frozen.to_dense()
    for _ in range(4):
        loop.go()
    after = loop.masks()
    assert torch.equal(after["2"], before["2"])
    assert torch.equal(frozen.to_dense(), weights)
    assert not torch.equal(after["0"], before["0"])


def test_a_falling_density_takes_the_weakest_links_of_frozen_layers() -> None:
    loop = Loop(method="gmp", sparsity=0.75)
    frozen = loop.layers["2"]
    frozen.values.requires_grad_(False)
    weights = frozen.to_dense()
    for _ in range(12):
        loop.go()
    kept = weights.abs().flatten().topk(frozen.nnz).indices
    assert frozen.density == pytest.approx(0.25, abs=0.01)
    assert set(kept.tolist()) == set(frozen.positions.tolist())
    assert torch.equal(frozen.to_dense(), weights * frozen.mask)


@pytest.mark.parametrize("method", ["mest", "chtss", "gmp"])
def test_a_density_that_a_skipped_step_left_too_high_comes_down(method) -> None:
    loop = Loop(method=method, sparsity=0.75, stop_fraction=0.5)
    for step in range(1, 6):
        assert bool(loop.go()) == (step % 2 == 0)
    assert loop.go(skipped=True) == []
    assert all(x.density > 0.26 for x in loop.layers.values())
    assert loop.topology.is_due(7)
    assert loop.go()
    assert {name: x.nnz for name, x in loop.layers.items()} == {"0": 48, "2": 40, "4": 10}
    assert not loop.topology.is_due(8)


def test_what_layers_remember_is_loaded_into_another_topology() -> None:
    loop, other = (Loop(method="set", zeta=0.5, historical_weights=2.0) for _ in range(2))
    for _ in range(4):
        loop.go()
    state = loop.topology.state_dict()
    assert {name.rpartition(".")[2] for name in state} >= {"explored", "past_values"}
    other.model.load_state_dict(loop.model.state_dict())
    other.optimizer.load_state_dict(copy.deepcopy(loop.optimizer.state_dict()))
    other.topology.load_state_dict(state)
    other.step = loop.step
    for _ in range(4):
        rows = [[(r.n_links, r.regrown, r.itop) for r in each.go()] for each in (loop, other)]
        assert rows[0] == rows[1]
    assert all(torch.equal(mask, other.masks()[name]) for name, mask in loop.masks().items())
    with pytest.raises(ValueError, match="which no sparse layer here has"):
        other.topology.load_state_dict({"absent.explored": torch.zeros(1)})
