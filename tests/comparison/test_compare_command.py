"""What the command refuses, before anything is written."""

from __future__ import annotations

import json
import re
import resource
import sys

import pytest
from tiny_comparisons import write_recipe

from hf_chts import cli
from hf_chts.comparison import command
from hf_chts.comparison.folder import ComparisonFolder


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("command")
    write_recipe(folder)
    (folder / "typo.yaml").write_text("set: {training: {learning_rat: 3}}")
    (folder / "sparse.yaml").write_text("mine: {sparsity: {method: set, sparsity: 0.3}}")
    return folder


@pytest.fixture
def compare(folder, monkeypatch, capfd):
    """Run the command line in this process; exit status, output, errors."""

    def run(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.chdir(folder)
        monkeypatch.setattr(sys, "argv", ["hf-chts", "compare", *map(str, arguments)])
        monkeypatch.setenv("COLUMNS", "200")
        with pytest.raises(SystemExit) as stopped:
            cli.main()
        return int(stopped.value.code or 0), *capfd.readouterr()

    return run


def test_help(compare, monkeypatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    status, text, errors = compare("--help")
    assert (status, errors) == (0, "")
    options = ("methods", "sparsity", "seeds", "jobs", "settings", "minutes", "baseline", "output")
    for option in options:
        assert f"--{option}" in text
    # lines of the source are joined, and not broken a second time by the width of the terminal
    assert "narrow-dense (dense, with as many weights as the sparse model)" in text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--methods", "set,chtz"], "no method 'chtz': did you mean 'cht'"),
        (["--methods", ""], "no method ''"),
        (["--methods", "set", "--sparsity", "0.9,x"], "--sparsity takes numbers.*got '0.9,x'"),
        (["--methods", "set", "--sparsity", "1.5"], r"sparsity must lie in \[0, 1\); got 1.5"),
        (["--methods", "set", "--sparsity", "nan"], r"sparsity must lie in \[0, 1\); got nan"),
        (["--methods", "set", "--seeds", "1.5"], "--seeds takes integers.*got '1.5'"),
        (["--methods", "set", "--seeds", "-1"], "seed must be at least 0; got -1"),
        (["--methods", "set", "--settings", "absent.yaml"], "no settings absent.yaml"),
        (
            ["--methods", "dense", "--settings", "typo.yaml"],
            "row set: unknown key training.learning_rat: did you mean training.learning_rate",
        ),
        (["--methods", "mine", "--settings", "sparse.yaml"], "row mine sets sparsity.sparsity"),
        (["--methods", "set", "--baseline", "dense"], "--baseline takes .* got 'dense': they are"),
        (["--methods", "set,chts", "--baseline", "sett"], "did you mean 'set'"),
        (["--methods", "set", "sparsity.regrowth=random"], "the recipe sets sparsity.regrowth"),
        (["--methods", "set", "data.train.files=[a.en, a.de]"], "a.en: no such file"),
        (["--methods", "set", "data.test.first.files=[a.en, a.de]"], "a.en: no such file"),
        (["--methods", "set", "data.target_lang=ko"], "scoring 'ko' takes sacreBLEU's tokenizer"),
        (["--methods", "set", "sparsity.include=[fc3]"], "row set: pattern 'fc3' matches no"),
        (
            ["--methods", "narrow-dense", "model.family=prophetnet", "model.config={}"],
            "row narrow-dense: narrow-dense: the sizes of model.family 'prophetnet'",
        ),
    ],
)
def test_errors_are_one_line(compare, folder, arguments, message) -> None:
    status, output, errors = compare("recipe.yaml", "-o", "new", *arguments)
    assert (status, output) == (2, "")
    assert re.search(message, errors), errors
    assert errors.startswith("hf-chts: ")
    assert errors.count("\n") == 1, errors
    assert not (folder / "new").exists()


