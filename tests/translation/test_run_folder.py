from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from hf_chts.safe_saving import seal
from hf_chts.translation import run_folder
from hf_chts.translation.data import DataSource
from hf_chts.translation.recipe import Recipe, load_recipe
from hf_chts.translation.run_folder import RunFolder, environment
from hf_chts.translation.sections import DataSection, TrainingSection

SOURCE = DataSource(corpus="embedded")
RECIPE = Recipe(DataSection(SOURCE, SOURCE, {"t": SOURCE}), TrainingSection(max_steps=10))
NEW = {"resume": False, "overwrite": False}
RESUME = {"resume": True, "overwrite": False}
OVERWRITE = {"resume": False, "overwrite": True}


def started(path):
    folder = RunFolder(path)
    folder.start(RECIPE)
    return folder


def checkpoint(folder, step) -> str:
    path = folder.checkpoints / f"checkpoint-{step}"
    path.mkdir(parents=True)
    (path / "model.safetensors").write_bytes(b"weights")
    (path / "trainer_state.json").touch()
    seal(path)
    return str(path)


def test_checking_writes_nothing(tmp_path) -> None:
    assert RunFolder(tmp_path / "a" / "b").check(RECIPE, **NEW) is None
    assert not (tmp_path / "a").exists()


def test_start_writes_the_recipe(tmp_path) -> None:
    folder = started(tmp_path / "a" / "b")
    assert folder.recipe.read_text() == RECIPE.to_yaml()
    (tmp_path / "empty").mkdir()
    assert RunFolder(tmp_path / "empty").check(RECIPE, **NEW) is None


def test_a_run_is_replaced_only_when_asked(tmp_path) -> None:
    folder = started(tmp_path / "run")
    folder.write_json("bleu.json", {"a": [1, "ä"]})
    assert json.loads((folder.path / "bleu.json").read_text(encoding="utf-8")) == {"a": [1, "ä"]}
    with pytest.raises(ValueError, match=r"holds a run already: use --resume .* --overwrite"):
        folder.check(RECIPE, **NEW)
    folder.check(RECIPE, **OVERWRITE)
    assert (folder.path / "bleu.json").is_file()
    folder.start(RECIPE)
    assert [path.name for path in folder.path.iterdir()] == ["recipe.yaml"]


@pytest.mark.parametrize("options", [NEW, OVERWRITE])
def test_foreign_folders_are_left_alone(tmp_path, options) -> None:
    (tmp_path / "thesis.tex").touch()
    with pytest.raises(ValueError, match=r"holds other files \(thesis.tex\)"):
        RunFolder(tmp_path).check(RECIPE, **options)
    (tmp_path / "recipe.yaml").touch()  # somebody's recipe among other things
    with pytest.raises(ValueError, match=r"holds other files \(thesis.tex\)"):
        RunFolder(tmp_path).check(RECIPE, **options)
    (tmp_path / "other" / "model").mkdir(parents=True)
    with pytest.raises(ValueError, match=r"holds other files \(model\)"):
        RunFolder(tmp_path / "other").check(RECIPE, **options)
    with pytest.raises(ValueError, match="is a file: give a folder"):
        RunFolder(tmp_path / "thesis.tex").check(RECIPE, **options)
    with pytest.raises(ValueError, match=r"thesis.tex is a file: give a folder"):
        RunFolder(tmp_path / "thesis.tex" / "a" / "b").check(RECIPE, **options)


def test_resuming(tmp_path) -> None:
    with pytest.raises(ValueError, match="holds no run to resume: start it without --resume"):
        RunFolder(tmp_path).check(RECIPE, **RESUME)
    folder = started(tmp_path / "run")
    assert folder.check(RECIPE, **RESUME) is None
    checkpoint(folder, 900)
    last = checkpoint(folder, 1000)
    assert folder.check(RECIPE, **RESUME) == last
    assert folder.check(RECIPE, resume_from=900) == str(folder.checkpoints / "checkpoint-900")
    (folder.checkpoints / ".unfinished" / "checkpoint-1100").mkdir(parents=True)  # killed there
    assert folder.check(RECIPE, **RESUME) == last


@pytest.mark.parametrize("options", [{"resume": True}, {"resume_from": 900}])
def test_a_run_is_not_both_resumed_and_replaced(tmp_path, options) -> None:
    folder = started(tmp_path / "run")
    checkpoint(folder, 900)
    with pytest.raises(
        ValueError, match="is either gone on with or replaced: leave out --overwrite, or"
    ):
        folder.check(RECIPE, overwrite=True, **options)


def test_damaged_checkpoints_are_named(tmp_path) -> None:
    folder = started(tmp_path / "run")
    checkpoint(folder, 5)
    with pytest.raises(ValueError, match=r"checkpoint-7 cannot be resumed: it is not there; .* 5$"):
        folder.check(RECIPE, resume_from=7)
    last = Path(checkpoint(folder, 10))
    (last / "model.safetensors").write_bytes(b"weigh")
    message = r"checkpoint-10 cannot be resumed: model.safetensors has 5 of 7 bytes; .*-from 5$"
    with pytest.raises(ValueError, match=message):
        folder.check(RECIPE, **RESUME)
    shutil.rmtree(last)
    (folder.checkpoints / "checkpoint-5" / "trainer_state.json").unlink()
    with pytest.raises(ValueError, match=r"trainer_state.json is missing; start .* --overwrite"):
        folder.check(RECIPE, **RESUME)


