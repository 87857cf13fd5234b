"""Checkpoints of the trainers: whole, checked before they are read, and free of code."""

from __future__ import annotations

import json
import os
import pickle
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file
from test_reliability_saving import small_files
from tiny_training import marian, trainer_of
from transformers import TrainerCallback

from hf_chts.safe_saving import UNFINISHED, checkpoints, seal, what_is_damaged

SAVING = {"save_strategy": "steps", "save_steps": 2, "max_steps": 6}
BEST = {**SAVING, "eval_strategy": "steps", "eval_steps": 2, "load_best_model_at_end": True}


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A run with checkpoints at steps 2, 4 and 6, the best of them among these."""
    folder = tmp_path_factory.mktemp("finished")
    trainer = trainer_of(marian(historical_weights=1.0), folder, **BEST)
    trainer.train()
    return folder, trainer


@pytest.fixture
def folder(finished, tmp_path):
    shutil.copytree(finished[0], tmp_path / "run")
    return tmp_path / "run"


def resumed(folder, step=None, **options):
    trainer = trainer_of(marian(historical_weights=1.0), folder, **{**BEST, **options})
    trainer.train(resume_from_checkpoint=True if step is None else f"{folder}/checkpoint-{step}")
    return trainer


def test_every_checkpoint_is_whole(finished) -> None:
    folder, trainer = finished
    assert list(checkpoints(folder)) == [2, 4, 6]
    assert all(what_is_damaged(path) is None for path in checkpoints(folder).values())
    assert not (folder / UNFINISHED).exists()
    states = [json.loads((folder / f"checkpoint-{n}/trainer_state.json").read_text()) for n in
              (2, 4, 6)]  # fmt: skip
    for state in states:
        best = folder / f"checkpoint-{state['best_global_step']}"
        assert state["best_model_checkpoint"] == str(best)
    assert trainer.state.best_model_checkpoint == states[-1]["best_model_checkpoint"]


@pytest.mark.parametrize("name", ["model.safetensors", "optimizer.pt", "topology.safetensors"])
def test_damage_is_refused_before_anything_is_read(folder, name) -> None:
    path = folder / "checkpoint-6" / name
    path.write_bytes(path.read_bytes()[:-7])
    model = marian(historical_weights=1.0)
    before = {key: x.clone() for key, x in model.state_dict().items()}
    with pytest.raises(ValueError, match=rf"checkpoint-6 is damaged: {name} has .* checkpoint-4"):
        trainer_of(model, folder, **BEST).train(resume_from_checkpoint=True)
    assert all(torch.equal(before[key], x) for key, x in model.state_dict().items())


def test_the_one_before_is_used_on_request(finished, folder) -> None:
    (folder / "checkpoint-6" / "optimizer.pt").unlink()
    resumed(folder, 4)
    whole = (finished[0] / "checkpoint-6" / "model.safetensors").read_bytes()
    assert (folder / "checkpoint-6" / "model.safetensors").read_bytes() == whole
    assert what_is_damaged(folder / "checkpoint-6") is None


@pytest.mark.parametrize("step", [4, 6])
def test_the_best_one_is_found_where_the_run_lies_now(finished, folder, step) -> None:
    """Also where the run is at its end, and writes no checkpoint any more."""
    trainer = resumed(folder, step)
    best = finished[1].state.best_global_step
    assert trainer.state.best_model_checkpoint == str(folder / f"checkpoint-{best}")


def test_a_damaged_best_one_is_refused_at_once(folder, finished) -> None:
    best = finished[1].state.best_global_step
    other = folder / "checkpoint-8"
    shutil.copytree(folder / "checkpoint-6", other)
    (folder / f"checkpoint-{best}" / "model.safetensors").unlink()
    with pytest.raises(ValueError, match=f"checkpoint-{best} is damaged: model.safetensors is mis"):
        resumed(folder, 8, max_steps=9)
    trainer = resumed(folder, 8, max_steps=9, load_best_model_at_end=False)
    assert trainer.state.global_step == 9  # who does not load it has no need of it


def test_a_best_one_that_is_damaged_while_the_run_goes_on_is_not_loaded(tmp_path) -> None:
    class Damage(TrainerCallback):
        """One bit of the last weight, which any reader would take for a number."""

        def on_save(self, args, state, control, **kwargs) -> None:
            if state.global_step == 6:
                path = tmp_path / f"checkpoint-{state.best_global_step}" / "model.safetensors"
                content = bytearray(path.read_bytes())
                content[-1] ^= 1
                path.write_bytes(content)

    trainer = trainer_of(marian(), tmp_path, callbacks=[Damage()], **BEST)
    with pytest.raises(ValueError, match=r"is damaged: model\.safetensors has changed since it"):
        trainer.train()
    assert trainer.state.global_step == 6


@pytest.mark.parametrize("limit", [1, 2])
def test_the_limit_keeps_the_last_and_the_best(tmp_path, limit) -> None:
    class Worsen(TrainerCallback):
        def on_step_end(self, args, state, control, model=None, **kwargs) -> None:
            if state.global_step > 2:
                with torch.no_grad():
                    model.lm_head.weight.normal_(std=state.global_step)

    options = {**BEST, "save_total_limit": limit, "max_steps": 8}
    trainer = trainer_of(marian(), tmp_path, callbacks=[Worsen()], **options)
    trainer.train()
    assert trainer.state.best_global_step == 2
    # with a limit of 1 Transformers deletes the last one at the end of the training
    assert list(checkpoints(tmp_path)) == ([2] if limit == 1 else [2, 8])


def test_a_full_disk_leaves_the_checkpoint_before(tmp_path) -> None:
    class Fill(TrainerCallback):
        def on_step_end(self, args, state, control, **kwargs) -> None:
            if state.global_step == 4:
                self.full = small_files(5000)
                self.full.__enter__()

    fill = Fill()
    trainer = trainer_of(marian(), tmp_path, callbacks=[fill], **SAVING)
    try:
        message = r"checkpoint-4 could not be written .* go on from checkpoint-2 once there is room"
        with pytest.raises(OSError, match=message):
            trainer.train()
    finally:
        fill.full.__exit__(None, None, None)
    assert list(checkpoints(tmp_path)) == [2]
    assert not (tmp_path / UNFINISHED).exists()
    trainer_of(marian(), tmp_path, **SAVING).train(resume_from_checkpoint=True)
    assert list(checkpoints(tmp_path)) == [2, 4, 6]


def test_what_a_killed_run_left_is_cleared(folder) -> None:
    (folder / UNFINISHED / "checkpoint-5").mkdir(parents=True)
    resumed(folder, 4)
    assert not (folder / UNFINISHED).exists()


class Code:
    """A pickle that leaves a file behind when it is loaded."""

    def __init__(self, path) -> None:
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("name", ["optimizer.pt", "scheduler.pt", "rng_state.pth"])
@pytest.mark.parametrize("kind", ["torch", "pickle", "noise", "other"])
def test_no_code_of_a_checkpoint_runs(folder, tmp_path, name, kind) -> None:
    path = folder / "checkpoint-4" / name
    if kind == "torch":
        torch.save({"state": Code(tmp_path / "ran")}, path)
    elif kind == "pickle":
        path.write_bytes(pickle.dumps(Code(tmp_path / "ran")))
    else:
        path.write_bytes(b"noise" * 99 if kind == "noise" else b"")
    seal(path.parent)  # whoever plants code mends the checksums, too
    with pytest.raises(ValueError, match="checkpoint-4 cannot be read"):
        resumed(folder, 4)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda state: state.update(global_step="4"), "global_step"),
        (lambda state: state.update(global_step=-1), "global_step"),
        (lambda state: state.update(unknown=1), "unknown"),
        (lambda state: state.update(log_history=3), "log_history"),
        (lambda state: state.clear(), "train_batch_size is None"),
    ],
)
def test_a_mended_state_is_refused(folder, change, message) -> None:
    path = folder / "checkpoint-4" / "trainer_state.json"
    state = json.loads(path.read_text())
    change(state)
    path.write_text(json.dumps(state))
    seal(path.parent)
    with pytest.raises(ValueError, match=f"checkpoint-4.*{message}"):
        resumed(folder, 4)


def test_optimizer_state_of_another_shape_is_refused(folder) -> None:
    path = folder / "checkpoint-4" / "optimizer.pt"
    state = torch.load(path, weights_only=True)
    state["state"][3]["exp_avg"] = torch.zeros(2)
    torch.save(state, path)
    seal(path.parent)
    with pytest.raises(ValueError, match=r"exp_avg has shape \(2,\) for a weight of shape"):
        resumed(folder, 4)


@pytest.mark.parametrize("name", ["model.safetensors", "topology.safetensors"])
def test_tensors_that_cannot_be_read_are_refused(folder, name) -> None:
    path = folder / "checkpoint-4" / name
    path.write_bytes(b"\xff" * 64)
    seal(path.parent)
    with pytest.raises(ValueError, match="checkpoint-4 cannot be read"):
        resumed(folder, 4)


def test_damaged_links_are_refused(folder) -> None:
    path = folder / "checkpoint-4" / "model.safetensors"
    state = load_file(path)
    key = next(key for key in state if key.endswith("col_indices"))
    state[key][0] = 999
    save_file(state, path)
    seal(path.parent)
    with pytest.raises(ValueError, match=r"checkpoint-4 cannot be read.*columns must lie in \[0,"):
        resumed(folder, 4)


def test_a_damaged_log_is_named(folder) -> None:
    log = folder / "topology.jsonl"
    log.write_text("{}\n" + log.read_text())
    with pytest.raises(ValueError, match=r"topology.jsonl, line 1 is damaged"):
        resumed(folder, 4)
