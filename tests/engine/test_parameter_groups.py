from __future__ import annotations

import copy

import pytest
import torch
from accelerate import Accelerator
from torch import nn
from transformers.optimization import Adafactor

from hf_chts import SparsityConfig, Topology, sparse_layers, sparsify
from hf_chts.engine.parameter_groups import LearningRates, separate_sparse_groups

RATE = 0.25


def sparse_model(scale=1.0, **config):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 8))
    chosen = {"method": "set", "sparsity": 0.75, "update_interval": 2, "stop_fraction": 1.0}
    sparsify(model, SparsityConfig(**chosen, learning_rate_scale=scale, **config))
    return model


def rate_of(optimizer):
    """Learning rate by parameter."""
    return {id(p): group["lr"] for group in optimizer.param_groups for p in group["params"]}


def watched(optimizer):
    """A list that gets the rates that each optimizer step used."""
    seen = []
    optimizer.register_step_pre_hook(lambda *_: seen.append(rate_of(optimizer)))
    return seen


@pytest.mark.parametrize(
    ("scale", "base", "factor"),
    [("smupar", 1.0, 4.0), ("smupar", 0.5, 2.0), (3.0, 0.5, 3.0), (1.0, 1.0, 1.0), (1, 1, 1)],
)
def test_rates_around_the_step(scale, base, factor) -> None:
    model = sparse_model(scale, base_density=base)
    optimizer = torch.optim.SGD(model.parameters(), lr=RATE)
    topology = Topology(model, optimizer, total_steps=4)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 1, 0.5)
    seen = watched(optimizer)
    values = {id(layer.values) for layer in sparse_layers(model).values()}
    for step in range(1, 5):
        plain = RATE * 0.5 ** (step - 1)
        topology.before_backward(step)
        topology.before_backward(step)  # a second micro-batch
        model(torch.randn(2, 6)).sum().backward()
        optimizer.step()
        topology.after_step(step)
        assert {group["lr"] for group in optimizer.param_groups} == {plain}
        expected = {i: plain * (factor if i in values else 1) for i in seen[-1]}
        assert seen[-1] == pytest.approx(expected)
        scheduler.step()
        assert set(scheduler.get_last_lr()) == {plain / 2}


@pytest.mark.parametrize("base", [1.0, 0.25])
def test_smupar_follows_each_layers_density(base) -> None:
    model = sparse_model("smupar", base_density=base, layer_density="er", initial_sparsity=0.5,
                         density_schedule="linear")  # fmt: skip
    optimizer = torch.optim.SGD(model.parameters(), lr=RATE)
    topology = Topology(model, optimizer, total_steps=4)
    seen, factors = watched(optimizer), []
    for step in range(1, 5):
        densities = {id(x.values): x.density for x in sparse_layers(model).values()}
        topology.before_backward(step)
        model(torch.randn(2, 6)).sum().backward()
        optimizer.step()
        topology.after_step(step)
        assert {i: seen[-1][i] for i in densities} == pytest.approx(
            {i: RATE * base / density for i, density in densities.items()}
        )
        factors.append(seen[-1][id(sparse_layers(model)["0"].values)])
    assert factors[0] == factors[1] < factors[2] == factors[3]


def test_layers_of_one_shape_have_the_rate_of_their_mean_density() -> None:
    model = sparse_model("smupar")
    one, other = (sparse_layers(model)[name] for name in ("2", "4"))
    one.set_links(torch.arange(40), torch.ones(40))
    assert other.nnz == 16
    optimizer = torch.optim.SGD(model.parameters(), lr=RATE)
    Topology(model, optimizer, total_steps=4)
    seen = watched(optimizer)
    model(torch.randn(2, 6)).sum().backward()
    optimizer.step()
    expected = RATE * (64 + 64) / (40 + 16)
    assert [seen[0][id(x.values)] for x in (one, other)] == pytest.approx([expected] * 2)


def test_a_step_moves_links_by_the_factor() -> None:
    moved = {}
    for scale in (1.0, "smupar"):
        model = sparse_model(scale)
        before = {n: p.detach().clone() for n, p in model.named_parameters()}
        optimizer = torch.optim.SGD(model.parameters(), lr=RATE)
        topology = Topology(model, optimizer, total_steps=100)
        topology.before_backward(1)
        model(torch.ones(2, 6)).sum().backward()
        optimizer.step()
        topology.after_step(1)
        moved[scale] = {n: p.detach() - before[n] for n, p in model.named_parameters()}
    for name, plain in moved[1.0].items():
        factor = 4 if name.endswith("values") else 1
        torch.testing.assert_close(moved["smupar"][name], factor * plain)


def test_groups_by_shape_inherit_their_options() -> None:
    model = sparse_model()
    decayed = [p for n, p in model.named_parameters() if n.endswith("values")]
    rest = [p for n, p in model.named_parameters() if not n.endswith("values")]
    optimizer = torch.optim.AdamW(
        [{"params": decayed, "weight_decay": 0.3}, {"params": rest, "weight_decay": 0.0, "lr": 1.0}]
    )
    separate_sparse_groups(optimizer, sparse_layers(model))
    found = [(len(g["params"]), g["weight_decay"], g["lr"]) for g in optimizer.param_groups]
    assert found == [(1, 0.3, 1e-3), (3, 0.0, 1.0), (2, 0.3, 1e-3)]
    assert {id(p) for g in optimizer.param_groups for p in g["params"]} == {
        id(p) for p in model.parameters()
    }


def test_calling_twice_changes_nothing() -> None:
    model = sparse_model()
    optimizer = torch.optim.AdamW(model.parameters())
    separate_sparse_groups(optimizer, sparse_layers(model))
    once = [list(map(id, group["params"])) for group in optimizer.param_groups]
    assert len(once) == 3
    separate_sparse_groups(optimizer, sparse_layers(model))
    assert [list(map(id, group["params"])) for group in optimizer.param_groups] == once


