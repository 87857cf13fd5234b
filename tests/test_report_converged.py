"""The figure and the table of the converged runs, from tables by hand."""

from __future__ import annotations

import csv
import runpy
from pathlib import Path

import matplotlib.image
import pytest

from hf_chts.comparison.rows import Estimate

HOME = Path(__file__).parent.parent
RECIPE = HOME / "recipes" / "multi30k_en_de"
SCRIPT = runpy.run_path(str(HOME / "scripts" / "report_converged.py"))
MEASURES = ("validation_loss", "test2016_bleu", "test2016_chrf", "test2017_bleu", "test2017_chrf")
NETWORK = ("itop", "active_neurons")
RUNS = [
    ["set", 1, 1.5, 30, 60, 20, 50, 0.6, 1],
    ["set", 2, 1.7, 31, 62, 23, 52, "", ""],
    ["chts", 1, 1.2, 33, 63, 24, 53, 0.4, 0.8],
    ["dense", 1, 1.4, 35, 65, 26, 56, "", ""],
]


def write(path: Path, *lines: list) -> None:
    with path.open("w", newline="") as file:
        csv.writer(file).writerows(lines)


@pytest.fixture
def found(tmp_path):
    write(tmp_path / "runs.csv", ["row", "seed", *MEASURES, *NETWORK], *RUNS)
    means = [column for measure in MEASURES for column in (measure, f"{measure}_se")]
    given = ["chts", 3, 1.3, 0.1, 34, 0.5, 64, 0.5, 25, 0.25, 54, 0.5, 0.5, 0.9]
    write(tmp_path / "means.csv", ["row", "seeds", *means, *NETWORK], given)
    return SCRIPT["rows"](tmp_path)


def test_means_of_runs_and_means_that_are_given(found) -> None:
    assert list(found) == ["set", "dense", "chts"]  # the lowest loss last, so on top
    assert found["chts"]["validation_loss"] == ([], Estimate(1.3, 0.1, 3))
    assert found["dense"]["test2017_bleu"] == ([26.0], Estimate(26.0, None, 1))
    assert found["set"]["test2017_bleu"] == ([20.0, 23.0], Estimate(21.5, pytest.approx(1.5), 2))
    assert found["set"]["itop"] == ([0.6], Estimate(0.6, None, 1))
    assert found["dense"]["itop"] == ([], None)


def test_a_folder_without_runs_is_told(tmp_path) -> None:
    with pytest.raises(SystemExit, match=r"no .*runs\.csv: give the folder"):
        SCRIPT["rows"](tmp_path)


def test_every_row_is_a_line_of_the_figure(found, tmp_path) -> None:
    figure = SCRIPT["figure_of"](found)
    loss, *others = figure.axes
    assert [label.get_text() for label in loss.get_yticklabels()] == ["set", "dense", "chts"]
    assert len(others) == 2
    figure.savefig(tmp_path / "figure.png")
    assert matplotlib.image.imread(tmp_path / "figure.png").std() > 0.05


def test_table(found) -> None:
    heads, _, *lines = (
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in SCRIPT["table_of"](found).splitlines()
    )
    assert all(len(line) == len(heads) for line in lines)
    baseline, dense, moving = lines
    assert baseline[:4] == ["`chts`", "3", "1.300 ± 0.100", "-"]
    assert baseline[4:7] == ["34.00 ± 0.50", "-", "64.00 ± 0.50"]
    assert baseline[7:] == ["25.00 ± 0.25", "-", "54.00 ± 0.50", "0.50", "0.90"]
    assert dense[:6] == ["`dense`", "1", "1.400", "+0.100", "35.00", "+1.00"]
    assert dense[-2:] == ["-", "-"]
    # by hand: 1.6 ± 0.1 less 1.3 ± 0.1, with an error of 0.1 times the root of 2
    assert moving[:4] == ["`set`", "2", "1.600 ± 0.100", "+0.300 ± 0.141"]


def test_the_page_has_the_table_of_its_runs() -> None:
    table = SCRIPT["table_of"](SCRIPT["rows"](RECIPE / "converged"))
    assert table in (RECIPE / "README.md").read_text(encoding="utf-8"), (
        "runs have changed: put what scripts/report_converged.py prints into the page"
    )
