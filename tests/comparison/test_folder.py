"""The folder of a comparison and who may use it; where its runs run."""

from __future__ import annotations

import json

import pytest

from hf_chts.comparison.folder import ComparisonFolder
from hf_chts.comparison.grid import Cell
from hf_chts.comparison.jobs import environment, least_used

CHTS = Cell("chts", 0.7, 1)


@pytest.mark.parametrize(
    ("status", "outcome"), [(3, "diverged"), (2, "failed"), (1, "failed"), (-9, "failed")]
)
def test_what_diverged_and_what_failed(tmp_path, status, outcome) -> None:
    folder = ComparisonFolder(tmp_path)
    assert folder.fail(CHTS, "the loss is nan", status) == outcome
    failure = json.loads(folder.failure(CHTS).read_text())
    assert failure == {"outcome": outcome, "error": "the loss is nan", "exit_status": status}


@pytest.mark.parametrize(
    ("busy", "free"),
    [([], "2"), (["2"], "5"), (["2", "5"], "2"), (["5", "2", "5"], "2"), (["5", "5"], "2")],
)
def test_runs_are_shared_out_over_gpus(busy, free) -> None:
    assert least_used(["2", "5"], busy) == free
    assert least_used([], []) is None


def test_a_run_sees_its_gpu_alone(monkeypatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    assert environment("5", 3)["CUDA_VISIBLE_DEVICES"] == "5"
    assert environment("5", 3)["OMP_NUM_THREADS"] == "3"
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    assert environment(None, 3)["CUDA_VISIBLE_DEVICES"] == ""
    assert environment(None, 3)["OMP_NUM_THREADS"] == "1"


def test_one_command_at_a_time(tmp_path) -> None:
    with ComparisonFolder(tmp_path / "out").lock():
        assert "another hf-chts compare is at work in" in refused_at(tmp_path / "out")
    (tmp_path / "out" / ".unfinished").mkdir()  # of a command that was killed at once
    with ComparisonFolder(tmp_path / "out").lock():  # a lock alone is as good as nothing
        pass


def test_folders_with_other_files(tmp_path) -> None:
    (tmp_path / "thesis.tex").touch()
    for path in (tmp_path, tmp_path / "thesis.tex"):
        assert "holds other files and no comparison" in refused_at(path)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def refused_at(path) -> str:
    with pytest.raises(ValueError, match=str(path)) as refused, ComparisonFolder(path).lock():
        pass
    return str(refused.value)


@pytest.mark.parametrize("text", ["{", "[]", "{}", "null"])
def test_a_damaged_record(tmp_path, text) -> None:
    (tmp_path / "comparison.json").write_text(text)
    with pytest.raises(ValueError, match=r"comparison.json is damaged: put it back"):
        ComparisonFolder(tmp_path).cells()
