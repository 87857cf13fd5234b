from __future__ import annotations

import copy
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from transformers.optimization import Adafactor

import hf_chts
from hf_chts import SparsityConfig, Topology, link_scores, sparse_layers, sparsify
from hf_chts.budget import last_update

METHODS = ("static", "set", "rigl", "chts")
OPTIMIZERS = {
    "adamw_loop": lambda p: torch.optim.AdamW(p, lr=1e-2, foreach=False),
    "adamw_foreach": lambda p: torch.optim.AdamW(p, lr=1e-2, foreach=True),
    "adamw_fused": lambda p: torch.optim.AdamW(p, lr=1e-2, fused=True),
    "adamw_amsgrad": lambda p: torch.optim.AdamW(p, lr=1e-2, amsgrad=True),
    "sgd": lambda p: torch.optim.SGD(p, lr=1e-2, momentum=0.9),
    "adagrad": lambda p: torch.optim.Adagrad(p, lr=1e-2),
    "rmsprop": lambda p: torch.optim.RMSprop(p, lr=1e-2, momentum=0.9),
    "adafactor": lambda p: torch.optim.Adafactor(p, lr=1e-2),
    "adafactor_hf": lambda p: Adafactor(
        p, lr=1e-2, scale_parameter=False, relative_step=False, warmup_init=False
    ),
}


class Loop:
    """A plain training loop of a small perceptron that keeps what it sees at each update."""

    def __init__(self, optimizer="adamw_loop", total=12, **config) -> None:
        torch.manual_seed(0)
        self.model = nn.Sequential(
            nn.Linear(12, 16), nn.ReLU(), nn.Linear(16, 10), nn.Tanh(), nn.Linear(10, 4)
        )
        chosen = {"sparsity": 0.6, "update_interval": 2, "stop_fraction": 1.0, **config}
        sparsify(self.model, SparsityConfig(**chosen))
        self.optimizer = OPTIMIZERS[optimizer](self.model.parameters())
        self.topology = Topology(self.model, self.optimizer, total_steps=total)
        self.layers = sparse_layers(self.model)
        self.data = torch.randn(64, 12), torch.randint(4, (64,))
        self.step = 0

    def loss(self):
        return nn.functional.cross_entropy(self.model(self.data[0]), self.data[1])

    def masks(self):
        return {name: layer.mask for name, layer in self.layers.items()}

    def before_update(self):
        """One step up to, and without, the topology's part."""
        self.step += 1
        self.optimizer.zero_grad()
        self.topology.before_backward(self.step)
        self.loss().backward()
        self.optimizer.step()

    def go(self, **kwargs):
        self.before_update()
        return self.topology.after_step(self.step, **kwargs)

    def dense_state(self):
        """Weights and optimizer state of every layer as dense matrices."""
        found = {}
        for name, layer in self.layers.items():
            found[name, "weight"] = layer.to_dense().detach().clone()
            for key, item in self.optimizer.state[layer.values].items():
                if isinstance(item, torch.Tensor) and item.dim():
                    assert item.shape == layer.values.shape
                    found[name, key] = layer.scatter(item)
        return found


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
            assert not layer.capture_dense_grad
        loop.dense_state()  # checks the shapes of the optimizer's state


@settings(max_examples=25, deadline=None)
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


def check_moved(loop: Loop, before: dict, old: dict) -> None:
    """Kept links keep weight and state bit for bit; new ones have none; inactive ones nothing."""
    after = loop.dense_state()
    assert after.keys() == before.keys()
    for (name, key), data in after.items():
        mask = loop.layers[name].mask
        kept, new = mask & old[name], mask & ~old[name]
        assert torch.equal(data[kept], before[name, key][kept]), (name, key)
        assert not data[new].any(), (name, key)
        assert not data[~mask].any(), (name, key)


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
    kept = loop.topology._remove(loop.masks(), loop.step)
    for name, layer in loop.layers.items():
        assert int(kept[name].sum()) == layer.nnz - int(0.5 * layer.nnz)


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


def test_skipped_step_changes_no_link_and_restores_rates() -> None:
    loop = Loop(method="rigl", learning_rate_scale=4.0)
    loop.go()
    old = loop.masks()
    assert loop.go(skipped=True) == []
    assert all(torch.equal(old[name], mask) for name, mask in loop.masks().items())
    assert {group["lr"] for group in loop.optimizer.param_groups} == {1e-2}
    assert all(layer.dense_grad is None for layer in loop.layers.values())
    loop.go()
    assert loop.go()


