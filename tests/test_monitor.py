from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tiny_training import Watch, marian, trainer_of
from transformers import TrainerCallback

from hf_chts import sparse_layers
from hf_chts.analysis.measures import MEASURES
from hf_chts.analysis.snapshots import load_snapshots
from hf_chts.monitor import TopologyMonitor, groups_as_data
from hf_chts.network.wiring import hidden_groups
from hf_chts.rules.percolation import active_neuron_rate, percolate

MEASURE = "clustering"
FIGURES = {
    f"topology_{name}"
    for name in (
        *("density", "itop", "active_neurons", "overlap_start"),
        *("input_heterogeneity", "output_heterogeneity"),
    )
}
PARTS = [
    f"{stack}_{block}"
    for stack in ("encoder", "decoder")
    for block in ("self-attention", "cross-attention", "feed-forward")
    if (stack, block) != ("encoder", "cross-attention")
]


class Record(TrainerCallback):
    """Masks after each step."""

    def __init__(self) -> None:
        self.masks: dict[int, dict[str, torch.Tensor]] = {}

    def on_train_begin(self, args, state, control, model=None, **kwargs) -> None:
        self.masks[0] = {name: layer.mask for name, layer in sparse_layers(model).items()}

    def on_step_end(self, args, state, control, model=None, **kwargs) -> None:
        masks = {name: layer.mask for name, layer in sparse_layers(model).items()}
        self.masks[state.global_step] = masks


def watched(folder, monitor=None, model=None, **options):
    """A run of ten steps with an update after every second one; its logs and masks."""
    watch, record = Watch(), Record()
    monitor = monitor or TopologyMonitor()
    options = {"max_steps": 10, "logging_steps": 5, **options}
    resume = options.pop("resume", None)
    model = model or marian(stop_fraction=0.8, zeta=0.5)
    trainer = trainer_of(model, folder, callbacks=[monitor, watch, record], **options)
    trainer.train(resume_from_checkpoint=resume)
    return trainer, watch.logs, record.masks


def same(found, masks):
    return found.keys() == masks.keys() and all(
        np.array_equal(found[name], masks[name].numpy()) for name in masks
    )


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    return folder, *watched(folder, save_strategy="steps", save_steps=1)


def test_snapshots_are_the_links(run) -> None:
    folder, trainer, _, masks = run
    snapshots = load_snapshots(folder)
    assert snapshots.steps == (0, 2, 4, 6, 8, 10)  # updates end after step 8
    for step in snapshots.steps:
        assert same(snapshots.masks(step), masks[step])
    assert not same(snapshots.masks(2), masks[0])
    layers = sparse_layers(trainer.model)
    assert snapshots.layers == {n: (x.out_features, x.in_features) for n, x in layers.items()}
    assert snapshots.groups == groups_as_data(hidden_groups(trainer.model))


@pytest.mark.parametrize(
    ("every", "steps"), [(3, (0, 3, 6, 9, 10)), (99, (0, 10)), (5, (0, 5, 10))]
)
def test_snapshots_when_asked_for(every, steps, tmp_path) -> None:
    folder = tmp_path / "elsewhere"
    _, _, masks = watched(tmp_path, TopologyMonitor(folder, snapshot_every=every))
    snapshots = load_snapshots(folder)
    assert snapshots.steps == steps
    assert all(same(snapshots.masks(step), masks[step]) for step in steps)
    assert not (tmp_path / "network.json").exists()


def test_about_ten_snapshots_of_a_long_run(tmp_path) -> None:
    model = marian(update_interval=1, stop_fraction=1.0)
    watched(tmp_path, model=model, max_steps=15)
    assert load_snapshots(tmp_path).steps == (*range(0, 15, 2), 15)


def test_links_that_stay_have_a_start_and_an_end(tmp_path) -> None:
    _, logs, _ = watched(tmp_path, model=marian(method="static"))
    assert load_snapshots(tmp_path).steps == (0, 10)
    assert not any(key.startswith("topology") for log in logs for key in log)


