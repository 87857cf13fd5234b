from __future__ import annotations

import copy
import itertools
import json
from statistics import mean

import pytest
import torch
from tiny_training import SEQ2SEQ, Watch, collate, marian, pairs, run, sparse, trainer_of
from transformers import (
    BartConfig,
    BartForQuestionAnswering,
    BartForSequenceClassification,
    LlamaConfig,
    LlamaForCausalLM,
    M2M100Config,
    M2M100ForConditionalGeneration,
    MarianConfig,
    MarianMTModel,
    Seq2SeqTrainingArguments,
    Trainer,
    TrainingArguments,
)

from hf_chts import (
    SparseSeq2SeqTrainer,
    SparseTrainer,
    sparse_layers,
)
from hf_chts.analysis.neurons import anp
from hf_chts.monitor import groups_as_data
from hf_chts.network.wiring import hidden_groups


def llama(**config):
    torch.manual_seed(0)
    shape = LlamaConfig(
        vocab_size=40, hidden_size=16, intermediate_size=24, num_hidden_layers=1,
        num_attention_heads=2, num_key_value_heads=1, pad_token_id=0,
    )  # fmt: skip
    return sparse(LlamaForCausalLM(shape), **config)


@pytest.mark.parametrize(
    ("make", "smoothing"), [(llama, 0.0), (llama, 0.1), (marian, 0.0), (marian, 0.1)]
)
def test_accumulation_changes_neither_loss_nor_gradient(make, smoothing, tmp_path) -> None:
    runs = []
    for batch, accumulation in ((8, 1), (4, 2), (2, 4)):
        _, steps = run(
            make(method="rigl"), tmp_path, max_steps=3, per_device_train_batch_size=batch,
            gradient_accumulation_steps=accumulation, label_smoothing_factor=smoothing,
            learning_rate=1e-3,
        )  # fmt: skip
        runs.append([(step["loss"], step["grad_norm"]) for step in steps])
    assert len(runs[0]) == 3
    for other in runs[1:]:
        torch.testing.assert_close(torch.tensor(other), torch.tensor(runs[0]), rtol=2e-4, atol=1e-5)


def test_label_smoothing_counts(tmp_path) -> None:
    """The loss is linear in it, and the first one is that of the same weights."""
    first = [
        run(marian(), tmp_path, max_steps=1, label_smoothing_factor=share)[1][0]["loss"]
        for share in (0.0, 0.2, 0.6)
    ]
    assert abs(first[1] - first[0]) > 1e-4
    assert first[2] - first[0] == pytest.approx(3 * (first[1] - first[0]), rel=0.02, abs=1e-4)


def test_decoder_inputs_that_a_batch_brings_are_used(tmp_path) -> None:
    model = marian(method="static")
    batch = collate(pairs(4))
    batch["decoder_input_ids"] = torch.full_like(batch["labels"], 5)
    labels, inputs = batch["labels"], {key: x for key, x in batch.items() if key != "labels"}
    expected = torch.nn.functional.cross_entropy(
        model(**inputs).logits.flatten(0, 1), labels.flatten()
    )
    loss = trainer_of(model, tmp_path).compute_loss(model, batch)
    assert float(loss.detach()) == pytest.approx(float(expected.detach()), rel=1e-5)


def test_models_that_cannot_shift_labels_train(tmp_path) -> None:
    """M2M100 takes num_items_in_batch for granted and has no method that shifts labels."""
    torch.manual_seed(0)
    config = M2M100Config(**SEQ2SEQ, encoder_layerdrop=0.5, decoder_layerdrop=0.5)
    for smoothing in (0.0, 0.1):
        model = sparse(M2M100ForConditionalGeneration(config), method="rigl")
        assert not hasattr(model, "prepare_decoder_input_ids_from_labels")
        _, steps = run(model, tmp_path, label_smoothing_factor=smoothing)
        assert all(step["loss"] > 0 for step in steps)


@pytest.mark.parametrize("make", [llama, marian])
def test_training_learns_and_moves_links(make, tmp_path) -> None:
    model = make()
    before = {name: layer.mask for name, layer in sparse_layers(model).items()}
    _, steps = run(model, tmp_path, max_steps=30, learning_rate=2e-2)
    assert steps[-1]["loss"] < 0.9 * steps[0]["loss"]
    for name, layer in sparse_layers(model).items():
        assert layer.nnz == int(before[name].sum())
        assert not torch.equal(layer.mask, before[name])


def test_bf16(tmp_path) -> None:
    for method in ("chts", "rigl"):
        model = marian(method=method)
        _, steps = run(model, tmp_path, bf16=True, max_steps=8)
        assert steps[-1]["loss"] < steps[0]["loss"]
        assert {layer.values.dtype for layer in sparse_layers(model).values()} == {torch.float32}


