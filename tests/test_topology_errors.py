"""The engine says what is wrong before it changes anything."""

from __future__ import annotations

import copy
import warnings

import pytest
import torch
from plain_loop import Loop
from torch import nn

import hf_chts
from hf_chts import SparsityConfig, Topology, sparsify


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


def factored(method: str) -> Loop:
    loop = Loop(method=method)
    loop.optimizer = Factored(loop.model.parameters(), lr=0.1)
    loop.topology = Topology(loop.model, loop.optimizer, total_steps=10)
    return loop


def test_factored_state_is_refused_at_the_first_step_and_before_anything_changes() -> None:
    loop = factored("set")
    refused = pytest.raises(ValueError, match=r"Factored keeps 'row_var' of shape \(3,\) .* AdamW")
    with refused:
        loop.go()
    loop.before_update()  # step 2, at which links are due to change
    before, old = copy.deepcopy(loop.model.state_dict()), loop.masks()
    with refused:
        loop.topology.after_step(loop.step)
    assert all(torch.equal(old[name], mask) for name, mask in loop.masks().items())
    after = loop.model.state_dict()
    assert all(torch.equal(after[key], before[key]) for key in before)


def test_links_that_never_change_take_any_optimizer() -> None:
    loop = factored("static")
    assert loop.go() == loop.go() == []


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
    for change, message in (
        ({"removal": "magnitud"}, "did you mean 'magnitude'"),
        ({"layer_density": "obd"}, "method .chts. keeps its density"),
        (
            {"method": "static", "density_schedule": "cubic", "initial_sparsity": 0.5},
            "'cubic' would never lower the density: method 'static' changes no link",
        ),
        ({"head_wise": True}, "head_wise finds no sparse layer .*: set head_wise to false"),
    ):
        wrong = SparsityConfig(**{"learning_rate_scale": 2.0, **change})
        with pytest.raises(ValueError, match=message):
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


def test_steps_that_count_from_0_are_told() -> None:
    """The last update would never come where it belongs to the last step."""
    loop = Loop(method="set")
    old = loop.masks()
    for call in (loop.topology.before_backward, loop.topology.after_step, loop.topology.is_due):
        with pytest.raises(ValueError, match="optimizer steps count from 1; got step 0"):
            call(0)
    assert all(torch.equal(old[name], mask) for name, mask in loop.masks().items())


@pytest.mark.parametrize("method", ["rigl", "hebbian"])
def test_a_layer_the_loss_does_not_reach_keeps_its_number_of_links(method) -> None:
    """Its gradients and correlations are 0."""
    loop = Loop(method=method, zeta=0.5)
    counts = {name: layer.nnz for name, layer in loop.layers.items()}
    loop.topology.before_backward(2)
    loop.model[:3](loop.data[0]).square().sum().backward()
    loop.optimizer.step()
    assert len(loop.topology.after_step(2)) == 3
    assert {name: layer.nnz for name, layer in loop.layers.items()} == counts


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


@pytest.mark.parametrize("method", ["gmp", "granet", "chtss", "mest"])
def test_too_short_a_training_for_the_density_to_fall(method) -> None:
    model = nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 8))
    sparsify(model, SparsityConfig(method=method, sparsity=0.75))
    optimizer = torch.optim.AdamW(model.parameters())
    message = r"in 133 steps: updates come every 100 .* first 75% .* would stay at .* of 0.25: low"
    with pytest.raises(ValueError, match=message):
        Topology(model, optimizer, total_steps=133)
    assert Topology(model, optimizer, total_steps=134).last_update == 100


def test_a_model_at_its_final_density_may_train_for_a_few_steps() -> None:
    """As where a saved model is trained a little more."""
    loop = Loop(method="chtss", sparsity=0.8)
    for _ in range(12):
        loop.go()
    with pytest.warns(UserWarning, match="no link would change in 1 steps"):
        loop.topology = Topology(loop.model, loop.optimizer, total_steps=1)
    loop.step = 0
    assert loop.go() == []


def test_links_that_will_never_change_are_told() -> None:
    model = nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 8))
    sparsify(model, SparsityConfig(method="chts", sparsity=0.75))
    optimizer = torch.optim.AdamW(model.parameters())
    with pytest.warns(UserWarning, match="no link would change in 99 steps: .* lower update_inte"):
        Topology(model, optimizer, total_steps=99)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        Topology(model, optimizer, total_steps=200)
        at_rest = SparsityConfig(method="chts", stop_fraction=0.0)
        Topology(model, optimizer, total_steps=99, config=at_rest)
        Topology(model, optimizer, total_steps=99, config=SparsityConfig(method="static"))


@pytest.mark.parametrize("lost", ["explored", "past_positions", ""])
def test_a_memory_that_lacks_what_layers_keep_is_refused(lost) -> None:
    """ITOP would start anew, and historical weights end, without a word."""
    loop = Loop(method="set", historical_weights=2.0)
    for _ in range(4):
        loop.go()
    whole = loop.topology.state_dict()
    part = {key: x for key, x in whole.items() if lost and key != f"2.{lost}"}
    if lost == "past_positions":
        del part["2.past_values"]
    with pytest.raises(ValueError, match=rf"memory lacks [02]\.{lost}.*: give what state_dict\(\)"):
        loop.topology.load_state_dict(part)
    after = loop.topology.state_dict()
    assert after.keys() == whole.keys()
    assert all(torch.equal(after[key], whole[key]) for key in whole)
    loop.topology.load_state_dict(whole)
