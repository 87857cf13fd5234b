"""Translation runs that are interrupted, killed, damaged and gone on with."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from topology_logs import untimed
from transformers import TrainerCallback

from hf_chts.safe_saving import checkpoints, seal
from hf_chts.translation import run
from hf_chts.translation.run_folder import RunFolder
from hf_chts.translation.training import TranslationTrainer

ROOT = Path(__file__).resolve().parents[2]


def test_same_recipe_same_bytes(chts, recipe, tmp_path) -> None:
    run.train(recipe, tmp_path / "again")
    assert_same(chts[0], tmp_path / "again")


def assert_same(whole: Path, other: Path) -> None:
    for name in ("model/model.safetensors", "translations/first.txt"):
        assert (whole / name).read_bytes() == (other / name).read_bytes(), name
    assert untimed(whole) == untimed(other)


class Interruption(Exception):
    pass


@pytest.mark.parametrize("step", [4, 7])
def test_interrupted_and_resumed_equals_uninterrupted(
    chts, recipe, tmp_path, monkeypatch, step
) -> None:
    """Raised in a callback one step after a checkpoint, once right before an update."""

    class Interrupt(TrainerCallback):
        def on_step_end(self, args, state, control, **kwargs) -> None:
            if state.global_step == step:
                raise Interruption

    plain = TranslationTrainer.__init__

    def with_interruption(self, *args, **kwargs):
        plain(self, *args, **kwargs)
        self.add_callback(Interrupt())

    with monkeypatch.context() as patched:
        patched.setattr(TranslationTrainer, "__init__", with_interruption)
        with pytest.raises(Interruption):
            run.train(recipe, tmp_path / "run")
    assert not (tmp_path / "run" / "model").exists()
    result = run.train(recipe, tmp_path / "run", resume=True)
    assert result.scores == chts[1].scores
    assert_same(chts[0], tmp_path / "run")
    run.train(recipe, tmp_path / "run", resume=True)  # of a finished run: nothing is left to do
    assert_same(chts[0], tmp_path / "run")


def test_killed_and_resumed_equals_uninterrupted(chts, folder, recipe, tmp_path) -> None:
    output = tmp_path / "run"
    program = (
        "import hf_chts.translation.run as r, hf_chts.translation.training as t, os, signal\n"
        "from hf_chts.translation.recipe import load_recipe\n"
        "import torch; torch.set_num_threads(1)\n"
        "save = t.TranslationTrainer._save_rng_state\n"
        "def kill(self, folder):\n"
        "    save(self, folder)\n"
        "    if self.state.global_step == 6: os.kill(os.getpid(), signal.SIGKILL)\n"
        "t.TranslationTrainer._save_rng_state = kill\n"  # in the middle of a checkpoint
        f"r.train(load_recipe({str(folder / 'recipe.yaml')!r}), {str(output)!r})\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True)
    assert done.returncode == -signal.SIGKILL, done.stderr[-2000:]
    staged = output / "checkpoints" / ".unfinished" / "checkpoint-6"
    assert (staged / "model.safetensors").is_file()
    assert RunFolder(output).check(recipe, resume=True, overwrite=False).endswith("checkpoint-3")
    run.train(recipe, output, resume=True)
    assert not staged.parent.exists()
    assert_same(chts[0], output)


def test_a_damaged_checkpoint_is_refused_and_the_one_before_used(chts, recipe, tmp_path) -> None:
    shutil.copytree(chts[0], tmp_path / "run")
    (tmp_path / "run" / "checkpoints" / "checkpoint-12" / "rng_state.pth").write_bytes(b"x")
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "run").rglob("*")}
    with pytest.raises(
        ValueError, match=r"checkpoint-12 cannot be .* rng_state.pth has 1 of .* 9$"
    ):
        run.train(recipe, tmp_path / "run", resume=True)
    assert before == {path: path.stat().st_mtime_ns for path in (tmp_path / "run").rglob("*")}
    run.train(recipe, tmp_path / "run", resume_from=9)
    assert_same(chts[0], tmp_path / "run")
    checkpoints = (tmp_path / "run" / "checkpoints").glob("checkpoint-*")
    assert {path.name for path in checkpoints} == {"checkpoint-9", "checkpoint-12"}


def test_going_back_deletes_later_checkpoints_once_the_earlier_one_is_found_to_fit(
    chts, recipe, tmp_path
) -> None:
    shutil.copytree(chts[0], tmp_path / "run")
    folder = RunFolder(tmp_path / "run").checkpoints
    optimizer, sound = folder / "checkpoint-9" / "optimizer.pt", tmp_path / "optimizer.pt"
    shutil.copy(optimizer, sound)
    state = torch.load(optimizer, weights_only=True)
    state["state"][0]["exp_avg"] = state["state"][0]["exp_avg"][:-1]
    torch.save(state, optimizer)
    seal(optimizer.parent)
    with pytest.raises(ValueError, match=r"exp_avg has shape .* it belongs to another model"):
        run.train(recipe, tmp_path / "run", resume_from=9)
    assert sorted(checkpoints(folder)) == [9, 12]

    shutil.copy(sound, optimizer)
    seal(optimizer.parent)

    class Interrupt(TrainerCallback):
        def on_train_begin(self, args, state, control, **kwargs) -> None:
            raise Interruption

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("hf_chts.translation.run.ShowProgress", Interrupt)
        with pytest.raises(Interruption):
            run.train(recipe, tmp_path / "run", resume_from=9)
    assert sorted(checkpoints(folder)) == [9]


def test_leftovers_of_a_killed_process_are_cleared(chts, recipe, tmp_path) -> None:
    """One that was about to replace the model."""
    shutil.copytree(chts[0], tmp_path / "run")
    (tmp_path / "run" / ".unfinished").mkdir()
    (tmp_path / "run" / "model").rename(tmp_path / "run" / ".unfinished" / "model.replaced")
    run.train(recipe, tmp_path / "run", resume=True)
    assert not (tmp_path / "run" / ".unfinished").exists()
    assert_same(chts[0], tmp_path / "run")


def test_training_seconds_count_all_parts(chts, recipe, tmp_path) -> None:
    shutil.copytree(chts[0], tmp_path / "run")
    path = tmp_path / "run" / "checkpoints" / "checkpoint-12"
    state = json.loads((path / "trainer_state.json").read_text())
    clock = state["stateful_callbacks"]["TrainingClock"]["attributes"]
    assert 0 < clock["seconds"] <= chts[1].seconds
    clock["seconds"] = 1000.0
    (path / "trainer_state.json").write_text(json.dumps(state))
    seal(path)
    seconds = run.train(recipe, tmp_path / "run", resume=True).seconds
    assert 1000 < seconds < 1000 + 60
    assert json.loads((tmp_path / "run" / "bleu.json").read_text())["training_seconds"] >= 1000


WRONG = [
    ("tokenizer", {"vocab_size": 20}, "is too small"),
    ("training", {"batch_tokens": 20}, "does not fit a batch of max_tokens=20"),
    ("training", {"report_to": ("wandbx",)}, "training.report_to: wandbx is not supported"),
    ("training", {"report_to": ("dvclive",)}, "training.report_to: .*requires dvclive"),
    ("model", {"config": {"dropout": 2}}, "model.config: .* probability has to be between 0 and 1"),
    ("sparsity", {"initial": "csti"}, "csti.* calibration"),
    ("model", {"pretrained": "sparse"}, "is sparse already"),
]


@pytest.mark.parametrize(("section", "changes", "message"), WRONG)
def test_an_earlier_run_outlives_a_wrong_recipe(
    chts, recipe, tmp_path, section, changes, message
) -> None:
    shutil.copytree(chts[0], tmp_path / "run")
    if changes.get("pretrained"):
        changes = {"pretrained": str(tmp_path / "run" / "model")}
    if "config" in changes:
        changes = {"config": recipe.model.config | changes["config"]}
    wrong = replace(recipe, **{section: replace(getattr(recipe, section), **changes)})
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "run").rglob("*")}
    for folder, overwrite in (("run", True), ("deep/new", False)):
        with pytest.raises((ValueError, ImportError), match=message):
            run.train(wrong, tmp_path / folder, overwrite=overwrite)
    assert not (tmp_path / "deep").exists()
    assert before == {path: path.stat().st_mtime_ns for path in (tmp_path / "run").rglob("*")}


def test_an_earlier_run_is_replaced_when_asked(chts, recipe, tmp_path) -> None:
    shutil.copytree(chts[0], tmp_path / "run")
    with pytest.raises(ValueError, match="holds a run already: use --resume"):
        run.train(recipe, tmp_path / "run")
    run.train(recipe, tmp_path / "run", overwrite=True)
    assert_same(chts[0], tmp_path / "run")
