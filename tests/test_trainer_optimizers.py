"""Optimizers under the trainers."""

from __future__ import annotations

import pytest
import torch
from tiny_training import marian, run, trainer_of
from transformers import (
    TrainerCallback,
)

from hf_chts import (
    Topology,
    sparse_layers,
)


def test_clipping_bounds_the_step(tmp_path) -> None:
    norms = []
    for clip in (0.0, 1e-3):
        model = marian(method="static", learning_rate_scale=1.0)
        before = [p.detach().clone() for p in model.parameters()]
        run(model, tmp_path, max_steps=1, max_grad_norm=clip, optim="sgd", learning_rate=1.0)
        moved = torch.cat(
            [(p - q).flatten() for p, q in zip(model.parameters(), before, strict=True)]
        )
        norms.append(float(moved.detach().norm()))
    assert norms[0] > 0.1
    assert norms[1] == pytest.approx(1e-3, rel=1e-2)


def test_sparse_values_have_groups_of_their_own(tmp_path) -> None:
    seen = []
    model = marian(method="set", learning_rate_scale="smupar")
    values = {id(layer.values) for layer in sparse_layers(model).values()}

    class Rates(TrainerCallback):
        def on_train_begin(self, args, state, control, optimizer=None, **kwargs) -> None:
            optimizer.optimizer.register_step_pre_hook(self.note)

        def note(self, optimizer, *_) -> None:
            for group in optimizer.param_groups:
                seen.append(({id(p) in values for p in group["params"]}, group["lr"]))

    trainer = trainer_of(
        model, tmp_path, callbacks=[Rates()], lr_scheduler_type="constant", max_steps=2,
        weight_decay=0.5,
    )  # fmt: skip
    trainer.train()
    assert all(len(kinds) == 1 for kinds, _ in seen)
    rates = {(kinds == {True}): rate for kinds, rate in seen}
    density = next(iter(sparse_layers(model).values())).density
    assert rates == pytest.approx({False: 1e-2, True: 1e-2 / density}, rel=0.02)
    decayed = [g for g in trainer.optimizer.param_groups if id(g["params"][0]) in values]
    assert {group["weight_decay"] for group in decayed} == {0.5}


@pytest.mark.parametrize("optim", ["adamw_torch", "adamw_torch_fused", "sgd", "adafactor"])
def test_optimizers(optim, tmp_path) -> None:
    trainer, _ = run(marian(method="set"), tmp_path, optim=optim)
    assert isinstance(trainer.topology, Topology)
    for layer in sparse_layers(trainer.model).values():
        for item in trainer.optimizer.state[layer.values].values():
            if isinstance(item, torch.Tensor) and item.dim():
                assert item.shape == layer.values.shape


def test_an_optimizer_of_ones_own(tmp_path) -> None:
    model = marian(method="set", learning_rate_scale=2.0)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    trainer = trainer_of(model, tmp_path, optimizers=(optimizer, None))
    trainer.train()
    values = {id(layer.values) for layer in sparse_layers(model).values()}
    groups = [{id(p) in values for p in group["params"]} for group in optimizer.param_groups]
    assert {True} in groups
    assert {True, False} not in groups
    model = marian(method="set", learning_rate_scale=2.0)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 1)
    with pytest.raises(ValueError, match="scheduler is attached already"):
        trainer_of(model, tmp_path, optimizers=(optimizer, scheduler)).train()
    model = marian(method="set")
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    run(model, tmp_path, optimizers=(optimizer, None))
    assert len(optimizer.param_groups) == 1