@pytest.mark.parametrize("text", ["", "[", "a: b", "data: 1\ntraining: {}\ntokenizer: {}", "\0"])
def test_a_damaged_recipe_of_a_run_is_named(tmp_path, text) -> None:
    folder = started(tmp_path / "run")
    folder.recipe.write_text(text)
    with pytest.raises(ValueError, match=r"recipe.yaml is damaged: put the recipe of the run back"):
        folder.check(RECIPE, **RESUME)


def test_leftovers_of_a_killed_start_are_no_foreign_files(tmp_path) -> None:
    (tmp_path / ".unfinished" / "recipe.yaml").mkdir(parents=True)
    folder = RunFolder(tmp_path)
    assert folder.check(RECIPE, **NEW) is None
    folder.start(RECIPE)
    assert [path.name for path in tmp_path.iterdir()] == ["recipe.yaml"]


def test_resuming_another_recipe_is_refused(tmp_path) -> None:
    folder = started(tmp_path / "run")
    other = replace(
        RECIPE,
        training=replace(RECIPE.training, clip=2.0),
        sparsity=replace(RECIPE.sparsity, zeta=0.1),
    )
    with pytest.raises(ValueError, match=r"differs .* in training\.clip, sparsity\.zeta: resume"):
        folder.check(other, **RESUME)


def test_files_are_the_same_by_whatever_name(tmp_path, monkeypatch) -> None:
    for name in ("own/x.en", "own/x.de", "other/x.en", "other/x.de", "own/t.tsv"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("a\n")
    recipe = tmp_path / "own" / "recipe.yaml"
    recipe.write_text(
        "data:\n  train: {files: [x.en, x.de]}\n  validation: {corpus: embedded}\n"
        "  test: {t: {file: t.tsv}}\ntraining: {max_steps: 3}\n"
    )
    monkeypatch.chdir(tmp_path)
    run = RunFolder(tmp_path / "run")
    run.start(load_recipe("own/recipe.yaml"))
    run.check(load_recipe(recipe), **RESUME)
    monkeypatch.chdir(tmp_path / "other")
    run.check(load_recipe("../own/recipe.yaml"), **RESUME)
    elsewhere = load_recipe(recipe, [f"data.root={tmp_path}/other"])
    with pytest.raises(ValueError, match=r"differs .* in data.train.files, data.test.t.file: res"):
        run.check(elsewhere, **RESUME)
    with pytest.raises(ValueError, match=r"differs .* data.train.files, data.train.corpus: res"):
        run.check(load_recipe(recipe, ["data.train={corpus: embedded}"]), **RESUME)
    monkeypatch.chdir(tmp_path)
    relative = load_recipe(recipe, ["data.root=own"])
    assert relative.data.train.files == ("own/x.en", "own/x.de")
    run.start(relative)  # its recipe says so
    run.check(load_recipe(recipe), **RESUME)


def test_environment() -> None:
    found = environment()
    assert {"command", "python", "torch", "transformers", "processor", "cores"} <= set(found)
    assert found["processor"]


def test_the_commit_is_told_without_a_lock_in_the_repository(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(run_folder, "__file__", str(tmp_path / "code.py"))
    assert environment()["commit"] is None  # no repository
    (tmp_path / "code.py").write_text("1")
    git = ["git", "-c", "user.name=a", "-c", "user.email=a@b.c", "-C", str(tmp_path)]
    (tmp_path / "other.py").write_text("3")
    for name in ("other.py", "code.py"):
        assert environment()["commit"] is None  # a repository that does not hold this file
        for command in (["init", "-q"], ["add", name], ["commit", "-q", "-m", "more"]):
            subprocess.run([*git, *command], check=True)
    commit = environment()["commit"]
    assert re.fullmatch("[0-9a-f]{7,}", commit)
    index = (tmp_path / ".git" / "index").read_bytes()
    os.utime(tmp_path / "code.py", (1, 1))  # git would note that it is the same, under a lock
    assert environment()["commit"] == commit
    assert (tmp_path / ".git" / "index").read_bytes() == index
    (tmp_path / "code.py").write_text("2")
    assert environment()["commit"] == f"{commit}-dirty"


def test_the_environment_of_every_part_of_a_run(tmp_path, monkeypatch) -> None:
    folder = started(tmp_path)
    record = lambda: json.loads((tmp_path / "environment.json").read_text())  # noqa: E731
    folder.record_environment()
    first = record()
    folder.record_environment()
    assert record() == first == environment()
    for commit in ("a", "b"):
        monkeypatch.setattr(run_folder, "_commit", lambda commit=commit: commit)
        folder.record_environment()
    assert record() == environment() | {"earlier": [first, first | {"commit": "a"}]}
    (tmp_path / "environment.json").write_text("{")
    folder.record_environment()
    assert record() == environment()