class Factored(torch.optim.SGD):
    """An optimizer with one number a group of links."""

    def step(self, closure=None):
        super().step(closure)
        for group in self.param_groups:
            for parameter in group["params"]:
                self.state[parameter]["row_var"] = torch.ones(3)


def test_factored_state_is_refused_before_anything_changes() -> None:
    loop = Loop(method="set")
    loop.optimizer = Factored(loop.model.parameters(), lr=0.1)
    loop.topology = Topology(loop.model, loop.optimizer, total_steps=10)
    loop.go()
    loop.before_update()
    before, old = copy.deepcopy(loop.model.state_dict()), loop.masks()
    with pytest.raises(ValueError, match=r"Factored keeps 'row_var' of shape \(3,\) .* AdamW"):
        loop.topology.after_step(loop.step)
    assert all(torch.equal(old[name], mask) for name, mask in loop.masks().items())
    after = loop.model.state_dict()
    assert all(torch.equal(after[key], before[key]) for key in before)


def test_config_overrides_the_models() -> None:
    loop = Loop(method="static")
    config = SparsityConfig(method="set", sparsity=0.6, update_interval=5, stop_fraction=1.0)
    loop.topology = Topology(loop.model, loop.optimizer, total_steps=10, config=config)
    assert [bool(loop.go()) for _ in range(5)] == [False] * 4 + [True]


def test_what_is_refused() -> None:
    dense = nn.Sequential(nn.Linear(4, 4))
    optimizer = torch.optim.SGD(dense.parameters(), lr=0.1)
    with pytest.raises(ValueError, match=r"not sparse: call hf_chts\.sparsify"):
        Topology(dense, optimizer, total_steps=10)
    with pytest.raises(ValueError, match="not sparse"):
        Topology(dense, optimizer, total_steps=10, config=SparsityConfig())
    loop = Loop()
    with pytest.raises(ValueError, match="total_steps must be at least 1; got 0"):
        Topology(loop.model, loop.optimizer, total_steps=0)
    groups = len(loop.optimizer.param_groups)
    wrong = SparsityConfig(removal="magnitud", learning_rate_scale=2.0)
    with pytest.raises(ValueError, match="did you mean 'magnitude'"):
        Topology(loop.model, loop.optimizer, total_steps=10, config=wrong)
    assert len(loop.optimizer.param_groups) == groups


def test_forgotten_before_backward_is_told() -> None:
    loop = Loop(method="rigl")
    loop.loss().backward()
    loop.optimizer.step()
    old = loop.masks()
    with pytest.raises(ValueError, match=r"call topology\.before_backward\(step\)"):
        loop.topology.after_step(2)
    assert all(torch.equal(old[name], mask) for name, mask in loop.masks().items())


def test_a_layer_the_loss_does_not_reach_has_gradient_zero() -> None:
    loop = Loop(method="rigl", zeta=0.5)
    counts = {name: layer.nnz for name, layer in loop.layers.items()}
    loop.topology.before_backward(2)
    loop.model[:3](loop.data[0]).square().sum().backward()
    loop.optimizer.step()
    assert len(loop.topology.after_step(2)) == 3
    assert {name: layer.nnz for name, layer in loop.layers.items()} == counts


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
    kept = topology._percolate({"0": first.mask, "2": last.mask})
    dead = ~first.mask.any(1)
    assert dead[3]
    assert not kept["2"][:, dead].any()
    assert torch.equal(kept["2"][:, ~dead], last.mask[:, ~dead])
    links = int(last.mask[:, dead].sum())
    rows = {row.name: row for row in topology.after_step(1)}
    assert links > 0
    assert rows["2"].n_links == full.numel()


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


def test_dense_method_trains_and_changes_nothing() -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 4))
    sparsify(model, SparsityConfig(method="dense", learning_rate_scale="smupar"))
    optimizer = torch.optim.AdamW(model.parameters())
    topology = Topology(model, optimizer, total_steps=10)
    for step in range(1, 11):
        topology.before_backward(step)
        model(torch.randn(3, 4)).sum().backward()
        optimizer.step()
        assert topology.after_step(step) == []
    assert len(optimizer.param_groups) == 1


def test_public_name() -> None:
    assert hf_chts.Topology is Topology


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
