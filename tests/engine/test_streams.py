"""Random numbers of topology updates."""

from __future__ import annotations

import pytest
import torch
from plain_loop import Loop

from hf_chts.rules.regrowth import regrowth
from hf_chts.rules.removal import removal


@pytest.fixture
def used():
    """Seeds of the generators that rules get: the name of a rule here is what it is for."""
    seeds = []

    def noting(links):
        if links.mask.numel() > 1:  # a rule is tried on one link beforehand
            seeds.append(links.generator.initial_seed())
        return torch.ones_like(links.weight)

    removal.register("test_removal", source="nobody")(noting)
    removal.register("test_decay", source="nobody")(noting)
    regrowth.register("test_regrowth", source="nobody")(noting)
    yield seeds
    del removal["test_removal"], removal["test_decay"], regrowth["test_regrowth"]


def seeds_of(used, seed):
    """Those of three updates of three layers, each of which decays, removes and regrows."""
    used.clear()
    loop = Loop(
        method="chtss", seed=seed, removal="test_removal", decay="test_decay",
        regrowth="test_regrowth", density_schedule="linear", sparsity=0.8,
    )  # fmt: skip
    for _ in range(6):
        loop.go()
    return sorted(used)


def test_every_draw_has_a_stream_of_its_own(used) -> None:
    """By purpose, step, layer and seed, and by nothing else."""
    one, again, other = (seeds_of(used, seed) for seed in (1, 1, 2))
    assert len(one) == len(set(one)) == 3 * 3 * 3
    assert one == again
    assert not set(one) & set(other)
