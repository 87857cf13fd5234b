"""The main job on tiny files, from the recipe to the scores."""

from __future__ import annotations

import json
import math
import re
import shutil
import warnings
from dataclasses import replace
from pathlib import Path

import families
import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForSeq2SeqLM, AutoTokenizer

import hf_chts
from hf_chts.translation import arguments, run
from hf_chts.translation.data import DataSource, load_pairs
from hf_chts.translation.encode import encode
from hf_chts.translation.recipe import load_recipe
from hf_chts.translation.sections import ModelSection
from hf_chts.translation.tokenizer import train_tokenizer

ROOT = Path(__file__).resolve().parents[2]


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
    assert arguments._log_every(every) == logged
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


SMALL = {
    "d_model": 16, "encoder_layers": 1, "decoder_layers": 1, "encoder_attention_heads": 2,
    "decoder_attention_heads": 2, "encoder_ffn_dim": 24, "decoder_ffn_dim": 24,
}  # fmt: skip
OF_OTHER_FAMILIES = {
    "t5": {"d_model": 16, "d_kv": 8, "d_ff": 24, "num_layers": 1, "num_heads": 2},
    "m2m_100": {**SMALL, "max_position_embeddings": 64},
    "led": {
        **SMALL, "attention_window": 8, "max_encoder_position_embeddings": 48,
        "max_decoder_position_embeddings": 48,
    },
    "prophetnet": {
        "hidden_size": 16, "num_encoder_layers": 1, "num_decoder_layers": 1,
        "num_encoder_attention_heads": 2, "num_decoder_attention_heads": 2,
        "encoder_ffn_dim": 24, "decoder_ffn_dim": 24, "max_position_embeddings": 50,
    },
}  # fmt: skip


@pytest.mark.parametrize("family", OF_OTHER_FAMILIES)
def test_other_families(recipe, tmp_path, family) -> None:
    """Made, trained on pairs as long as they have positions, saved, loaded and translated with."""
    training = replace(recipe.training, max_steps=4, schedule="noam")
    model = ModelSection(family=family, config=OF_OTHER_FAMILIES[family])
    result = run.train(replace(recipe, model=model, training=training), tmp_path / "run")
    assert result.sizes.parameters < result.sizes.dense_parameters
    assert run.load_model(tmp_path / "run")[0].generation_config.forced_eos_token_id == 1


def test_a_model_made_of_two(recipe, tmp_path) -> None:
    families.make("bert2bert").save_pretrained(tmp_path / "two")
    train_tokenizer(["a man sits"] * 3, families.VOCABULARY).save_pretrained(tmp_path / "two")
    training = replace(recipe.training, max_steps=4, schedule="noam")
    model = ModelSection(pretrained=str(tmp_path / "two"))
    wrong = replace(recipe, model=model, data=replace(recipe.data, max_length=65))
    with pytest.raises(ValueError, match="has 64 positions"):
        run.train(wrong, tmp_path / "run")
    data = replace(recipe.data, max_length=64)
    run.train(replace(recipe, model=model, training=training, data=data), tmp_path / "run")


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


@pytest.mark.parametrize("token", ["pad_token", "eos_token"])
def test_a_tokenizer_without_padding_or_end_is_refused(recipe, tmp_path, token) -> None:
    tokenizer = train_tokenizer(["a man sits"] * 3, 40)
    setattr(tokenizer, token, None)
    tokenizer.save_pretrained(tmp_path / "tokenizer")
    section = replace(recipe.tokenizer, pretrained=str(tmp_path / "tokenizer"))
    with pytest.raises(ValueError, match=f"a new model takes a tokenizer with a {token}, and"):
        run.train(replace(recipe, tokenizer=section), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_the_trainer_gets_every_number_of_the_recipe(recipe) -> None:
    numbers = {
        "max_steps": 18, "accumulation": 3, "learning_rate": 0.2, "warmup_steps": 5, "epsilon": 0.1,
        "weight_decay": 0.03, "clip": 0.7, "seed": 9, "evaluate_every": 6, "betas": (0.8, 0.95),
    }  # fmt: skip
    args = arguments.training_arguments(
        replace(recipe, training=replace(recipe.training, **numbers))
    )
    found = (
        args.max_steps, args.gradient_accumulation_steps, args.learning_rate, args.warmup_steps,
        args.adam_epsilon, args.weight_decay, args.max_grad_norm, args.seed, args.eval_steps,
        (args.adam_beta1, args.adam_beta2),
    )  # fmt: skip
    assert found == tuple(numbers.values())
    assert args.save_steps == args.eval_steps


def test_validation_loss_by_hand(chts, recipe) -> None:
    """The mean over all tokens of all pairs, without smoothing, dropout or padding."""
    rows = [json.loads(line) for line in lines(chts[0] / "metrics.jsonl")]
    model, tokenizers = run.load_model(chts[0])
    pairs = encode(load_pairs(recipe.data.validation), tokenizers, recipe.data.max_length)
    total, count = 0.0, 0
    for pair in pairs:
        ids, labels = (torch.tensor([pair[key]]) for key in ("input_ids", "labels"))
        logits = model(input_ids=ids, labels=labels).logits[0].double()
        losses = torch.nn.functional.cross_entropy(logits, labels[0], reduction="none")
        total, count = total + float(losses.detach().sum()), count + losses.numel()
    best = min(row["eval_loss"] for row in rows if "eval_loss" in row)
    assert best == pytest.approx(total / count, rel=1e-5)


def test_what_nobody_means_is_told_once(recipe, tmp_path) -> None:
    training = replace(recipe.training, max_steps=4, warmup_steps=16, average_last=0)
    sparsity = replace(recipe.sparsity, update_interval=100)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("default")  # as on the command line
        run.train(replace(recipe, training=training, sparsity=sparsity), tmp_path / "run")
    texts = [str(each.message) for each in told if each.category is UserWarning]
    assert len([text for text in texts if "no link would change in 4 steps" in text]) == 1
    warmup = "training.warmup_steps=16 goes beyond max_steps=4: .* ends at 25% of its peak; lower"
    assert len([text for text in texts if re.match(warmup, text)]) == 1
    at_the_end = replace(recipe.training, warmup_steps=recipe.training.max_steps)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        arguments.tell_long_warmup(replace(recipe, training=at_the_end))


@pytest.mark.parametrize("name", ["nowhere", "."])
def test_no_model(name, folder) -> None:
    with pytest.raises(ValueError, match=r"give (that|the folder) of a finished run"):
        run.load_model(folder / name)


@pytest.mark.parametrize("kind", ["sparse", "dense"])
def test_a_model_whose_weights_were_cut_off_is_refused(chts, tmp_path, kind) -> None:
    shutil.copytree(chts[0] / "model", tmp_path / "cut")
    if kind == "dense":
        hf_chts.densify(hf_chts.from_pretrained(tmp_path / "cut")).save_pretrained(tmp_path / "cut")
    weights = tmp_path / "cut" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:100])
    with pytest.raises(ValueError, match=r"cut.* damaged .*: copy the"):
        run.load_model(tmp_path / "cut")


def test_a_checkpoint_has_no_tokenizer(chts) -> None:
    checkpoint = next((chts[0] / "checkpoints").glob("checkpoint-*"))
    with pytest.raises(
        ValueError, match="has no tokenizer: give the folder of a run or of a model"
    ):
        run.load_model(checkpoint)
