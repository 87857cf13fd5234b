"""What a new link's optimizer state starts with: nothing, or the layer's mean squared gradient."""

from __future__ import annotations

import math

import pytest
import torch
from plain_loop import OPTIMIZERS, Loop

from hf_chts.engine.optimizer_state import move_links

SQUARES = {"exp_avg_sq", "square_avg", "variance"}


def evolved(optimizer: str, steps: int = 5, **config) -> Loop:
    """A loop right before an update."""
    loop = Loop(optimizer, method="set", zeta=0.5, **config)
    for _ in range(steps):
        loop.go()
    loop.before_update()
    return loop


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_only_mean_squared_gradients_of_new_links_are_warm(optimizer) -> None:
    loop = evolved(optimizer, new_links="warm")
    old, before = loop.masks(), loop.dense_state()
    assert loop.topology.after_step(loop.step)
    warm = set()
    for (name, key), data in loop.dense_state().items():
        mask = loop.layers[name].mask
        kept, new = mask & old[name], mask & ~old[name]
        assert new.any()
        assert torch.equal(data[kept], before[name, key][kept])
        if key in SQUARES:
            warm.add(key)
            mean = before[name, key][old[name]].mean()
            assert mean > 0
            torch.testing.assert_close(data[new], mean.expand(int(new.sum())))
        else:
            assert not data[new].any(), key
    assert len(warm) == (optimizer not in ("sgd", "adagrad"))


@pytest.mark.parametrize("new_links", ["cold", "warm"])
def test_the_first_step_of_a_new_link(new_links) -> None:
    """Long after its own start Adam moves a cold one by (1 - 0.9) / sqrt(1 - 0.999) = 3.2 rates."""
    loop = evolved("adamw_loop", new_links=new_links)
    state, old = loop.optimizer.state, loop.masks()
    for layer in loop.layers.values():  # as after many steps with gradients like these
        state[layer.values]["exp_avg_sq"].div_(1 - 0.999**loop.step)
        state[layer.values]["step"].fill_(100_000)
    assert loop.topology.after_step(loop.step)
    squares = {
        n: layer.scatter(state[layer.values]["exp_avg_sq"]) for n, layer in loop.layers.items()
    }
    loop.before_update()
    for name, layer in loop.layers.items():
        new = layer.mask & ~old[name]
        moved = layer.to_dense().detach()[new].abs() / 1e-2
        gradient = layer.scatter(layer.values.grad)[new].abs()
        reached = gradient > 1e-3
        assert reached.any()
        squared = 0.999 * squares[name][new] + 0.001 * gradient.square()
        expected = 0.1 * gradient / squared.sqrt()
        torch.testing.assert_close(moved[reached], expected[reached], rtol=1e-3, atol=1e-5)
        if new_links == "cold":
            torch.testing.assert_close(
                moved[reached], torch.full_like(moved[reached], math.sqrt(10)), rtol=1e-2, atol=0
            )
        else:
            assert moved.max() < 1


@pytest.mark.parametrize("optimizer", ["adamw_fused", "rmsprop"])
def test_a_layer_that_had_no_link_is_cold(optimizer) -> None:
    """There is no mean to start from, and no NaN comes of that."""
    loop = evolved(optimizer, new_links="warm")
    layer = loop.layers["0"]
    none = torch.zeros(0, dtype=torch.long)
    move_links(layer, none, torch.zeros(0), loop.optimizer, warm=True)
    move_links(layer, torch.arange(3), torch.zeros(3), loop.optimizer, warm=True)
    for item in loop.optimizer.state[layer.values].values():
        if item.dim():
            assert item.tolist() == [0, 0, 0]


def test_unknown_words_are_refused() -> None:
    with pytest.raises(ValueError, match="new_links takes 'cold', 'warm'; got 'hot'"):
        Loop(new_links="hot")
