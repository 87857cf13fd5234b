"""The main job on tiny files, from the recipe to the scores."""

from __future__ import annotations

import json
import math
import os
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from topology_logs import untimed
from transformers import AutoModelForSeq2SeqLM, AutoTokenizer, TrainerCallback

import hf_chts
from hf_chts.safe_saving import seal
from hf_chts.translation import run
from hf_chts.translation.corpus import sentence_pairs
from hf_chts.translation.data import DataSource
from hf_chts.translation.recipe import load_recipe
from hf_chts.translation.run_folder import RunFolder
from hf_chts.translation.sections import ModelSection
from hf_chts.translation.training import TranslationTrainer

ROOT = Path(__file__).resolve().parents[2]
RECIPE = """
data:
  train: {files: [train.en, train.de]}
  validation: {files: [valid.en, valid.de]}
  test: {first: {files: [test.en, test.de]}, second: {files: [test.en, test.de], max_pairs: 2}}
  max_length: 48
tokenizer: {vocab_size: 200}
model:
  config: {d_model: 16, encoder_layers: 1, decoder_layers: 1, encoder_attention_heads: 2,
    decoder_attention_heads: 2, encoder_ffn_dim: 24, decoder_ffn_dim: 24, dropout: 0.1,
    max_position_embeddings: 64}
training: {max_steps: 12, batch_tokens: 500, evaluate_every: 3, warmup_steps: 4,
  learning_rate: 1.0e-2}
sparsity: {method: chts, sparsity: 0.7, update_interval: 2, stop_fraction: 0.8}
evaluation: {beams: 2}
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A recipe and its files."""
    folder = tmp_path_factory.mktemp("data")
    pairs = sentence_pairs(200)
    for name, part in (("train", pairs[:180]), ("valid", pairs[180:195]), ("test", pairs[195:])):
        for side, language in enumerate(("en", "de")):
            text = "".join(pair[side] + "\n" for pair in part)
            (folder / f"{name}.{language}").write_text(text, encoding="utf-8")
    (folder / "recipe.yaml").write_text(RECIPE)
    return folder


@pytest.fixture(scope="module")
def recipe(folder):
    return load_recipe(folder / "recipe.yaml")


@pytest.fixture(scope="module")
def chts(recipe, folder):
    """A finished sparse run: its folder and its result."""
    output = folder / "chts"
    return output, run.train(recipe, output)


