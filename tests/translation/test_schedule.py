"""Learning rates of the noam schedules, as training sees them."""

from __future__ import annotations

from dataclasses import replace

import pytest

from hf_chts.config import SparsityConfig
from hf_chts.translation.data import DataSource
from hf_chts.translation.recipe import Recipe
from hf_chts.translation.sections import DataSection, TrainingSection
from hf_chts.translation.training import TranslationTrainer

SOURCE = DataSource(corpus="embedded")
WIDTH, WARMUP, TOTAL, EVERY = 64, 30, 200, 25


class Shape:
    """As much of a trainer as the schedule reads."""

    class model:
        class config:
            hidden_size = WIDTH

    def __init__(self, schedule, **sparsity) -> None:
        training = TrainingSection(max_steps=TOTAL, schedule=schedule, warmup_steps=WARMUP)
        self.recipe = Recipe(
            DataSection(SOURCE, SOURCE, {"t": SOURCE}),
            training,
            sparsity=SparsityConfig(update_interval=EVERY, stop_fraction=0.7, **sparsity),
        )


def factors(schedule, **sparsity):
    """By optimizer step from 1; torch's schedulers count the steps done."""
    shape = Shape(schedule, **sparsity)
    return {step: TranslationTrainer._noam_factor(shape, step - 1) for step in range(1, TOTAL + 1)}


def formula(step):
    return WIDTH**-0.5 * min(step**-0.5, step * WARMUP**-1.5)


def test_noam() -> None:
    found = factors("noam")
    assert found == pytest.approx({step: formula(step) for step in found})
    assert max(found, key=found.__getitem__) == WARMUP


def test_inoam_warms_up_after_every_update() -> None:
    found = factors("inoam", method="set")
    last = 125  # the last multiple of 25 up to 0.7 * 200 = 140
    for step, factor in found.items():
        again = 1.0 if step >= last + EVERY else min(1.0, step % EVERY / 20)
        assert factor == pytest.approx(formula(step) * again), step
    assert found[50] == 0
    assert found[51] == pytest.approx(formula(51) / 20)
    assert found[175] == pytest.approx(formula(175))


@pytest.mark.parametrize("method", ["dense", "static"])
def test_without_updates_inoam_is_noam(method) -> None:
    assert factors("inoam", method=method) == factors("noam", method=method)


def test_warmup_of_zero_steps_is_refused() -> None:
    training = TrainingSection(max_steps=5, warmup_steps=0)
    with pytest.raises(ValueError, match="warmup_steps must be at least 1; got 0"):
        replace(training, schedule="inoam")
