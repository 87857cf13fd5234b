"""The figure of the converged runs, from tables by hand."""

from __future__ import annotations

import runpy
from pathlib import Path

import matplotlib.image
import pytest

from hf_chts.comparison.rows import Estimate

SCRIPT = Path(__file__).parent.parent / "scripts" / "plot_converged.py"
HEADS = "row,seed,validation_loss,test2016_bleu,test2017_bleu\n"
MEASURES = ("validation_loss", "test2016_bleu", "test2017_bleu")
MEANS = ",".join(["row,seeds", *(f"{name},{name}_se" for name in MEASURES)]) + "\n"


@pytest.fixture
def folder(tmp_path):
    runs = "set,1,1.5,30,20\nset,2,1.7,31,23\nchts,1,1.2,33,24\ndense,1,1.4,35,26\n"
    (tmp_path / "converged.csv").write_text(HEADS + runs)
    (tmp_path / "converged_means.csv").write_text(MEANS + "chts,3,1.3,0.1,34,0.5,25,0.25\n")
    return tmp_path


def test_means_of_runs_and_means_that_are_given(folder) -> None:
    found = runpy.run_path(str(SCRIPT))["rows"](folder)
    assert list(found) == ["set", "dense", "chts"]  # the lowest loss last, so on top
    assert found["chts"]["validation_loss"] == ([], Estimate(1.3, 0.1, 3))
    assert found["dense"]["test2017_bleu"] == ([26.0], Estimate(26.0, None, 1))
    assert found["set"]["test2017_bleu"] == ([20.0, 23.0], Estimate(21.5, pytest.approx(1.5), 2))


def test_every_row_is_a_line_of_the_figure(folder) -> None:
    script = runpy.run_path(str(SCRIPT))
    figure = script["figure_of"](script["rows"](folder))
    loss, *others = figure.axes
    assert [label.get_text() for label in loss.get_yticklabels()] == ["set", "dense", "chts"]
    assert len(others) == 2
    figure.savefig(folder / "figure.png")
    assert matplotlib.image.imread(folder / "figure.png").std() > 0.05