def lines(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8").splitlines()


def test_files_of_a_sparse_run(chts, recipe) -> None:
    path, result = chts
    assert {item.name for item in path.iterdir()} == {
        "recipe.yaml", "environment.json", "patching.txt", "tokenizer", "checkpoints", "model",
        "topology.jsonl", "metrics.jsonl", "bleu.json", "sizes.json", "translations",
        "network.json", "snapshots",
    }  # fmt: skip
    assert load_recipe(path / "recipe.yaml") == recipe
    assert "torch" in json.loads((path / "environment.json").read_text())
    assert "decoder.layers" in (path / "patching.txt").read_text()
    rows = [json.loads(line) for line in lines(path / "topology.jsonl")]
    assert sorted({row["step"] for row in rows}) == [2, 4, 6, 8]
    metrics = [json.loads(line) for line in lines(path / "metrics.jsonl")]
    losses = [row["eval_loss"] for row in metrics if "eval_loss" in row]
    assert len(losses) == 4
    assert all(math.isfinite(loss) and loss < math.log(200) + 0.5 for loss in losses)
    bleu = json.loads((path / "bleu.json").read_text())
    assert set(bleu["test"]) == {"first", "second"} == set(result.scores)
    assert bleu["test"]["first"]["bleu"] == {
        "value": result.scores["first"].bleu.value,
        "signature": result.scores["first"].bleu.signature,
    }
    assert "version:" in bleu["test"]["first"]["bleu"]["signature"]
    assert bleu["training_seconds"] == pytest.approx(result.seconds, abs=0.1)
    assert [len(lines(path / "translations" / f"{n}.txt")) for n in ("first", "second")] == [5, 2]
    assert [example[1] for example in result.examples] == lines(path / "translations/first.txt")
    assert json.loads((path / "sizes.json").read_text()) == result.sizes.as_dict()


def test_the_saved_model_is_the_best_and_sparse(chts) -> None:
    path, result = chts
    model = hf_chts.from_pretrained(path / "model")
    layers = hf_chts.sparse_layers(model)
    assert len(layers) == 16
    for layer in layers.values():
        assert layer.nnz == round(0.3 * layer.in_features * layer.out_features)
    assert model.sparsity_config.method == "chts"
    metrics = [json.loads(line) for line in lines(path / "metrics.jsonl")]
    losses = {row["step"]: row["eval_loss"] for row in metrics if "eval_loss" in row}
    best = min(losses, key=losses.__getitem__)
    checkpoint = path / "checkpoints" / f"checkpoint-{best}" / "model.safetensors"
    saved, of_checkpoint = load_file(path / "model" / "model.safetensors"), load_file(checkpoint)
    assert all(torch.equal(saved[key], of_checkpoint[key]) for key in saved)
    AutoTokenizer.from_pretrained(path / "model")
    assert result.sizes.linear_parameters == sum(layer.nnz for layer in layers.values())


def test_evaluate_gives_the_same_score(chts, folder, recipe) -> None:
    path, result = chts
    source = DataSource(files=(str(folder / "test.en"), str(folder / "test.de")))
    scores, hypotheses = run.evaluate(path, source, "de", recipe.evaluation)
    assert scores == result.scores["first"]
    assert hypotheses == lines(path / "translations/first.txt")
    assert run.translate_stream(path / "model", lines(folder / "test.en"), recipe.evaluation) == (
        hypotheses
    )


def test_same_recipe_same_bytes(chts, recipe, tmp_path) -> None:
    run.train(recipe, tmp_path / "again")
    assert_same(chts[0], tmp_path / "again")


def assert_same(whole: Path, other: Path) -> None:
    for name in ("model/model.safetensors", "translations/first.txt"):
        assert (whole / name).read_bytes() == (other / name).read_bytes(), name
    assert untimed(whole) == untimed(other)


class Interruption(Exception):
    pass


@pytest.mark.parametrize("step", [4, 7])
def test_interrupted_and_resumed_equals_uninterrupted(
    chts, recipe, tmp_path, monkeypatch, step
) -> None:
    """Raised in a callback one step after a checkpoint, once right before an update."""

    class Interrupt(TrainerCallback):
        def on_step_end(self, args, state, control, **kwargs) -> None:
            if state.global_step == step:
                raise Interruption

    plain = TranslationTrainer.__init__

    def with_interruption(self, *args, **kwargs):
        plain(self, *args, **kwargs)
        self.add_callback(Interrupt())

    with monkeypatch.context() as patched:
        patched.setattr(TranslationTrainer, "__init__", with_interruption)
        with pytest.raises(Interruption):
            run.train(recipe, tmp_path / "run")
    assert not (tmp_path / "run" / "model").exists()
    result = run.train(recipe, tmp_path / "run", resume=True)
    assert result.scores == chts[1].scores
    assert_same(chts[0], tmp_path / "run")
    run.train(recipe, tmp_path / "run", resume=True)  # of a finished run: nothing is left to do
    assert_same(chts[0], tmp_path / "run")


def test_killed_and_resumed_equals_uninterrupted(chts, folder, recipe, tmp_path) -> None:
    output = tmp_path / "run"
    program = (
        "import hf_chts.translation.run as r, hf_chts.translation.training as t, os, signal\n"
        "from hf_chts.translation.recipe import load_recipe\n"
        "import torch; torch.set_num_threads(1)\n"
        "save = t.TranslationTrainer._save_rng_state\n"
        "def kill(self, folder):\n"
        "    save(self, folder)\n"
        "    if self.state.global_step == 6: os.kill(os.getpid(), signal.SIGKILL)\n"
        "t.TranslationTrainer._save_rng_state = kill\n"  # in the middle of a checkpoint
        f"r.train(load_recipe({str(folder / 'recipe.yaml')!r}), {str(output)!r})\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True)
    assert done.returncode == -signal.SIGKILL, done.stderr[-2000:]
    staged = output / "checkpoints" / ".unfinished" / "checkpoint-6"
    assert (staged / "model.safetensors").is_file()
    assert RunFolder(output).check(recipe, resume=True, overwrite=False).endswith("checkpoint-3")
    run.train(recipe, output, resume=True)
    assert not staged.parent.exists()
    assert_same(chts[0], output)


def test_a_damaged_checkpoint_is_refused_and_the_one_before_used(chts, recipe, tmp_path) -> None:
    shutil.copytree(chts[0], tmp_path / "run")
    (tmp_path / "run" / "checkpoints" / "checkpoint-12" / "rng_state.pth").write_bytes(b"x")
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "run").rglob("*")}
    with pytest.raises(
        ValueError, match=r"checkpoint-12 cannot be .* rng_state.pth has 1 of .* 9$"
    ):
        run.train(recipe, tmp_path / "run", resume=True)
    assert before == {path: path.stat().st_mtime_ns for path in (tmp_path / "run").rglob("*")}
    run.train(recipe, tmp_path / "run", resume_from=9)
    assert_same(chts[0], tmp_path / "run")
    checkpoints = (tmp_path / "run" / "checkpoints").glob("checkpoint-*")
    assert {path.name for path in checkpoints} == {"checkpoint-9", "checkpoint-12"}


