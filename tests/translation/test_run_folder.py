from __future__ import annotations

import json
from dataclasses import replace

import pytest

from hf_chts.translation.data import DataSource
from hf_chts.translation.recipe import Recipe
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


def checkpoint(folder, step, whole=True) -> str:
    path = folder.checkpoints / f"checkpoint-{step}"
    path.mkdir(parents=True)
    (path / "model.safetensors").touch()
    if whole:
        (path / "trainer_state.json").touch()
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


def test_resuming(tmp_path) -> None:
    with pytest.raises(ValueError, match="holds no run to resume: start it without --resume"):
        RunFolder(tmp_path).check(RECIPE, **RESUME)
    folder = started(tmp_path / "run")
    assert folder.check(RECIPE, **RESUME) is None
    checkpoint(folder, 900)
    last = checkpoint(folder, 1000)
    assert folder.check(RECIPE, **RESUME) == last
    checkpoint(folder, 1100, whole=False)  # killed while it was written
    assert folder.check(RECIPE, **RESUME) == last


def test_resuming_another_recipe_is_refused(tmp_path) -> None:
    folder = started(tmp_path / "run")
    other = replace(
        RECIPE,
        training=replace(RECIPE.training, clip=2.0),
        sparsity=replace(RECIPE.sparsity, zeta=0.1),
    )
    with pytest.raises(ValueError, match=r"differs .* in training\.clip, sparsity\.zeta: resume"):
        folder.check(other, **RESUME)


def test_environment() -> None:
    found = environment()
    assert {"command", "python", "torch", "transformers", "processor", "cores"} <= set(found)
    assert found["processor"]
