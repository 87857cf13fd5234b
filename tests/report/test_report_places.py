"""Where a report is written, and that a place which takes no files is told before the work."""

from pathlib import Path

import pytest
from run_files import write_dense_run, write_run

from hf_chts.report import write_report

READ_ONLY = Path("/proc")  # for everybody


@pytest.mark.parametrize("place", ["output", "figures", "graphml"])
@pytest.mark.parametrize("under", ["a file", "a folder that takes no files"])
def test_places_that_take_no_files_are_told_before_the_work(tmp_path, monkeypatch, place, under):
    if under != "a file" and not READ_ONLY.is_dir():
        pytest.skip("needs Linux's /proc")
    run = write_run(tmp_path / "one")
    monkeypatch.setattr("hf_chts.report.write._content", None)  # the work
    parent = run / "recipe.yaml" if under == "a file" else READ_ONLY
    places = {"figures": tmp_path / "figures", place: parent / "new"}
    with pytest.raises(OSError, match=r"recipe\.yaml|/proc"):
        write_report(run, **places)
    assert not list(tmp_path.glob("figures/*"))
    assert not (run / "report.html").exists()


def test_names_in_any_script_are_kept(tmp_path):
    run = write_dense_run(tmp_path / "Läufe 一" / "übersetzer ☃")
    path = write_report(run, output=tmp_path / "отчёт" / "seite é.html", figures=tmp_path / "図")
    assert "<h1>übersetzer ☃</h1>" in path.read_text(encoding="utf-8")
    assert (tmp_path / "図" / "training-loss.png").stat().st_size > 0


def test_a_page_that_cannot_be_finished_leaves_the_one_that_was_there(tmp_path, monkeypatch):
    run = write_dense_run(tmp_path / "run")
    path = write_report(run)
    before = path.read_bytes()
    monkeypatch.setattr("hf_chts.report.write.render", lambda _: "half a page \ud800")
    with pytest.raises(UnicodeEncodeError):
        write_report(run)
    assert path.read_bytes() == before