def test_gradient_checkpointing_changes_nothing(tmp_path) -> None:
    losses, masks = [], []
    for on in (False, True):
        model = marian(method="rigl")
        _, steps = run(model, tmp_path, gradient_checkpointing=on)
        losses.append(torch.tensor([(step["loss"], step["grad_norm"]) for step in steps]))
        masks.append({name: layer.mask for name, layer in sparse_layers(model).items()})
    torch.testing.assert_close(losses[0], losses[1])
    assert all(torch.equal(masks[0][name], masks[1][name]) for name in masks[0])


def test_topology_figures_reach_report_to_and_the_log(tmp_path) -> None:
    watch = Watch()
    model = marian(method="set", zeta=0.5, sparsity=0.85)
    trainer = trainer_of(model, tmp_path, callbacks=[watch], max_steps=8, logging_steps=4)
    (tmp_path / "topology.jsonl").write_text('{"step": 1, "name": "of an earlier run"}\n')
    trainer.train()
    rows = [json.loads(x) for x in (tmp_path / "topology.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == [s for s in (2, 4, 6, 8) for _ in sparse_layers(model)]
    assert set(rows[0]) == {
        "step", "name", "n_links", "density", "removed", "regrown", "overlap", "itop",
        "active_neurons", "seconds",
    }  # fmt: skip
    logs = [log for log in watch.logs if "loss" in log]
    assert len(logs) == 2
    for log, steps in zip(logs, ((2, 4), (6, 8)), strict=True):
        mine = [row for row in rows if row["step"] in steps]
        assert log["topology_removed"] == sum(row["removed"] for row in mine) > 0
        assert log["topology_regrown"] == sum(row["regrown"] for row in mine)
        assert log["topology_seconds"] == pytest.approx(sum(row["seconds"] for row in mine))
        assert log["topology_overlap"] == pytest.approx(mean(row["overlap"] for row in mine))
        layers = sparse_layers(model).values()
        size = sum(layer.in_features * layer.out_features for layer in layers)
        assert log["topology_density"] == pytest.approx(sum(x.nnz for x in layers) / size)
    assert logs[0]["topology_density"] < logs[0]["topology_itop"] < logs[1]["topology_itop"] < 1
    masks = {name: layer.mask.numpy() for name, layer in sparse_layers(model).items()}
    active = anp(masks, groups_as_data(hidden_groups(model))).overall
    assert 0.3 < active < 1
    assert logs[1]["topology_active_neurons"] == pytest.approx(active)


def test_updates_that_nobody_logs_are_not_kept(tmp_path) -> None:
    trainer, _ = run(marian(), tmp_path, max_steps=6, logging_strategy="no")
    assert (tmp_path / "topology.jsonl").read_text().count("\n") >= 3
    assert trainer._updates == []


def test_evaluation_with_generation_and_the_best_model(tmp_path) -> None:
    model = marian(method="set", zeta=0.5)
    scores = itertools.cycle([3.0, 1.0, 2.0])
    shapes = []

    def metrics(prediction):
        shapes.append(prediction.predictions.shape)
        return {"score": next(scores)}

    trainer = trainer_of(
        model, tmp_path, max_steps=6, eval_strategy="steps", eval_steps=2, save_strategy="steps",
        save_steps=2, predict_with_generate=True, generation_max_length=6, generation_num_beams=2,
        load_best_model_at_end=True, metric_for_best_model="eval_score",
    )  # fmt: skip
    trainer.compute_metrics = metrics
    trainer.train()
    assert [shape[0] for shape in shapes] == [8, 8, 8]
    assert trainer.state.best_global_step == 2
    best = MarianMTModel.from_pretrained(tmp_path / "checkpoint-2")
    for name, layer in sparse_layers(model).items():
        other = sparse_layers(best)[name]
        assert torch.equal(layer.positions, other.positions)
        assert torch.equal(layer.values, other.values)
    last = MarianMTModel.from_pretrained(tmp_path / "checkpoint-6")
    name = next(iter(sparse_layers(model)))
    assert not torch.equal(sparse_layers(last)[name].mask, sparse_layers(model)[name].mask)
    # state of the links of step 6 would be wrong for those of step 2
    optimizer = trainer.optimizer.optimizer
    assert all(layer.values not in optimizer.state for layer in sparse_layers(model).values())
    assert optimizer.state[model.model.encoder.layers[0].fc1.bias]["exp_avg"].any()  # still true
    trainer.train()
    assert trainer.state.global_step == 6


def test_state_of_links_that_stayed_goes_with_the_best_model(tmp_path) -> None:
    trainer = trainer_of(
        marian(method="static"), tmp_path, max_steps=2, eval_strategy="steps", eval_steps=1,
        save_strategy="steps", save_steps=1, load_best_model_at_end=True,
    )  # fmt: skip
    trainer.train()
    for layer in sparse_layers(trainer.model).values():
        assert trainer.optimizer.optimizer.state[layer.values]["exp_avg"].any()


def test_the_best_model_comes_back_beside_an_optimizer_without_state(tmp_path) -> None:
    model, scores = marian(method="set", zeta=0.5), itertools.cycle([2.0, 1.0])
    trainer = trainer_of(
        model, tmp_path, max_steps=4, optim="sgd", eval_strategy="steps", eval_steps=2,
        save_strategy="steps", save_steps=2, load_best_model_at_end=True,
        metric_for_best_model="eval_score",
    )  # fmt: skip
    trainer.compute_metrics = lambda prediction: {"score": next(scores)}
    trainer.train()
    best = sparse_layers(MarianMTModel.from_pretrained(tmp_path / "checkpoint-2"))
    last = sparse_layers(MarianMTModel.from_pretrained(tmp_path / "checkpoint-4"))
    for name, layer in sparse_layers(model).items():
        assert torch.equal(layer.positions, best[name].positions)
    assert any(not torch.equal(last[name].mask, best[name].mask) for name in best)


def test_a_second_train_call(tmp_path) -> None:
    model = marian()
    trainer, _ = run(model, tmp_path)
    explored = [layer.explored.clone() for layer in sparse_layers(model).values()]
    trainer.train()
    for layer, before in zip(sparse_layers(model).values(), explored, strict=True):
        assert bool(((layer.explored & before) == before).all())
        assert trainer.optimizer.state[layer.values]["exp_avg"].shape == layer.values.shape
    steps = [json.loads(x)["step"] for x in (tmp_path / "topology.jsonl").read_text().splitlines()]
    assert steps == sorted(steps)
    assert len(steps) == 3 * len(sparse_layers(model))


def test_dense_method_is_the_plain_trainer(tmp_path) -> None:
    model = marian(method="dense")
    trainer, steps = run(model, tmp_path)
    assert not sparse_layers(model)
    assert not (tmp_path / "topology.jsonl").exists()
    assert steps[-1]["loss"] < steps[0]["loss"]
    assert trainer.topology.last_update == 0


@pytest.mark.parametrize("make", [SparseTrainer, SparseSeq2SeqTrainer])
def test_a_model_that_is_not_sparse_is_refused(make, tmp_path) -> None:
    with pytest.raises(ValueError, match=r"not sparse: call hf_chts\.sparsify"):
        make(
            model=MarianMTModel(MarianConfig(**SEQ2SEQ)),
            args=Seq2SeqTrainingArguments(str(tmp_path), use_cpu=True, report_to=[]),
        )


@pytest.mark.parametrize(("method", "best"), [("granet", 4), ("chtss", 4), ("set", 2)])
def test_no_checkpoint_is_the_best_while_the_density_falls(method, best, tmp_path) -> None:
    model = marian(method=method, stop_fraction=0.7)
    scores = itertools.cycle([3.0, 2.0, 1.0])
    trainer = trainer_of(
        model, tmp_path, max_steps=6, eval_strategy="steps", eval_steps=2, save_strategy="steps",
        save_steps=2, load_best_model_at_end=True, metric_for_best_model="eval_score",
    )  # fmt: skip
    trainer.compute_metrics = lambda prediction: {"score": next(scores)}
    trainer.train()
    assert trainer.topology.last_update == 4
    assert trainer.state.best_global_step == best
    share = 1 - model.sparsity_config.sparsity
    assert all(x.density == pytest.approx(share, abs=0.01) for x in sparse_layers(model).values())


@pytest.mark.parametrize(
    ("make", "labels"),
    [
        (BartForSequenceClassification, {"labels": [0, 2]}),
        (BartForQuestionAnswering, {"start_positions": [0, 1], "end_positions": [2, 3]}),
    ],
)
def test_models_with_another_head_train_as_with_the_plain_trainer(make, labels, tmp_path) -> None:
    torch.manual_seed(0)
    model = make(BartConfig(**SEQ2SEQ, num_labels=3))
    sparse(model, method="static")
    row = {"input_ids": [5, 6, 7, 8, 1], "attention_mask": [1] * 5}
    rows = [{**row, **{key: values[n] for key, values in labels.items()}} for n in (0, 1)]
    losses = []
    for kind in (Trainer, SparseTrainer):
        args = TrainingArguments(
            str(tmp_path), max_steps=3, report_to=[], save_strategy="no", logging_steps=1,
            disable_tqdm=True, use_cpu=True, learning_rate=1e-2,
        )  # fmt: skip
        watch = Watch()
        kind(copy.deepcopy(model), args, train_dataset=rows, callbacks=[watch]).train()
        losses.append([log["loss"] for log in watch.logs if "loss" in log])
    assert losses[1] == pytest.approx(losses[0], abs=1e-4)
    assert losses[0][0] != losses[0][2]
