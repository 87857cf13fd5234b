"""Reading a comparison's folder, in whatever state its runs are."""

import json

import pytest
import yaml
from made_up_comparison import MACHINE, write_begun, write_comparison, write_done, write_failed

from hf_chts.comparison.grid import Cell
from hf_chts.comparison.results import RunResult, read_comparison
from hf_chts.comparison.summary import summarise


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "compared"


def test_every_state_of_a_run(folder) -> None:
    grid = write_comparison(folder, ["dense", "chts"])
    by_name = {cell.name: cell for cell in grid}
    write_done(folder, by_name["dense-1"])
    write_failed(folder, by_name["dense-2"], "failed", "no space left")
    write_failed(folder, by_name["dense-3"], "diverged", "step 7: the loss is nan")
    write_begun(folder, by_name["chts-0.9-1"], 300)
    broken = write_done(folder, by_name["chts-0.9-2"])
    (broken / "bleu.json").write_text("{")
    runs = {run.cell.name: run for run in read_comparison(folder).runs.values()}
    assert {name: run.state for name, run in runs.items()} == {
        "dense-1": "done", "dense-2": "failed", "dense-3": "diverged", "chts-0.9-1": "unfinished",
        "chts-0.9-2": "damaged", "chts-0.9-3": "missing",
    }  # fmt: skip
    assert runs["dense-2"].reason == "no space left"
    assert "300" in runs["chts-0.9-1"].reason
    assert "JSONDecodeError" in runs["chts-0.9-2"].reason


def test_what_a_finished_run_measured(folder) -> None:
    (cell,) = write_comparison(folder, ["dense"], seeds=[2])
    path = write_done(folder, cell)
    run = read_comparison(folder).runs[cell]
    scores = json.loads((path / "bleu.json").read_text())["test"]["test2016"]
    assert run.measures == {
        "bleu/test2016": scores["bleu"]["value"],
        "chrf/test2016": scores["chrf"]["value"],
        "paper_bleu/test2016": scores["paper_bleu"]["value"],
        "validation_loss": 2.2,
        "file_megabytes": 2.5,
        "steps": 20,
        "seconds_per_step": 1.5,
    }
    assert [step for step, _ in run.losses] == [5, 10, 15, 20]
    assert [loss for _, loss in run.losses] == pytest.approx([4.0, 2.7, 2.2, 2.4])
    assert run.flops == []
    assert run.signatures["bleu"] == scores["bleu"]["signature"]
    assert "its model was not measured" in run.reason
    assert len(run.translations("test2016")) == 120


def test_the_lowest_loss_is_one_at_the_final_density(folder) -> None:
    """The density falls until step 15; a loss from before belongs to a denser model."""
    (cell,) = write_comparison(folder, ["chts"], seeds=[1])
    path = write_done(folder, cell)
    recipe = yaml.safe_load((path / "recipe.yaml").read_text())
    recipe["sparsity"] = {"method": "chtss", "update_interval": 5, "stop_fraction": 0.75}
    (path / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    losses = {10: 1.0, 15: 2.0, 20: 2.2}
    rows = [json.dumps({"step": step, "eval_loss": loss}) + "\n" for step, loss in losses.items()]
    (path / "metrics.jsonl").write_text("".join(rows))
    run = read_comparison(folder).runs[cell]
    assert run.measures["validation_loss"] == 2.0
    assert run.losses == list(losses.items())


def test_a_loss_that_is_not_finite_is_none(folder) -> None:
    (cell,) = write_comparison(folder, ["dense"], seeds=[1])
    path = write_done(folder, cell)
    (path / "metrics.jsonl").write_text('{"step": 5, "eval_loss": Infinity}\n')
    run = read_comparison(folder).runs[cell]
    assert run.losses == []
    assert "validation_loss" not in run.measures


def test_rows_begin_with_what_is_not_sparse(folder) -> None:
    write_comparison(folder, ["chts", "rigl", "dense"], sparsities=(0.95, 0.9), seeds=(2, 1))
    comparison = read_comparison(folder)
    assert comparison.rows == [
        ("dense", 0.0), ("chts", 0.9), ("rigl", 0.9), ("chts", 0.95), ("rigl", 0.95),
    ]  # fmt: skip
    assert [run.cell.seed for run in comparison.of("dense", 0.0)] == [1, 2]


def test_a_folder_without_comparison_is_refused(tmp_path) -> None:
    with pytest.raises(ValueError, match=r"holds no comparison \(comparison.json is missing\)"):
        read_comparison(tmp_path)
    with pytest.raises(ValueError, match="holds no comparison"):
        read_comparison(tmp_path / "nowhere")


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"recipe": {}, "cells": []}'])
def test_a_damaged_record_is_refused(tmp_path, text) -> None:
    (tmp_path / "comparison.json").write_text(text)
    with pytest.raises(ValueError, match=r"comparison\.json is damaged \(.*\): put it back"):
        read_comparison(tmp_path)


def test_a_damaged_cell_is_refused(folder) -> None:
    write_comparison(folder, ["dense"])
    record = json.loads((folder / "comparison.json").read_text())
    record["cells"][0]["colour"] = "red"
    (folder / "comparison.json").write_text(json.dumps(record))
    with pytest.raises(ValueError, match="is damaged"):
        read_comparison(folder)


@pytest.mark.parametrize(
    ("text", "lines"), [("a\n\nb\n", ["a", "", "b"]), ("a\nb", ["a", "b"]), ("", [])]
)
def test_the_last_translation_counts_with_or_without_its_line_feed(tmp_path, text, lines) -> None:
    (tmp_path / "translations").mkdir()
    (tmp_path / "translations" / "t.txt").write_text(text)
    assert RunResult(Cell("dense", 0.0, 1), tmp_path, "done").translations("t") == lines


def test_a_machine_names_each_of_its_runs_once(folder) -> None:
    """A run that was resumed elsewhere and back, and with another version of a package."""
    moved, whole = write_comparison(folder, ["dense", "chts"], seeds=[1])
    write_done(folder, whole)
    parts = [MACHINE, MACHINE | {"processor": "Slide rule"}, MACHINE | {"python": "3.14"}]
    record = parts[2] | {"earlier": parts[:2]}
    (write_done(folder, moved) / "environment.json").write_text(json.dumps(record))
    summarise(folder, baseline="dense")
    notes = json.loads((folder / "results.json").read_text(encoding="utf-8"))["notes"]
    assert [note.partition(",")[0] for note in notes if "Slide" in note] == [
        "machine of dense-1: Slide rule"
    ]
    (shared,) = [note for note in notes if "Abacus" in note]
    assert shared.startswith("machine of dense-1, chts-0.9-1: Abacus")
