"""Numbers that go wrong reach no topology decision and no checkpoint."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from plain_loop import Loop
from tiny_training import marian, trainer_of
from transformers import TrainerCallback

from hf_chts import SparseLinear, SparsityConfig, Topology, initial_mask, sparse_layers, sparsify
from hf_chts.finite import refuse_bad_gradients, refuse_bad_weights
from hf_chts.rules.select import choose
from hf_chts.safe_saving import checkpoints

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
    with pytest.raises(ValueError, match=f"step {step}: the loss is (nan|-inf) and"):
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


def test_a_bad_dense_gradient_stops_the_update() -> None:
    """That of inactive links alone."""
    loop = Loop(method="rigl")
    layer = next(iter(loop.layers.values()))
    layer.dense_grad = torch.full((layer.out_features, layer.in_features), math.inf)
    with pytest.raises(ValueError, match=r"after step 7, the dense gradient of .* is not finite"):
        refuse_bad_weights(loop.model, 7)


def test_large_gradients_count_as_bad_and_finite_ones_pass() -> None:
    model = torch.nn.Linear(2, 2)
    model.weight.grad = torch.full((2, 2), 1e18)
    refuse_bad_gradients(model, torch.tensor(1.0), 1, complete=True)
    model.weight.grad = torch.full((2, 2), 1e20)  # its norm is beyond float32: clipping gives 0
    with pytest.raises(ValueError, match="gradient not finite; nothing"):
        refuse_bad_gradients(model, torch.tensor(1.0), 1, complete=True)
    refuse_bad_gradients(model, torch.tensor(1.0), 1, complete=False)
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


@settings(max_examples=150, deadline=None)
@given(
    st.lists(
        st.one_of(st.floats(allow_nan=True, width=32), st.sampled_from([0.0, 1e38, 3e38, 1e-45])),
        min_size=1,
        max_size=30,
    ),
    st.data(),
    st.sampled_from([None, 0.0, 1.0, 9.0, 1e6]),
)
def test_any_scores_give_exactly_k_links_or_an_error(scores, data, exponent) -> None:
    k = data.draw(st.integers(0, len(scores)))
    table = torch.tensor([scores])
    eligible = torch.ones_like(table, dtype=torch.bool)
    good = all(map(math.isfinite, scores)) and (exponent is None or min(scores) >= 0)
    if good:
        assert int(choose(table, eligible, k, torch.Generator(), exponent).sum()) == k
    else:
        with pytest.raises(ValueError, match=r"scores|soft choice"):
            choose(table, eligible, k, torch.Generator(), exponent)


@pytest.mark.parametrize("zeta", [0.0, 1e-9, 0.5, 0.999999, 1.0])
@pytest.mark.parametrize("method", ["set", "rigl", "chts", "chtss", "cht", "mest"])
def test_any_zeta_keeps_the_number_of_links(method, zeta) -> None:
    loop = Loop(method=method, zeta=zeta)
    for _ in range(4):
        loop.go()
    expected = {n: x.nnz for n, x in Loop(method=method, zeta=zeta).layers.items()}
    if method not in ("chtss",):  # whose density falls
        assert {n: x.nnz for n, x in loop.layers.items()} == expected
    for layer in loop.layers.values():
        assert layer.what_is_wrong() is None
        assert bool(layer.values.isfinite().all())


@settings(max_examples=40, deadline=None)
@given(
    st.integers(1, 9), st.integers(1, 9), st.floats(1e-6, 1 - 1e-6),
    st.sampled_from(["set", "rigl", "chts", "cht"]), st.floats(0, 1),
)  # fmt: skip
def test_tiny_layers_and_any_density(out, inp, sparsity, method, zeta) -> None:
    """Fewer candidates than links to regrow, no free place at all, or a density of no link."""
    model = torch.nn.Sequential(torch.nn.Linear(inp, out), torch.nn.ReLU(), torch.nn.Linear(out, 2))
    config = SparsityConfig(
        method=method, sparsity=sparsity, zeta=zeta, update_interval=1, stop_fraction=1.0
    )
    if round((1 - sparsity) * out * inp) < 1 or round((1 - sparsity) * out * 2) < 1:
        with pytest.raises(ValueError, match="no link"):
            sparsify(model, config)
        return
    sparsify(model, config)
    optimizer = torch.optim.Adam(model.parameters())
    topology = Topology(model, optimizer, total_steps=3)
    counts = {name: layer.nnz for name, layer in sparse_layers(model).items()}
    for step in (1, 2, 3):
        topology.before_backward(step)
        model(torch.randn(4, inp)).square().sum().backward()
        optimizer.step()
        topology.after_step(step)
        assert {name: layer.nnz for name, layer in sparse_layers(model).items()} == counts


def test_zero_weights_and_gradients_still_give_exact_counts() -> None:
    for method in ("set", "rigl", "chts", "mest"):
        loop = Loop(method=method)
        counts = [layer.nnz for layer in loop.layers.values()]
        for _ in range(4):
            with torch.no_grad():
                for layer in loop.layers.values():
                    layer.values.zero_()
            loop.go()
        assert [layer.nnz for layer in loop.layers.values()] == counts


@pytest.mark.parametrize("rule", ["er", "brf", "bsw", "bsf"])
def test_a_density_of_no_link_is_refused(rule) -> None:
    with pytest.raises(ValueError, match="leaves no link"):
        initial_mask(rule, 10, 10, 1e-9)
    assert isinstance(SparseLinear(3, 3, 0), torch.nn.Module)