def test_rows_that_cannot_be_made_do_not_matter_where_nobody_asks_for_them(compare, folder) -> None:
    """As narrow models and tied links, where a comparison starts from a pretrained model."""
    rows = {
        "narrow-dense": {"sparsity": {"learning_rate_scale": 0.5}},
        "kept": {"sparsity": {"method": "set_tied", "weight_init": "keep"}},
    }
    (folder / "others.yaml").write_text(json.dumps(rows))
    arguments = ["recipe.yaml", "--settings", "others.yaml", "model.family=prophetnet"]
    arguments += ["model.config={}", "--seeds", "1", "--minutes", "0"]
    status, output, errors = compare(*arguments, "-o", "wide", "--methods", "set")
    assert (status, errors) == (0, "")
    assert output == "0 of 1 runs done; the same command goes on with the others\n"
    for row in rows:
        status, _, errors = compare(*arguments, "-o", "asked", "--methods", row)
        assert (status, errors.count(f"row {row}: ")) == (2, 1)


def test_a_place_that_cannot_be_is_the_users_to_mend(compare) -> None:
    status, _, errors = compare("recipe.yaml", "-o", "recipe.yaml/new", "--methods", "set")
    assert status == 2
    assert "recipe.yaml/new" in errors


def test_no_time_at_all(compare, folder) -> None:
    """What is asked for is on record before the first run."""
    arguments = ["recipe.yaml", "-o", "planned", "--methods", "chts,dense", "--minutes", "0"]
    status, output, errors = compare(*arguments, "--seeds", "2")
    assert (status, errors) == (0, "")
    assert output == "0 of 2 runs done; the same command goes on with the others\n"
    assert compare(*arguments, "--seeds", "3,2", "--sparsity", "0.9,0.5")[0] == 0
    cells = [cell.name for cell in ComparisonFolder(folder / "planned").cells()]
    assert cells == [
        *("chts-0.9-2", "dense-2"),
        *("chts-0.9-3", "chts-0.5-3", "dense-3", "chts-0.5-2"),
    ]
    record = json.loads((folder / "planned" / "comparison.json").read_text())
    assert [command.split("--minutes 0 ")[1] for command in record["commands"]] == [
        "--seeds 2", "--seeds 3,2 --sparsity 0.9,0.5"
    ]  # fmt: skip


def test_a_run_that_met_a_full_disk_is_told_by_the_status(compare, folder) -> None:
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (30_000, limits[1]))  # bytes; checkpoints have more
    try:
        status, output, errors = compare(
            *("recipe.yaml", "-o", "full", "--methods", "static", "--seeds", "1")
        )
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert status == 1
    assert output == "0 of 1 runs done; the same command goes on with the others\n"
    assert "static-0.9-1: stopped" in errors


def test_a_row_keeps_its_settings_for_all_its_runs(compare, folder) -> None:
    """Runs of one row by different settings would have no mean."""
    path = folder / "tuned" / "runs" / "set-0.9-1" / "recipe.yaml"
    options = ["recipe.yaml", "-o", "tuned", "--methods", "set", "--minutes", "0", "--seeds"]
    assert compare(*options, "1")[0] == 0
    path.parent.mkdir(parents=True)
    (folder / "changed.yaml").write_text("set: {sparsity: {zeta: 0.1}}")
    from hf_chts.comparison.grid import Cell, recipe_for
    from hf_chts.translation.recipe import load_recipe

    made = recipe_for(load_recipe("recipe.yaml"), Cell("set", 0.9, 1), {})
    path.write_text(made.to_yaml())
    assert compare(*options, "2")[0] == 0
    before = (folder / "tuned" / "comparison.json").read_text()
    status, _, errors = compare(*options, "2", "--settings", "changed.yaml")
    assert status == 2
    assert "set-0.9-1 was made with other settings (sparsity.zeta)" in errors
    assert (folder / "tuned" / "comparison.json").read_text() == before


def test_tables_in_a_file_are_as_wide_as_they_need(monkeypatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    assert command._console().width == 160
    monkeypatch.setenv("COLUMNS", "200")
    assert command._console().width == 200
