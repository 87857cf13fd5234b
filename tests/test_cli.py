from __future__ import annotations

import io
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from hf_chts import cli
from hf_chts.methods import METHODS
from hf_chts.rules.initial import initial
from hf_chts.rules.regrowth import regrowth
from hf_chts.rules.removal import removal
from hf_chts.translation import run
from hf_chts.translation.corpus import sentence_pairs

ROOT = Path(__file__).resolve().parents[1]
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "COLUMNS": "200"}
RECIPE = """
data:
  train: {files: [x.en, x.de]}
  validation: {files: [x.en, x.de], max_pairs: 10}
  test: {t: {files: [x.en, x.de], max_pairs: 4}}
  max_length: 64
tokenizer: {vocab_size: 200}
model:
  config: {d_model: 16, encoder_layers: 1, decoder_layers: 1, encoder_attention_heads: 2,
    decoder_attention_heads: 2, encoder_ffn_dim: 24, decoder_ffn_dim: 24,
    max_position_embeddings: 64}
training: {max_steps: 4, batch_tokens: 400, evaluate_every: 2, warmup_steps: 2}
sparsity: {method: chts, sparsity: 0.7, update_interval: 2}
evaluation: {beams: 1}
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cli")
    pairs = sentence_pairs(120)
    for side, language in enumerate(("en", "de")):
        # square brackets are markup to the library that draws the tables
        text = "".join(f"[/{side}] " * (i == 1) + pair[side] + "\n" for i, pair in enumerate(pairs))
        (folder / f"x.{language}").write_text(text, encoding="utf-8")
    (folder / "recipe.yaml").write_text(RECIPE)
    return folder


@pytest.fixture
def command(monkeypatch, capfd):
    """Run the command line in this process; exit status, output, errors."""

    def run(*arguments: object, stdin: bytes = b"") -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["hf-chts", *map(str, arguments)])
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin)))
        monkeypatch.setenv("COLUMNS", "200")
        capfd.readouterr()
        with pytest.raises(SystemExit) as stopped:
            cli.main()
        status = stopped.value.code or 0
        return int(status), *capfd.readouterr()

    return run


@pytest.fixture(scope="module")
def trained(folder):
    """A finished run."""
    done = subprocess.run(
        [sys.executable, "-m", "hf_chts", "train", "recipe.yaml", "training.seed=3", "-o", "run"],
        cwd=folder, env=ENVIRONMENT, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return folder / "run", done.stdout, done.stderr


def test_train_shows_scores_sizes_and_examples(trained) -> None:
    path, output, errors = trained
    assert "120 of 120 pairs kept" in output
    assert "model.decoder.layers.*.fc1" in output
    assert "[/0]" in output  # shown as it is, not taken for markup
    for title in ("First test sentences", "Sizes", "Scores", "What to try next"):
        assert title in output
    assert re.search(r"BLEU on t: \d+\.\d\d \(nrefs:1\|.*version:", output)
    assert "optimizer state (Adam)" in output
    assert "step      4 of 4: validation loss" in " ".join(errors.split("\n"))
    assert "Traceback" not in errors
    assert "seed: 3" in (path / "recipe.yaml").read_text()
    bleu = json.loads((path / "bleu.json").read_text())["test"]["t"]["bleu"]
    assert f"BLEU on t: {bleu['value']:.2f} ({bleu['signature']})" in output
    record = json.loads((path / "environment.json").read_text())
    assert record["command"] == "hf-chts train recipe.yaml training.seed=3 -o run"


def test_train_again(trained, folder, command, monkeypatch) -> None:
    _, output, _ = trained
    monkeypatch.chdir(folder)
    fail(command("train", "recipe.yaml", "-o", "run"), "holds a run already: use --resume")
    fail(
        command("train", "recipe.yaml", "training.clip=3", "-o", "run", "--resume"),
        r"differs .* in training\.(clip|seed), training\.(clip|seed)",
    )
    status, again, _ = command("train", "recipe.yaml", "training.seed=3", "-o", "run", "--resume")
    assert status == 0
    shown = re.search(r"BLEU on t: .*version:\S+\)", output)
    assert shown is not None
    assert shown[0] in again


def test_translate_keeps_lines(trained, command, tmp_path) -> None:
    path, *_ = trained
    text = "The dog sleeps .\n\n   \nA woman sees\r the big house .\r\nThe dog sleeps ."
    status, output, _ = command("translate", path, "--beams", 1, stdin=text.encode())
    assert status == 0
    rows = output.split("\n")
    assert len(rows) == 6
    assert rows[1] == rows[2] == rows[5] == ""
    assert rows[0] == rows[4]
    (tmp_path / "in.txt").write_text(text, newline="")
    target = tmp_path / "out.txt"
    status, printed, _ = command(
        "translate", path / "model", tmp_path / "in.txt", "-o", target, "--beams", 1
    )
    assert (status, printed) == (0, "")
    assert target.read_text() == output
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.txt", "out.txt"]


@pytest.mark.parametrize(("name", "message"), [("no/x.txt", "no is no folder"), (".", "no file")])
def test_translate_tells_at_once_where_it_cannot_write(
    trained, command, tmp_path, monkeypatch, name, message
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(run, "translate_stream", lambda *_: pytest.fail("it has begun"))
    fail(command("translate", trained[0], "-o", name, stdin=b"A dog.\n"), message)
    assert list(tmp_path.iterdir()) == []


def test_standard_input_without_text(trained, command) -> None:
    fail(command("translate", trained[0], stdin=b""), "standard input is empty")
    spoiled = command("translate", trained[0], stdin=b"ok\n\xff\n")
    fail(spoiled, "standard input: not UTF-8 at byte 3, line 2")
    closed = "exec 0<&-; exec " + shlex.join([sys.executable, "-m", "hf_chts", "translate", "run"])
    done = subprocess.run(
        ["sh", "-c", closed], cwd=trained[0].parent, env=ENVIRONMENT, capture_output=True, text=True
    )  # fmt: skip
    fail((done.returncode, done.stdout, done.stderr), "standard input is closed: give a file")


def test_evaluate(trained, folder, command) -> None:
    path, output, _ = trained
    for name in ("en", "de"):
        part = (folder / f"x.{name}").read_text().split("\n")[:4]
        (folder / f"part.{name}").write_text("\n".join(part))
    status, scores, _ = command(
        "evaluate", path, folder / "part.en", folder / "part.de", "--beams", 1
    )
    assert status == 0
    values = re.findall(r"│ (?:BLEU|chrF|TER) +│ +([\d.]+) │", scores)
    assert len(values) == 3
    assert values == re.findall(r"│ (?:BLEU|chrF|TER) +│ +([\d.]+) │", output)
    assert "signature" in scores


def test_scores_and_translations_as_the_recipe_of_the_run_says(
    trained, folder, command, tmp_path
) -> None:
    shutil.copytree(trained[0], tmp_path / "run")
    recipe = tmp_path / "run" / "recipe.yaml"
    text = recipe.read_text().replace("target_lang: de", "target_lang: zh")
    recipe.write_text(text.replace("beams: 1", "beams: 3").replace("penalty: 1.0", "penalty: -9.0"))
    (tmp_path / "x").write_text("\n".join((folder / "x.en").read_text().split("\n")[:30]))
    text = ("evaluate", tmp_path / "run", tmp_path / "x", tmp_path / "x")
    scores = command(*text)[1]
    assert "tok:zh" in scores
    assert scores == command(*text, "--beams", 3, "--length-penalty", -9, "--target-lang", "zh")[1]
    assert scores != command(*text, "--beams", 1)[1]
    assert scores != command(*text, "--length-penalty", 0)[1]
    assert "tok:13a" in command(*text, "--target-lang", "de")[1]
    assert scores == command("evaluate", tmp_path / "run" / "model", *text[2:])[1]
    shutil.copytree(tmp_path / "run" / "model", tmp_path / "copy")
    assert "tok:13a" in command("evaluate", tmp_path / "copy", *text[2:])[1]
    text = ("translate", tmp_path / "run", tmp_path / "x")
    assert command(*text)[1] == command(*text, "--beams", 3, "--length-penalty", -9)[1]
    assert command(*text)[1] != command(*text, "--beams", 1)[1]


def test_inspect(trained, folder, command) -> None:
    status, report, _ = command("inspect", folder / "recipe.yaml", "sparsity.sparsity=0.5")
    assert status == 0
    assert re.search(r"decoder\.layers\.\*\.fc1 .* 192 +0\.5000 +sparse", report)
    assert "lm_head" in report
    status, report, _ = command("inspect", trained[0])
    assert status == 0
    assert re.search(r"decoder\.layers\.\*\.fc1 .* 115 +0\.2995 +sparse", report)


def test_methods(command) -> None:
    status, table, _ = command("methods")
    assert status == 0
    for name in (*METHODS, *initial, *removal, *regrowth):
        assert re.search(rf"│ {name} +│", table), name


@pytest.mark.parametrize(
    "name", ["train", "evaluate", "translate", "inspect", "report", "compare", "methods"]
)
def test_help(name, command) -> None:
    status, text, errors = command(name, "--help")
    assert status == 0
    assert f"hf-chts {name}" in text
    assert not errors
    assert name in command("--help")[1]


def fail(result, message) -> None:
    """An error of the user's: one line on standard error, status 2, no traceback."""
    status, output, errors = result
    assert status == 2, errors
    assert re.search(message, errors), errors
    assert errors.startswith("hf-chts: ")
    assert errors.count("\n") == 1, errors
    assert "Traceback" not in errors + output


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["train", "recipe.yaml", "trainng.seed=1"], "did you mean training"),
        (["train", "recipe.yaml", "training.max_step=1"], "did you mean training.max_steps"),
        (["train", "recipe.yaml", "training.seed"], "is no override"),
        (["train", "absent.yaml"], "no recipe absent.yaml: give the path of a YAML file"),
        (["train", "recipe.yaml", "data.train.files=[a.en, a.de]"], "a.en: no such file"),
        (["train", "recipe.yaml", "data.train.files=[x.en, y.de]"], "120 lines but .*y.de has 1"),
        (["train", "recipe.yaml", "sparsity.exclude=['.*']"], "nothing to patch"),
        (["train", "recipe.yaml", "sparsity.include=[fc3]"], "'fc3' matches no linear layer"),
        (["train", "recipe.yaml", "sparsity.method=chtz"], "did you mean 'cht'"),
        (["train", "recipe.yaml", "sparsity.sparsity=1"], r"must lie in \[0, 1\); got 1"),
        (["train", "recipe.yaml", "sparsity.removal=size"], "no removal rule 'size'"),
        (["train", "recipe.yaml", "model.family=marain"], "model.family 'marain'"),
        (
            ["train", "recipe.yaml", "model.family=llama", "model.config={}"],
            "model.family 'llama': Unrecognized configuration class",
        ),
        (["train", "recipe.yaml", "model.config.d_model=big"], "'d_model' expected int"),
        (["train", "recipe.yaml", "--resume"], "holds no run to resume"),
        (["train", "recipe.yaml", "-o", "other"], r"holds other files \(thesis.tex\)"),
        (["train", "recipe.yaml", "-o", "other", "--overwrite"], "holds other files"),
        (["train", "recipe.yaml", "-o", "x.en/new"], "x.en is a file: give a folder for the run"),
        (["train", "recipe.yaml", "--resume", "--overwrite"], "is either gone on with or replaced"),
        (
            ["train", "recipe.yaml", "model.pretrained=no/such/model"],
            "no folder no/such/model, and",
        ),
        (["inspect", "no/such/model"], "there is no folder no/such/model, and from the hub: "),
        (["inspect", "recipe.yaml", "sparsity.exclude=['.*']"], "nothing to patch"),
        (["inspect", "recipe.yaml", "modle.family=t5"], "did you mean model"),
        (["evaluate", "other"], "give either two files or --corpus"),
        (["evaluate", "other", "x.en", "x.de", "--corpus"], "give either two files or --corpus"),
        (["evaluate", "other", "x.en"], "files takes two names"),
        (["evaluate", "other", "x.en", "x.de"], "other holds no model: give the folder"),
        (["evaluate", "nowhere", "--corpus"], "there is no folder nowhere"),
        (["evaluate", "nowhere", "--corpus", "--target-lang", "ja"], r"pip install .*sacrebleu.ja"),
        (["translate", "other", "x.en"], "other holds no model"),
        (["translate", "nowhere", "x.en"], "there is no folder nowhere"),
        (["translate", "other", "absent.txt"], "absent.txt: no such file"),
    ],
)
def test_errors_are_one_line(folder, command, monkeypatch, arguments, message) -> None:
    (folder / "y.de").write_text("one\n")
    (folder / "other").mkdir(exist_ok=True)
    (folder / "other" / "thesis.tex").touch()
    monkeypatch.chdir(folder)
    if arguments[0] == "train" and "-o" not in arguments:
        arguments = [*arguments, "-o", "new"]
    fail(command(*arguments), message)
    assert not (folder / "new").exists()
    assert [path.name for path in (folder / "other").iterdir()] == ["thesis.tex"]


def test_checkpoints_are_counted_from_1(folder, command) -> None:
    status, _, errors = command(
        "train", folder / "recipe.yaml", "-o", folder / "new", "--resume-from", -1
    )
    assert status == 2
    assert "Invalid value for '--resume-from'" in errors


def test_no_traceback_from_the_real_program(folder) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "hf_chts", "train", "recipe.yaml", "model.famly=t5", "-o", "new"],
        cwd=folder, env=ENVIRONMENT, capture_output=True, text=True,
    )  # fmt: skip
    fail((done.returncode, done.stdout, done.stderr), r"did you mean model\.family\?")
