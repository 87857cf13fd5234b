"""hf-chts inspect: recipes, dense models and saved sparse models."""

import families
import pytest
import torch
from transformers import AutoModelForSeq2SeqLM

import hf_chts
from hf_chts import SparsityConfig, sparse_layers
from hf_chts.inspection import inspect_model

DENSE = {"marian": "fc1", "gpt2": "c_fc"}


@pytest.fixture
def quickstart(pytestconfig):
    return str(pytestconfig.rootpath / "recipes" / "quickstart.yaml")


def test_a_recipe(quickstart):
    report = inspect_model(quickstart, ["sparsity.sparsity=0.75", "sparsity.exclude=[fc1]"])
    assert report.config.sparsity == 0.75
    assert {row.sparse for row in report.rows if row.name.endswith("fc1")} == {False}
    sparse = [row for row in report.rows if row.sparse]
    assert all(row.density == pytest.approx(0.25, abs=0.01) for row in sparse)
    assert "dense: excluded" in str(report)


def test_a_recipe_with_a_pretrained_model(quickstart, tmp_path):
    families.make("marian").save_pretrained(tmp_path / "dense")
    pretrained = f"model.pretrained={tmp_path / 'dense'}"
    with pytest.raises(ValueError, match="changes the sizes"):
        inspect_model(quickstart, [pretrained])
    report = inspect_model(quickstart, [pretrained, "model.config={}"])
    assert report.config.weight_init == "keep"
    assert sum(row.sparse for row in report.rows) == 32


@pytest.mark.parametrize(("joint", "tables"), [("true", 1), ("false", 2)])
def test_a_vocabulary_a_side_takes_a_table_each(quickstart, joint, tables):
    sizes = ["tokenizer.vocab_size=1000", "model.config.d_model=64"]
    report = inspect_model(quickstart, [*sizes, f"tokenizer.joint={joint}"])
    positions = 2 * 64 * 128  # of both sides, not trained
    assert report.embedding_parameters - positions == tables * 1000 * 64


@pytest.mark.parametrize("name", families.FAMILIES)
def test_a_folder_with_a_dense_models_configuration_alone(name, tmp_path):
    model = families.make(name)
    model.config.save_pretrained(tmp_path)
    report = inspect_model(str(tmp_path))
    assert {row.name for row in report.rows if row.sparse} == families.expected(name, model)
    parts = report.sparse_dense_size + report.embedding_parameters + report.rest_parameters
    assert parts == sum(parameter.numel() for parameter in model.parameters())


@pytest.mark.parametrize("name", ["marian", "gpt2"])
@pytest.mark.parametrize("folder", ["", "model"])
def test_a_saved_sparse_model_shows_the_links_it_has(name, folder, tmp_path):
    model = families.make(name)
    hf_chts.sparsify(model, SparsityConfig(sparsity=0.8, exclude=(DENSE[name],)))
    first = next(iter(sparse_layers(model).values()))
    first.set_links(torch.arange(3), torch.ones(3))
    model.save_pretrained(tmp_path / folder)
    report = inspect_model(str(tmp_path))
    rows = {row.name: row for row in report.rows}
    assert set(rows) == families.linears(model) | set(sparse_layers(model))
    for path, layer in sparse_layers(model).items():
        assert (rows[path].sparse, rows[path].n_links) == (True, layer.nnz)
    parts = report.sparse_links + report.embedding_parameters + report.rest_parameters
    assert parts == sum(parameter.numel() for parameter in model.parameters())


def test_a_plan_says_that_nothing_is_sparse_yet(quickstart, tmp_path):
    said = "A plan; nothing is sparse yet. The model would become\n"
    families.make("marian").save_pretrained(tmp_path / "dense")
    dense = str(inspect_model(str(tmp_path / "dense")))
    assert dense.startswith(f"{said}chtss_cubic at ")
    assert str(inspect_model(quickstart)).startswith(said)
    model = AutoModelForSeq2SeqLM.from_pretrained(tmp_path / "dense")
    report = hf_chts.sparsify(model)
    assert dense == said + str(report)
    model.save_pretrained(tmp_path / "sparse")
    assert "plan" not in str(inspect_model(str(tmp_path / "sparse")))


def test_changes_go_with_a_recipe(tmp_path):
    with pytest.raises(ValueError, match=r"changes go with a recipe.*sparsity\.seed=1"):
        inspect_model(str(tmp_path), ["sparsity.seed=1"])


def test_a_folder_whose_configuration_is_cut_off(tmp_path):
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(OSError, match="not a valid JSON file"):
        inspect_model(str(tmp_path))