def test_figures_of_every_update(run) -> None:
    folder, trainer, logs, masks = run
    known = {f"{name}{label}" for name in FIGURES for label in ("", *(f"/{p}" for p in PARTS))}
    for log, step in zip(logs, (2, 4, 5, 6, 8, 10), strict=False):
        assert "loss" in log
        assert known <= log.keys() if step in (2, 4, 6, 8) else not known & log.keys()
    assert "loss" not in logs[6]
    assert [row["step"] for row in trainer.state.log_history[:6]] == [2, 4, 5, 6, 8, 10]
    log, now = logs[4], masks[8]
    groups = hidden_groups(trainer.model)
    rate = active_neuron_rate(percolate(now, groups), groups)
    assert log["topology_active_neurons"] == pytest.approx(rate)
    lines = [json.loads(x) for x in (folder / "topology.jsonl").read_text().splitlines()]
    rows = {line["name"]: line["itop"] for line in lines if line["step"] == 8}
    for label in ("", *PARTS):
        part = {name: mask for name, mask in now.items() if belongs(name, label)}
        start = {name: masks[0][name] for name in part}
        size = sum(mask.numel() for mask in part.values())
        shared = sum(int((mask & start[name]).sum()) for name, mask in part.items())
        united = sum(int((mask | start[name]).sum()) for name, mask in part.items())
        itop = sum(rows[name] * mask.numel() for name, mask in part.items()) / size
        expected = {
            "density": sum(int(mask.sum()) for mask in part.values()) / size,
            "itop": itop,
            "overlap_start": shared / united,
            "input_heterogeneity": np.mean([spread(mask.sum(0)) for mask in part.values()]),
            "output_heterogeneity": np.mean([spread(mask.sum(1)) for mask in part.values()]),
        }
        for name, value in expected.items():
            key = f"topology_{name}/{label}" if label else f"topology_{name}"
            assert log[key] == pytest.approx(value), key


def belongs(layer, label):
    stack, _, block = label.partition("_")
    words = {"self-attention": "self_attn", "cross-attention": "encoder_attn"}
    return f"model.{stack}" in layer and words.get(block, "fc" if block else "") in layer


def spread(degrees):
    return float((degrees.double() ** 2).mean() / degrees.double().mean() ** 2)


def test_watching_changes_nothing(run, tmp_path) -> None:
    _, trainer, _, _ = run
    other = trainer_of(marian(stop_fraction=0.8, zeta=0.5), tmp_path, max_steps=10)
    other.train()
    expected, found = trainer.model.state_dict(), other.model.state_dict()
    assert all(torch.equal(found[key], tensor) for key, tensor in expected.items())


def test_no_logs_where_none_are_wanted(tmp_path) -> None:
    _, logs, _ = watched(tmp_path, logging_strategy="no")
    assert [set(log) & {"loss", "train_loss"} for log in logs] == [{"train_loss"}]
    assert load_snapshots(tmp_path).steps == (0, 2, 4, 6, 8, 10)


def files(folder):
    paths = [folder / "network.json", *(folder / "snapshots").iterdir()]
    return {path.name: path.read_bytes() for path in paths}


