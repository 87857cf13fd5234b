"""The results of runs that were really trained, on tiny files."""

from __future__ import annotations

import io
import json
import shutil
import sys

import pytest
import torch
from rich.console import Console

import hf_chts
from hf_chts.comparison import summary
from hf_chts.comparison.folder import ComparisonFolder
from hf_chts.comparison.grid import cells, recipes_for
from hf_chts.comparison.results import read_comparison
from hf_chts.translation import run
from hf_chts.translation.corpus import sentence_pairs
from hf_chts.translation.recipe import load_recipe

RECIPE = """
data:
  train: {files: [train.en, train.de]}
  validation: {files: [test.en, test.de]}
  test: {first: {files: [test.en, test.de]}, second: {files: [test.en, test.de], max_pairs: 2}}
  max_length: 48
tokenizer: {vocab_size: 120}
model:
  config: {d_model: 16, encoder_layers: 1, decoder_layers: 1, encoder_attention_heads: 2,
    decoder_attention_heads: 2, encoder_ffn_dim: 24, decoder_ffn_dim: 24, dropout: 0.1,
    max_position_embeddings: 64}
training: {max_steps: 8, batch_tokens: 500, evaluate_every: 4, warmup_steps: 4,
  learning_rate: 1.0e-2}
sparsity: {update_interval: 2}
evaluation: {beams: 1}
"""
METHODS = ["dense", "static", "chts", "granet"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A comparison with one seed, all done, and what it says."""
    root = tmp_path_factory.mktemp("data")
    pairs = sentence_pairs(100)
    for name, part in (("train", pairs[:90]), ("test", pairs[90:])):
        for side, language in enumerate(("en", "de")):
            text = "".join(pair[side] + "\n" for pair in part)
            (root / f"{name}.{language}").write_text(text, encoding="utf-8")
    (root / "recipe.yaml").write_text(RECIPE)
    recipe = load_recipe(root / "recipe.yaml")
    folder = ComparisonFolder(root / "compared")
    folder.path.mkdir()
    recipes = recipes_for(recipe, cells(METHODS, [0.75], [1]), {})
    folder.extend(recipe, {}, [0.75], recipes, {})
    for cell, own in recipes.items():
        run.train(own, folder.run(cell).path)
    return folder.path


@pytest.fixture(scope="module")
def results(folder):
    summary.summarise(folder, baseline="dense")
    return json.loads((folder / "results.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def measures(results):
    return {run["method"]: run["measures"] for run in results["runs"]}


def test_everything_is_written(folder, results) -> None:
    names = {path.name for path in folder.iterdir() if path.is_file()}
    assert names == {
        "comparison.json", "table.md", "table.csv", "results.json", "bleu_by_sparsity.png",
        "bleu_by_sparsity.svg", "quality_by_weights.png", "quality_by_weights.svg",
        "validation_loss.png", "validation_loss.svg",
    }  # fmt: skip
    assert [run["state"] for run in results["runs"]] == ["done"] * 4
    assert not any("not measured" in note or "not begun" in note for note in results["notes"])
    assert any(note.startswith("machine: ") and "torch" in note for note in results["notes"])


def test_measures_are_those_of_the_run(folder, measures) -> None:
    path = folder / "runs" / "chts-0.75-1"
    sizes = json.loads((path / "sizes.json").read_text())
    model = hf_chts.from_pretrained(path / "model")
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    found = measures["chts"]
    assert found["steps"] == 8
    assert found["trained_weights"] == trained
    assert found["file_megabytes"] == sizes["file_bytes"] / 1e6
    assert found["density"] == sizes["linear_parameters"] / sizes["dense_linear_parameters"]
    rows = [json.loads(line) for line in (path / "topology.jsonl").read_text().splitlines()]
    last = [row for row in rows if row["step"] == rows[-1]["step"]]
    size = [row["n_links"] / row["density"] for row in last]
    itop = sum(r["itop"] * n for r, n in zip(last, size, strict=True)) / sum(size)
    assert found["itop"] == pytest.approx(itop)
    topology = hf_chts.Topology(model, torch.optim.SGD(model.parameters(), 0.1), total_steps=8)
    assert found["active_neurons"] == topology.active_neuron_rate()


def test_links_of_dense_and_static_runs(measures) -> None:
    assert not {"density", "itop", "active_neurons"} & measures["dense"].keys()
    assert (
        measures["static"]["density"] == measures["static"]["itop"] == pytest.approx(0.25, rel=0.01)
    )
    assert 0 < measures["static"]["active_neurons"] <= 1


def test_operations_follow_the_density(measures) -> None:
    """Of a static model only the linears shrink; GraNet begins with half of the links."""
    train = {name: found["training_flops_per_step"] for name, found in measures.items()}
    token = {name: found["inference_flops_per_token"] for name, found in measures.items()}
    assert train["static"] == pytest.approx(train["chts"])
    assert train["static"] < train["granet"] < train["dense"]
    assert token["static"] == pytest.approx(token["chts"]) == pytest.approx(token["granet"])
    assert train["dense"] / token["dense"] == pytest.approx(train["static"] / token["static"])


def test_operations_add_up_over_training(results) -> None:
    for run_ in results["runs"]:
        counts = [point["training_flops"] for point in run_["validation"]]
        assert [point["step"] for point in run_["validation"]] == [4, 8]
        assert 0 < counts[0] < counts[1]
        per_step = run_["measures"]["training_flops_per_step"]
        assert counts[1] == pytest.approx(8 * per_step)
        falls = run_["method"] == "granet"  # the second half is the cheaper one
        assert (counts[1] - counts[0] < 0.99 * counts[0]) is falls


def test_without_the_training_text_all_but_operations_is_known(folder, tmp_path) -> None:
    shutil.copytree(folder, tmp_path / "compared")
    for name in ("dense-1", "chts-0.75-1"):
        recipe = tmp_path / "compared" / "runs" / name / "recipe.yaml"
        recipe.write_text(recipe.read_text().replace("train.en", "gone.en"))
    runs = {r.cell.name: r for r in read_comparison(tmp_path / "compared").runs.values()}
    assert "operations are not counted" in runs["chts-0.75-1"].reason
    assert "training_flops_per_step" not in runs["chts-0.75-1"].measures
    assert runs["chts-0.75-1"].measures["active_neurons"] > 0
    assert runs["granet-0.75-1"].flops
    summary.summarise(tmp_path / "compared", baseline="chts")
    text = (tmp_path / "compared" / "table.md").read_text(encoding="utf-8")
    assert "dense-1, chts-0.75-1: operations are not counted" in text


def test_without_matplotlib_the_tables_come_all_the_same(folder, tmp_path, monkeypatch) -> None:
    shutil.copytree(folder, tmp_path / "compared", ignore=shutil.ignore_patterns("*.png", "*.svg"))
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.delitem(sys.modules, "hf_chts.comparison.figures")
    monkeypatch.delattr("hf_chts.comparison.figures")
    console = Console(width=200, record=True, file=io.StringIO())
    console.print(summary.summarise(tmp_path / "compared", baseline="dense"))
    assert console.export_text().count('pip install "hf-chts[analysis]"') == 1
    assert (tmp_path / "compared" / "table.md").is_file()
    assert not list((tmp_path / "compared").glob("*.png"))
