"""Numbers that go wrong reach no topology decision and no checkpoint."""

from __future__ import annotations

import math

import pytest
import torch
from plain_loop import Loop
from tiny_training import marian, trainer_of
from transformers import TrainerCallback

from hf_chts.safe_saving import checkpoints
from hf_chts.training.finite import refuse_bad_number, refuse_bad_weights

SAVING = {"save_strategy": "steps", "save_steps": 2, "max_steps": 8}


class At(TrainerCallback):
    """Does something to the model at the beginning of a step, or before its optimizer step."""

    def __init__(self, step, act, event="on_step_begin") -> None:
        def when(args, state, control, model=None, **kwargs) -> None:
            if state.global_step + 1 == step:
                act(model)

        setattr(self, event, when)


def spoil_weight(value):
    def act(model) -> None:
        with torch.no_grad():
            model.model.decoder.layers[0].fc1.values[3] = value

    return act


def spoil_loss(value, call=5, factor=1.0):
    """The loss of a call; with a factor of 1 gradients stay finite."""

    def of(outputs, labels, num_items_in_batch=None):
        loss = outputs.logits.square().mean()
        of.calls += 1
        return factor * loss + value if of.calls == call else loss

    of.calls = 0
    return of


@pytest.mark.parametrize("value", [math.nan, math.inf])
@pytest.mark.parametrize("clip", [0.0, 1.0])
def test_a_bad_gradient_stops_the_run(tmp_path, value, clip) -> None:
    trainer = trainer_of(
        marian(), tmp_path, callbacks=[At(5, spoil_weight(value))], max_grad_norm=clip, **SAVING
    )
    with pytest.raises(ValueError, match=r"step 5: the loss is .* not finite, first at model\."):
        trainer.train()
    assert list(checkpoints(tmp_path)) == [2, 4]
    log = (tmp_path / "topology.jsonl").read_text().splitlines()
    assert {'"step": 2', '"step": 4'} == {line[1:10] for line in log}