@pytest.mark.parametrize("step", [3, 4, 9])
def test_a_resumed_run_has_the_same_snapshots(run, step, tmp_path) -> None:
    folder, _, logs, _ = run
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    for old in range(step + 1, 11):
        shutil.rmtree(tmp_path / f"checkpoint-{old}")
    links = tmp_path / "snapshots"
    (links / "step-00000010.npz").write_text("of a run that went on in another way")
    shutil.copy(links / "step-00000002.npz", links / "step-00000099.npz")
    (links / "step-00000004.npz.part").write_text("torn by the interruption")
    _, again, _ = watched(tmp_path, resume=True)
    assert files(tmp_path) == files(folder)
    key = "topology_overlap_start/decoder_feed-forward"
    overlaps = [[log[key] for log in some if key in log] for some in (logs, again)]
    assert overlaps[1] == overlaps[0][step // 2 :]


@pytest.mark.parametrize("whole", [2, None])
def test_a_run_resumes_beside_a_damaged_snapshot(run, whole, tmp_path) -> None:
    folder, _, _, masks = run
    shutil.copytree(folder / "checkpoint-5", tmp_path / "checkpoint-5")
    shutil.copytree(folder / "snapshots", tmp_path / "snapshots")
    damaged = [0, 2, 4][: 1 if whole else 3]
    for step in damaged:
        (tmp_path / "snapshots" / f"step-{step:08d}.npz").write_bytes(b"torn")
    with pytest.warns(UserWarning, match="is no whole snapshot.*next links") as caught:
        _, logs, _ = watched(tmp_path, resume=True)
    assert sum("no whole snapshot" in str(one.message) for one in caught) == len(damaged)
    start, now = masks[whole or 5], masks[8]
    shared = sum(int((mask & start[name]).sum()) for name, mask in now.items())
    united = sum(int((mask | start[name]).sum()) for name, mask in now.items())
    found = [log["topology_overlap_start"] for log in logs if "topology_overlap_start" in log]
    assert found[-1] == pytest.approx(shared / united)


def test_a_run_that_was_not_watched_before(run, tmp_path) -> None:
    shutil.copytree(run[0] / "checkpoint-5", tmp_path / "checkpoint-5")
    watched(tmp_path, resume=True)
    assert load_snapshots(tmp_path).steps == (5, 6, 8, 10)


def test_a_new_run_replaces_the_old(tmp_path) -> None:
    watched(tmp_path, TopologyMonitor(snapshot_every=3))
    _, _, masks = watched(tmp_path, model=marian(zeta=0.3), max_steps=4)
    snapshots = load_snapshots(tmp_path)
    assert snapshots.steps == (0, 2, 4)
    assert same(snapshots.masks(4), masks[4])


def test_the_end_is_the_last_step_and_not_the_best(tmp_path) -> None:
    trainer, _, masks = watched(
        tmp_path, max_steps=7, model=marian(zeta=0.5), eval_strategy="steps", eval_steps=2,
        save_strategy="steps", save_steps=2, load_best_model_at_end=True,
        metric_for_best_model="eval_loss", greater_is_better=True, learning_rate=5e-2,
    )  # fmt: skip
    assert trainer.state.best_global_step == 2
    snapshots = load_snapshots(tmp_path)
    assert snapshots.steps[-1] == 7
    assert same(snapshots.masks(7), masks[7])
    best = {name: layer.mask for name, layer in sparse_layers(trainer.model).items()}
    assert not same(snapshots.masks(7), best)


def test_chosen_measures(tmp_path) -> None:
    monitor = TopologyMonitor(measures=[MEASURE], measure_every=5)
    _, logs, masks = watched(tmp_path, monitor, logging_steps=3)
    key = f"topology_mean_{MEASURE}"
    assert [key in log for log in logs] == [
        step in (5, 10) for step in (2, 3, 4, 5, 6, 8, 9, 10)
    ] + [False]
    values = {n: MEASURES[MEASURE].function(mask.numpy(), 0) for n, mask in masks[10].items()}
    assert logs[7][key] == pytest.approx(np.mean(list(values.values())))
    crossing = [value for name, value in values.items() if "encoder_attn" in name]
    assert logs[7][f"{key}/decoder_cross-attention"] == pytest.approx(np.mean(crossing))


def test_measures_with_the_snapshots(tmp_path) -> None:
    monitor = TopologyMonitor(measures=[MEASURE], snapshot_every=4)
    _, logs, _ = watched(tmp_path, monitor)
    assert [f"topology_mean_{MEASURE}" in log for log in logs[:6]] == [0, 1, 0, 0, 1, 0]


def test_dense_training_is_left_alone(tmp_path) -> None:
    _, logs, _ = watched(tmp_path, model=marian(method="dense"))
    assert [path.name for path in tmp_path.iterdir()] == []
    assert len(logs) == 3


def test_tensorboard(tmp_path) -> None:
    _, logs, _ = watched(tmp_path, report_to=["tensorboard"])
    events = EventAccumulator(str(next(tmp_path.rglob("events.out.*")).parent))
    events.Reload()
    tags = events.Tags()["scalars"]
    for name in FIGURES:
        for label in ("", *(f"/{part}" for part in PARTS)):
            assert f"train/{name}{label}" in tags
    found = {event.step: event.value for event in events.Scalars("train/topology_overlap_start")}
    expected = [log["topology_overlap_start"] for log in logs if "topology_overlap_start" in log]
    assert found == dict(zip((2, 4, 6, 8), map(pytest.approx, expected), strict=True))


@pytest.mark.slow
def test_weights_and_biases(tmp_path, monkeypatch) -> None:
    wandb = pytest.importorskip("wandb", reason="W&B is not installed")
    for key, value in (("MODE", "offline"), ("DIR", str(tmp_path)), ("SILENT", "true")):
        monkeypatch.setenv(f"WANDB_{key}", value)
    _, logs, _ = watched(tmp_path / "run", report_to=["wandb"])
    found = dict(wandb.run.summary)
    wandb.finish()
    last = [log for log in logs if "topology_itop" in log][-1]
    for name in FIGURES:
        for key in (name, f"{name}/decoder_cross-attention"):
            assert found[f"train/{key}"] == pytest.approx(last[key])