def test_named_parameters_keep_their_names() -> None:
    model = sparse_model()
    optimizer = torch.optim.AdamW(model.named_parameters())
    separate_sparse_groups(optimizer, sparse_layers(model))
    names = {n: id(p) for n, p in model.named_parameters()}
    assert len(optimizer.param_groups) == 3
    for group in optimizer.param_groups:
        assert [names[n] for n in group["param_names"]] == [id(p) for p in group["params"]]


def test_scheduler_attached_before_is_refused() -> None:
    model = sparse_model("smupar")
    optimizer = torch.optim.AdamW(model.parameters())
    torch.optim.lr_scheduler.StepLR(optimizer, 1)
    with pytest.raises(ValueError, match=r"make hf_chts\.Topology before the scheduler"):
        Topology(model, optimizer, total_steps=10)
    assert len(optimizer.param_groups) == 1


def test_an_optimizer_without_a_rate_is_refused() -> None:
    model = sparse_model("smupar")
    optimizer = Adafactor(model.parameters())
    with pytest.raises(ValueError, match="learning_rate_scale='smupar' takes an optimizer with a"):
        LearningRates(optimizer, sparse_layers(model), "smupar")
    assert len(optimizer.param_groups) == 1
    LearningRates(optimizer, sparse_layers(model), 1.0)


@pytest.mark.parametrize(
    ("scale", "base", "factor"), [(0.25, 1.0, 0.25), ("smupar", 1.0, 1.0), ("smupar", 0.25, 0.25)]
)
def test_a_dense_baseline_scales_the_layers_that_others_make_sparse(scale, base, factor) -> None:
    model = nn.Sequential(nn.Linear(4, 6), nn.LayerNorm(6), nn.Linear(6, 3), nn.Linear(3, 2))
    config = SparsityConfig(
        method="dense", learning_rate_scale=scale, base_density=base, exclude=("3",)
    )
    sparsify(model, config)
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    topology = Topology(model, optimizer, total_steps=4)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    topology.before_backward(1)
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    assert topology.after_step(1) == []
    for name, parameter in model.named_parameters():
        moved = factor if name in ("0.weight", "2.weight") else 1.0
        torch.testing.assert_close(before[name] - parameter, torch.full_like(parameter, moved))
    assert {group["lr"] for group in optimizer.param_groups} == {1.0}


def test_a_dense_baseline_without_a_scale_keeps_its_one_group() -> None:
    model = nn.Sequential(nn.Linear(4, 6), nn.Linear(6, 3))
    sparsify(model, SparsityConfig(method="dense"))
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    Topology(model, optimizer, total_steps=4)
    assert len(optimizer.param_groups) == 1


def rates_of_run(order, n_steps=6):
    """Rates of link weights that each step used, with a warm-up, by what the loop calls when."""
    model = sparse_model("smupar")
    optimizer = torch.optim.SGD(model.parameters(), lr=RATE)
    topology = Topology(model, optimizer, total_steps=n_steps)
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: step / n_steps)
    seen, values = watched(optimizer), id(sparse_layers(model)["0"].values)
    for step in range(1, n_steps + 1):
        topology.before_backward(step)
        model(torch.randn(2, 6)).sum().backward()
        calls = {"optimizer": optimizer.step, "scheduler": scheduler.step}
        calls["topology"] = lambda step=step: topology.after_step(step)
        for name in order:
            calls[name]()
        optimizer.zero_grad()
    return [rates[values] for rates in seen]


@pytest.mark.parametrize(
    "order", [("optimizer", "topology", "scheduler"), ("optimizer", "scheduler", "topology")]
)
def test_schedulers_may_step_before_or_after_the_links(order) -> None:
    assert rates_of_run(order) == pytest.approx([4 * RATE * step / 6 for step in range(6)])


def test_a_resumed_optimizer_keeps_the_scale() -> None:
    """Loading replaces the parameter groups."""
    model = sparse_model("smupar")
    optimizer = torch.optim.SGD(model.parameters(), lr=RATE, momentum=0.9)
    Topology(model, optimizer, total_steps=4)
    optimizer.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    seen = watched(optimizer)
    model(torch.randn(2, 6)).sum().backward()
    optimizer.step()
    assert max(seen[0].values()) == pytest.approx(4 * RATE)
    assert {group["lr"] for group in optimizer.param_groups} == {RATE}


def test_inside_accelerates_wrapper() -> None:
    model = sparse_model("smupar")
    optimizer = torch.optim.SGD(model.parameters(), lr=RATE)
    first = Topology(model, optimizer, total_steps=4)
    wrapped = Accelerator(cpu=True).prepare(optimizer)
    second = Topology(model, wrapped, total_steps=4)  # takes the place of the first
    assert first.optimizer is second.optimizer is optimizer
    seen = watched(optimizer)
    model(torch.randn(2, 6)).sum().backward()
    wrapped.step()
    assert max(seen[0].values()) == pytest.approx(4 * RATE)


def test_a_step_that_was_broken_off() -> None:
    model = sparse_model("smupar")
    optimizer = torch.optim.SGD(model.parameters(), lr=RATE)
    Topology(model, optimizer, total_steps=4)
    model(torch.randn(2, 6)).sum().backward()

    def fail():
        raise RuntimeError

    with pytest.raises(RuntimeError):
        optimizer.step(fail)
    seen = watched(optimizer)
    optimizer.step()
    assert max(seen[0].values()) == pytest.approx(4 * RATE)
    assert {group["lr"] for group in optimizer.param_groups} == {RATE}