@pytest.mark.parametrize("value", [math.nan, -math.inf])
@pytest.mark.parametrize("accumulation", [1, 2])
def test_a_bad_loss_stops_the_run(tmp_path, value, accumulation) -> None:
    trainer = trainer_of(marian(), tmp_path, gradient_accumulation_steps=accumulation, **SAVING)
    trainer.compute_loss_func = spoil_loss(value)
    step = -(-5 // accumulation)
    with pytest.raises(
        ValueError, match=f"step {step}: the loss is (nan|-inf); nothing of this step"
    ):
        trainer.train()


def test_weights_that_a_step_spoils_stop_the_update(tmp_path) -> None:
    """The gradient is finite, the step is not."""

    def overflow(model) -> None:
        values = model.model.encoder.layers[0].fc2.values
        values.grad.fill_(1.0)
        trainer.optimizer.param_groups[-1]["lr"] = 1e39

    model = marian(learning_rate_scale=2.0)
    trainer = trainer_of(
        model, tmp_path, callbacks=[At(4, overflow, "on_pre_optimizer_step")], **SAVING
    )
    with pytest.raises(ValueError, match=r"after step 4, .* is not finite: no link was changed"):
        trainer.train()
    assert list(checkpoints(tmp_path)) == [2]


def test_no_checkpoint_of_bad_weights(tmp_path) -> None:
    callback = At(3, spoil_weight(math.nan), "on_optimizer_step")
    options = {**SAVING, "save_steps": 3}
    trainer = trainer_of(marian(update_interval=100), tmp_path, callbacks=[callback], **options)
    with pytest.raises(ValueError, match=r"after step 3, model\.decoder\.layers\.0\.fc1\.values"):
        trainer.train()
    assert not checkpoints(tmp_path)


def everything(loop):
    state = {
        f"{n}.{k}": x.clone() for n, x in loop.layers.items() for k, x in x.state_dict().items()
    }
    for (name, key), item in loop.dense_state().items():
        state[f"{name}/{key}"] = item
    return state


def spoil(loop, what, value) -> None:
    layer = loop.layers["2"]
    if what == "dense":  # of an inactive link alone
        layer.dense_grad[tuple((~layer.mask).nonzero()[0])] = value
    elif what == "co-activation":
        layer.coactivation.products[1, 1] = value
    else:
        state = {"weight": layer.values.data, "gradient": layer.values.grad}
        {**state, **loop.optimizer.state[layer.values]}[what][1] = value


SPOILED = {
    "weight": "2.values is",
    "gradient": "the gradient of 2.values is",
    "dense": "the dense gradient of 2 is",
    "co-activation": "the co-activations of 2 is",
    "exp_avg": "the optimizer's exp_avg of 2.values is",
    "exp_avg_sq": "the optimizer's exp_avg_sq of 2.values is",
}


@pytest.mark.parametrize("value", [math.nan, -math.inf])
@pytest.mark.parametrize("what", SPOILED)
def test_no_update_by_bad_numbers_in_a_plain_loop(what, value) -> None:
    """Whatever it is that went wrong, and whether or not a rule would have read it."""
    loop = Loop(method="hebbian" if what == "co-activation" else "rigl")
    loop.go()
    loop.before_update()
    spoil(loop, what, value)
    before = everything(loop)
    with pytest.raises(ValueError, match=f"after step 2, {SPOILED[what]} not finite: no link was"):
        loop.topology.after_step(2)
    after = everything(loop)
    assert all(torch.equal(x.nan_to_num(7), after[key].nan_to_num(7)) for key, x in before.items())


def test_a_skipped_step_may_have_bad_gradients() -> None:
    loop = Loop(method="rigl")
    loop.go()
    loop.before_update()
    loop.layers["2"].dense_grad[0, 0] = loop.layers["2"].values.grad[0] = math.inf
    assert loop.topology.after_step(2, skipped=True) == []
    loop.go()
    assert loop.go()  # the next update has forgotten it


def test_a_norm_beyond_float32_stops_the_step(tmp_path) -> None:
    """Finite gradients of 1e20: clipping by their norm would give 0."""

    def grow(model) -> None:
        for parameter in model.parameters():
            if parameter.grad is not None:
                parameter.grad.fill_(1e20)

    trainer = trainer_of(marian(), tmp_path, **SAVING)
    step = trainer.training_step

    def training_step(*args, **kwargs):
        loss = step(*args, **kwargs)
        if trainer.state.global_step == 3:
            grow(trainer.model)
        return loss

    trainer.training_step = training_step
    with pytest.raises(ValueError, match="step 4: the norm of the gradient is inf; nothing of"):
        trainer.train()
    assert list(checkpoints(tmp_path)) == [2]


@pytest.mark.parametrize("clip", [0.0, 0.3])
def test_the_norm_is_taken_once_and_is_that_of_torch(tmp_path, clip) -> None:
    """What is logged, and what clipping leaves, are torch's own."""
    trainer = trainer_of(marian(), tmp_path, max_steps=2, max_grad_norm=clip)
    seen = []

    def look(model) -> None:
        grads = [p.grad.clone() for p in model.parameters() if p.grad is not None]
        seen.append(torch.nn.utils.get_total_norm(grads).item())

    step = trainer.training_step

    def training_step(*args, **kwargs):
        loss = step(*args, **kwargs)
        look(trainer.model)
        return loss

    trainer.training_step = training_step
    trainer.add_callback(At(1, look, "on_pre_optimizer_step"))
    trainer.add_callback(At(2, look, "on_pre_optimizer_step"))
    trainer.train()
    norms = [log["grad_norm"] for log in trainer.state.log_history if "grad_norm" in log]
    assert norms == pytest.approx(seen[::2])
    assert seen[1::2] == pytest.approx([clip] * 2 if clip else seen[::2], rel=1e-4)


def test_only_finite_numbers_pass() -> None:
    model = torch.nn.Linear(2, 2)
    refuse_bad_number(model, "the loss", torch.tensor(3e38), 1)
    refuse_bad_weights(model, 1)
    with pytest.raises(ValueError, match="step 1: the loss is nan; nothing of this step was kept"):
        refuse_bad_number(model, "the loss", torch.tensor(math.nan), 1)
    model.bias.grad = torch.tensor([0.0, math.inf])
    with pytest.raises(ValueError, match="loss is inf and the gradient not finite, first at bias;"):
        refuse_bad_number(model, "the loss", torch.tensor(math.inf), 1)
    model.bias.data[0] = math.nan
    with pytest.raises(ValueError, match="after step 1, bias is not finite: no checkpoint was"):
        refuse_bad_weights(model, 1)


@pytest.mark.parametrize("optimizer", ["adamw_torch", "adamw_torch_fused"])
def test_a_step_that_the_scaler_skips_changes_nothing(tmp_path, optimizer) -> None:
    """With loss scaling an overflow is no error: the step is skipped, links stay."""
    seen = []

    def look(model) -> None:
        state = model.state_dict().items()
        seen.append({key: x.clone() for key, x in state if "embed_positions" not in key})

    callbacks = [At(step, look) for step in (4, 5)]
    trainer = trainer_of(marian(), tmp_path, callbacks=callbacks, max_steps=6, optim=optimizer)
    trainer.compute_loss_func = spoil_loss(0.0, call=4, factor=math.inf)
    trainer.accelerator.scaler = torch.amp.GradScaler("cpu", init_scale=8.0)
    trainer.train()
    assert all(torch.equal(seen[0][key], x) for key, x in seen[1].items())
    steps = {int(line[9:].split(",")[0]) for line in
             (tmp_path / "topology.jsonl").read_text().splitlines()}  # fmt: skip
    assert steps == {2, 6}