def test_training_seconds_count_all_parts(chts, recipe, tmp_path) -> None:
    shutil.copytree(chts[0], tmp_path / "run")
    path = tmp_path / "run" / "checkpoints" / "checkpoint-12"
    state = json.loads((path / "trainer_state.json").read_text())
    clock = state["stateful_callbacks"]["TrainingClock"]["attributes"]
    assert 0 < clock["seconds"] <= chts[1].seconds
    clock["seconds"] = 1000.0
    (path / "trainer_state.json").write_text(json.dumps(state))
    seal(path)
    seconds = run.train(recipe, tmp_path / "run", resume=True).seconds
    assert 1000 < seconds < 1000 + 60
    assert json.loads((tmp_path / "run" / "bleu.json").read_text())["training_seconds"] >= 1000


def test_the_last_checkpoint_is_validated(recipe, tmp_path) -> None:
    training = replace(recipe.training, max_steps=5, evaluate_every=3, learning_rate=1e-3)
    run.train(replace(recipe, training=training), tmp_path / "run")
    metrics = [json.loads(line) for line in lines(tmp_path / "run" / "metrics.jsonl")]
    assert [row["step"] for row in metrics if "eval_loss" in row] == [3, 5]
    names = (path.name for path in (tmp_path / "run" / "checkpoints").glob("checkpoint-*"))
    assert set(names) == {"checkpoint-3", "checkpoint-5"}


@pytest.mark.parametrize(
    ("every", "logged"), [(1, 1), (7, 1), (12, 2), (13, 1), (500, 100), (1050, 75), (10**6, 100)]
)
def test_logs_end_where_checkpoints_are(every, logged) -> None:
    assert run._log_every(every) == logged
    assert every % logged == 0


def test_dense_run(recipe, tmp_path) -> None:
    dense = replace(recipe, sparsity=replace(recipe.sparsity, method="dense"))
    result = run.train(dense, tmp_path / "run")
    assert not (tmp_path / "run" / "topology.jsonl").exists()
    assert result.sizes.parameters == result.sizes.dense_parameters
    model = AutoModelForSeq2SeqLM.from_pretrained(tmp_path / "run" / "model")
    assert not hf_chts.sparse_layers(model)


def test_average_of_the_last_checkpoints(recipe, tmp_path) -> None:
    training = replace(recipe.training, average_last=2)
    sparsity = replace(recipe.sparsity, method="rigl", stop_fraction=0.7)
    run.train(replace(recipe, training=training, sparsity=sparsity), tmp_path / "run")
    folders = [tmp_path / "run" / "checkpoints" / f"checkpoint-{step}" for step in (9, 12)]
    one, two = (load_file(path / "model.safetensors") for path in folders)
    mean = load_file(tmp_path / "run" / "model" / "model.safetensors")
    assert any(not torch.equal(one[key], two[key]) for key in mean)
    for key, value in mean.items():
        if value.is_floating_point():
            torch.testing.assert_close(value, (one[key] + two[key]) / 2)
        else:
            assert torch.equal(value, two[key])


