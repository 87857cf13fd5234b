"""The table, from runs that were written by hand."""

import csv
import io
import json
import math
import re

import pytest
from made_up_comparison import write_begun, write_comparison, write_done, write_failed
from made_up_rows import made_up_rows
from rich.console import Console

from hf_chts.comparison import paper
from hf_chts.comparison.results import read_comparison
from hf_chts.comparison.rows import Estimate, Findings, Row, findings
from hf_chts.comparison.summary import summarise
from hf_chts.comparison.table import Section, comma_separated, markdown, sections, terminal
from hf_chts.translation.recipe import load_recipe


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Dense and RigL whole, CHTs with one seed of three, SET with none."""
    folder = tmp_path_factory.mktemp("table") / "compared"
    methods = ["dense", "set", "rigl", "chts"]
    commands = ["hf-chts compare a|b.yaml"]
    settings = {"chts": {"sparsity": {"zeta": 0.2}, "training": {"learning_rate": 0.01}}}
    grid = write_comparison(folder, methods, commands=commands, settings=settings)
    for cell in grid:
        if cell.method in ("dense", "rigl") or cell.name == "chts-0.9-2":
            write_done(folder, cell, bleu={1: 30.0, 2: 31.0, 3: 35.0}[cell.seed])
        elif cell.name == "chts-0.9-1":
            write_failed(folder, cell, "diverged", "step 7: the loss is nan")
        elif cell.name == "chts-0.9-3":
            write_begun(folder, cell, 300)
    return folder


@pytest.fixture(scope="module")
def shown(folder):
    """What the terminal shows."""
    console = Console(width=250, record=True, file=io.StringIO())
    console.print(summarise(folder, baseline="dense"))
    return console.export_text()


@pytest.fixture(scope="module")
def lines(folder, shown):
    return (folder / "table.md").read_text(encoding="utf-8").splitlines()


def tables(lines):
    """Cells of the Markdown tables, by their headings."""
    found, title = {}, ""
    for line in lines:
        if line.startswith("## "):
            title = line[3:]
        elif line.startswith("|"):
            inner = re.split(r"(?<!\\)\|", line)[1:-1]
            found.setdefault(title, []).append([cell.strip() for cell in inner])
    return found


def test_mean_and_standard_error_by_hand() -> None:
    value = Estimate.of([30.0, 31.0, 35.0])
    assert value.mean == 32.0
    assert value.standard_error == pytest.approx(math.sqrt((4 + 1 + 9) / 2) / math.sqrt(3))
    assert Estimate.of([7.0]) == Estimate(7.0, None, 1)


def test_markdown_has_equal_columns(lines) -> None:
    found = tables(lines)
    assert list(found) == ["test2016", "Loss and topology", "Size and cost"]
    for rows in found.values():
        assert len({len(row) for row in rows}) == 1
        assert len(rows) == 2 + 4
        assert set(rows[1]) <= {"---", "---:"}


def test_rows_of_the_test_set(lines) -> None:
    head, _, dense, set_, rigl, chts = tables(lines)["test2016"]
    assert head[:6] == ["method", "sparsity", "seeds", "BLEU", "- dense", "p"]
    assert dense[:6] == ["dense", "-", "3 of 3", "32.00 ± 1.53", "-", "-"]
    assert set_[:6] == ["set", "90%", "0 of 3, 3 missing", "-", "-", "-"]
    assert rigl[:5] == ["rigl", "90%", "3 of 3", "32.00 ± 1.53", "+0.00 ± 0.00"]
    assert 0 < float(rigl[5]) <= 1
    assert chts[:5] == ["chts", "90%", "1 of 3, 1 diverged, 1 unfinished", "31.00", "+0.00"]


def test_each_score_has_its_own_p_value() -> None:
    row = Row("set", 0.9, [], {}, {}, {"bleu/t": 0.25, "chrf/t": 0.5}, None)
    found = Findings([row], "dense", None, {}, [])
    scores = sections(found, ["t"])[0]
    shown = dict(zip(scores.head, scores.body[0], strict=True))
    assert (shown["p"], shown["p of chrF"]) == ("0.250", "0.500")
    (written,) = csv.DictReader(io.StringIO(comma_separated(found, ["t"])))
    assert (written["p_value/bleu/t"], written["p_value/chrf/t"]) == ("0.25", "0.5")


def test_costs(lines) -> None:
    found = tables(lines)
    loss, cost = found["Loss and topology"], found["Size and cost"]
    assert loss[2] == ["dense", "-", "2.200 ± 0.058", "-", "-", "-", "-"]  # its model was deleted
    assert cost[2] == ["dense", "-", "-", "2.50", "-", "-", "1.50"]
    assert set(loss[3][2:] + cost[3][2:]) == {"-"}
    assert cost[0][4:] == ["GFLOP a training step", "MFLOP a translated token", "seconds a step"]


@pytest.mark.parametrize(
    "note",
    [
        "chts-0.9-1 is diverged: step 7: the loss is nan",
        "chts-0.9-3 is unfinished: it has come to step 300",
        "not begun: set-0.9-1, set-0.9-2, set-0.9-3",
        "its model was not measured",
        "BLEU: `nrefs:1|case:mixed|",
        "chrF: `nrefs:1|case:mixed|",
        "BLEU lower-cased: `nrefs:1|case:lc|",
        "paired bootstrap: `nrefs:1|bs:1000|seed:12345|",
        "machine: Abacus, cores 2, threads 1, torch 2.13",
        "command: `hf-chts compare a|b.yaml`",
        "settings of chts: `sparsity.zeta=0.2`, `training.learning_rate=0.01`",
    ],
)
def test_notes_stand_below(lines, shown, note) -> None:
    assert any(note in line for line in lines if line.startswith("- "))
    assert note in shown


def test_the_terminal_shows_all_rows(shown) -> None:
    for text in ("test2016", "Size and cost", "32.00 ± 1.53", "0 of 3, 3 missing"):
        assert text in shown


def test_a_narrow_terminal_shortens_no_method_and_no_number() -> None:
    numbers = [f"{n}1.23" for n in range(1, 9)]
    part = Section("Size", ["method", *("a long heading",) * 8], [["chts_normalised", *numbers]])
    console = Console(width=60, record=True, file=io.StringIO())
    console.print(terminal([part], []))
    shown = console.export_text()
    assert "chts_normalised" in shown
    assert "…" not in shown


def test_csv_round_trip(folder, shown) -> None:
    with open(folder / "table.csv", encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    expected = findings(read_comparison(folder), "dense").rows
    assert [(r["method"], float(r["sparsity"])) for r in rows] == [
        (row.method, row.sparsity) for row in expected
    ]
    for found, row in zip(rows, expected, strict=True):
        assert (int(found["seeds_asked"]), int(found["seeds_done"])) == (3, len(row.done))
        for name, value in row.values.items():
            assert float(found[name]) == value.mean
            error = found[f"{name}/standard_error"]
            assert (float(error) if error else None) == value.standard_error
        for name, value in row.differences.items():
            assert float(found[f"{name}/difference"]) == value.mean
        for score in ("bleu/test2016", "chrf/test2016"):
            p = found[f"p_value/{score}"]
            assert (float(p) if p else None) == row.p_values.get(score)
    assert rows[1]["bleu/test2016"] == ""


def test_json_holds_rows_and_runs(folder, shown) -> None:
    data = json.loads((folder / "results.json").read_text(encoding="utf-8"))
    assert data["baseline"] == "dense"
    assert data["rows"][0]["values"]["bleu/test2016"]["mean"] == 32.0
    assert data["rows"][0]["differences"] == {}
    assert data["rows"][2]["differences"]["validation_loss"]["n"] == 3
    runs = {run["name"]: run for run in data["runs"]}
    assert len(runs) == 12
    assert runs["chts-0.9-1"]["state"] == "diverged"
    assert runs["dense-1"]["validation"][0] == {"step": 5, "loss": 4.0, "training_flops": None}
    assert any("not begun" in note for note in data["notes"])


def test_an_unknown_baseline_is_refused(folder) -> None:
    with pytest.raises(ValueError, match=r"'mest' is not compared here: choose one of dense, set,"):
        summarise(folder, baseline="mest")


def p_values(folder, baseline):
    rows = findings(read_comparison(folder), baseline).rows
    return {(row.method, row.sparsity): row.p_values.get("bleu/test2016") for row in rows}


def test_a_sparse_baseline_is_compared_at_its_sparsity(tmp_path) -> None:
    grid = write_comparison(tmp_path / "all", ["dense", "set", "chts"], (0.9, 0.95), seeds=[1])
    for cell in grid:
        write_done(tmp_path / "all", cell)
    found = p_values(tmp_path / "all", "set")
    assert found[("chts", 0.9)] == pytest.approx(1 / 1001)
    assert found[("chts", 0.95)] == pytest.approx(1 / 1001)
    assert found[("set", 0.9)] is None
    assert found[("dense", 0.0)] is None  # at which of the two sparsities?
    found = p_values(tmp_path / "all", "dense")
    assert None not in (found[("set", 0.9)], found[("set", 0.95)], found[("chts", 0.95)])


def test_dense_is_tested_against_a_baseline_of_one_sparsity(tmp_path) -> None:
    for cell in write_comparison(tmp_path / "all", ["dense", "set"], seeds=[1]):
        write_done(tmp_path / "all", cell)
    assert p_values(tmp_path / "all", "set")[("dense", 0.0)] == pytest.approx(1 / 1001)


def test_only_seeds_that_both_have_are_tested(tmp_path) -> None:
    grid = write_comparison(tmp_path / "all", ["dense", "set"], seeds=[1, 2])
    for cell in grid:
        if cell.name in ("dense-1", "set-0.9-2"):
            write_done(tmp_path / "all", cell)
    assert p_values(tmp_path / "all", "dense")[("set", 0.9)] is None


def test_differences_are_between_runs_of_the_same_seed(tmp_path) -> None:
    bleu = {"dense": [30.0, 40.0, 50.0], "set": [29.0, 38.0, 77.0]}
    for cell in write_comparison(tmp_path / "all", ["dense", "set"]):
        if (cell.method, cell.seed) != ("dense", 3):
            write_done(tmp_path / "all", cell, bleu=bleu[cell.method][cell.seed - 1])
    dense, set_ = findings(read_comparison(tmp_path / "all"), "dense").rows
    assert dense.differences == {}
    found = set_.differences["bleu/test2016"]
    assert found == Estimate(-1.5, pytest.approx(0.5), 2)
    assert set_.values["bleu/test2016"].standard_error > 10  # between seeds


def test_references_that_are_gone_are_told(tmp_path) -> None:
    for cell in write_comparison(tmp_path / "all", ["dense", "set"], seeds=[1]):
        write_done(tmp_path / "all", cell)
    (tmp_path / "test.de").unlink()
    found = findings(read_comparison(tmp_path / "all"), "dense")
    assert found.rows[1].p_values == {}
    assert any("no p-values on test2016, for its references are" in gap for gap in found.gaps)


def test_translations_of_another_text_are_told(tmp_path) -> None:
    for cell in write_comparison(tmp_path / "all", ["dense", "set"], seeds=[1]):
        path = write_done(tmp_path / "all", cell)
    (path / "translations" / "test2016.txt").write_text("Ende.\n")
    found = findings(read_comparison(tmp_path / "all"), "dense")
    assert found.rows[1].p_values == {}
    gap = r"no p-value of set-0\.9-1 and its seeds on test2016: .* differ in sentences"
    assert any(re.match(gap, text) for text in found.gaps)


def test_pipes_and_line_breaks_do_not_break_the_table() -> None:
    rows = made_up_rows(methods=("dense",))
    parts = sections(Findings(rows, "a|b\nc", None, {}, []), ["test2016"])
    text = markdown(parts, ["two\nlines"]).splitlines()
    assert len({len(row) for row in tables(text)["test2016"]}) == 1
    assert "- a\\|b c" in text[2]
    assert text[-1] == "- two lines"


def test_an_empty_csv_has_its_head() -> None:
    head = comma_separated(Findings([], "dense", None, {}, []), ["t"])
    p_values = "p_value/bleu/t,p_value/chrf/t"
    assert head == f"method,sparsity,seeds_asked,seeds_done,{p_values},published_bleu\n"


def recipe_with(tmp_path, *overrides):
    files = "{files: [data/Multi30k/train.en, data/Multi30k/train.de]}"
    (tmp_path / "recipe.yaml").write_text(
        f"data: {{train: {files}, validation: {files}, test: {{test2016: {files}}}}}\n"
        "training: {max_steps: 9}\n"
    )
    return load_recipe(tmp_path / "recipe.yaml", overrides)


def test_the_papers_task_is_known_by_languages_corpus_and_test_set(tmp_path) -> None:
    task = paper.paper_task(recipe_with(tmp_path))
    assert (task.name, task.bleu["dense"], task.bleu["chtss"]) == ("Multi30k", 31.38, 32.86)
    assert paper.paper_task(recipe_with(tmp_path, "data.source_lang=fr")) is None
    assert paper.paper_task(recipe_with(tmp_path, "data.train={files: [a.en, a.de]}")) is None
    hub = "data.train={dataset: wmt/wmt17, config: de-en, fields: [en, de]}"
    assert paper.paper_task(recipe_with(tmp_path, hub)) is None  # newstest2017 is not scored
    files = "data.test.newstest2017={files: [a.en, a.de]}"
    assert paper.paper_task(recipe_with(tmp_path, hub, files)).name == "WMT17"


def test_the_papers_numbers_stand_beside_ours_at_its_sparsity(tmp_path) -> None:
    folder = tmp_path / "multi30k" / "compared"
    methods = ["dense", "set", "narrow-dense"]
    for cell in write_comparison(folder, methods, (0.0, 0.9, 0.95), seeds=[1]):
        write_done(folder, cell)
    summarise(folder, baseline="dense")
    text = (folder / "table.md").read_text(encoding="utf-8")
    head, _, *rows = tables(text.splitlines())["test2016"]
    assert head[-1] == "paper's BLEU"
    assert {(row[0], row[1]): row[-1] for row in rows} == {
        ("dense", "-"): "31.38", ("set", "90%"): "29.73", ("narrow-dense", "90%"): "-",
        ("set", "-"): "-", ("narrow-dense", "-"): "-",
        ("set", "95%"): "-", ("narrow-dense", "95%"): "-",
    }  # fmt: skip
    assert "arXiv:2501.19107, Table 2" in text
    assert "compare differences between methods, not levels" in text