def test_best_by_bleu_and_two_vocabularies(recipe, tmp_path) -> None:
    training = replace(
        recipe.training, best_by="bleu", schedule="inoam", learning_rate=2.0, precision="bf16",
        gradient_checkpointing=True, accumulation=2,
    )  # fmt: skip
    tokenizer = replace(recipe.tokenizer, joint=False, kind="unigram", vocab_size=150)
    result = run.train(replace(recipe, training=training, tokenizer=tokenizer), tmp_path / "run")
    metrics = [json.loads(line) for line in lines(tmp_path / "run" / "metrics.jsonl")]
    assert len([row for row in metrics if "eval_bleu" in row]) == 4
    assert (tmp_path / "run" / "model" / "target_tokenizer").is_dir()
    model, tokenizers = run.load_model(tmp_path / "run")
    assert not tokenizers.joint
    assert model.config.vocab_size == len(tokenizers.source)
    assert model.config.decoder_vocab_size == len(tokenizers.target)
    sentences = [example[0] for example in result.examples]
    again = run.translate_stream(tmp_path / "run", sentences, recipe.evaluation)
    assert again == [example[1] for example in result.examples]


def test_what_is_wrong_is_told_before_anything_is_written(recipe, folder, tmp_path) -> None:
    longer = tmp_path / "longer.de"
    longer.write_text("x\n" * 200)
    uneven = replace(recipe.data, train=DataSource(files=(str(folder / "train.en"), str(longer))))
    missing = replace(recipe.data, test={"t": DataSource(file="absent.tsv")})
    cases = [
        (replace(recipe, data=uneven), "180 lines but .*longer.de has 200"),
        (replace(recipe, data=missing), "absent.tsv: no such file"),
        (replace(recipe, sparsity=replace(recipe.sparsity, include=("nothing",))), "matches no"),
        (replace(recipe, sparsity=replace(recipe.sparsity, exclude=(".*",))), "nothing to patch"),
        (replace(recipe, sparsity=replace(recipe.sparsity, method="chtsz")), "did you mean 'chts'"),
        (replace(recipe, sparsity=replace(recipe.sparsity, sparsity=0.9999)), "would get no link"),
        (replace(recipe, model=ModelSection(family="llama")), "Unrecognized configuration"),
        (replace(recipe, tokenizer=replace(recipe.tokenizer, vocab_size=20)), "is too small"),
        (replace(recipe, training=replace(recipe.training, average_last=3)), "links move until"),
        (replace(recipe, data=replace(recipe.data, max_length=65)), "has 64 positions"),
        (replace(recipe, data=replace(recipe.data, max_length=2)), "no pair is left to train on"),
    ]
    for wrong, message in cases:
        with pytest.raises((ValueError, OSError), match=message):
            run.train(wrong, tmp_path / "run")
        assert not (tmp_path / "run").exists(), message


def test_an_earlier_run_outlives_a_wrong_recipe(chts, recipe, tmp_path) -> None:
    shutil.copytree(chts[0], tmp_path / "run")
    wrong = replace(recipe, tokenizer=replace(recipe.tokenizer, vocab_size=20))
    with pytest.raises(ValueError, match="is too small"):
        run.train(wrong, tmp_path / "run", overwrite=True)
    assert_same(chts[0], tmp_path / "run")
    with pytest.raises(ValueError, match="holds a run already: use --resume"):
        run.train(recipe, tmp_path / "run")
    run.train(recipe, tmp_path / "run", overwrite=True)
    assert_same(chts[0], tmp_path / "run")


@pytest.mark.parametrize("name", ["nowhere", "."])
def test_no_model(name, folder) -> None:
    with pytest.raises(ValueError, match=r"give (that|the folder) of a finished run"):
        run.load_model(folder / name)
