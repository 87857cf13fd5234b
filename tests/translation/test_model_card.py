from __future__ import annotations

from dataclasses import replace

import pytest
import yaml
from torch import nn

from hf_chts import SparsityConfig, sparsify
from hf_chts.methods import METHODS
from hf_chts.translation.bleu import score
from hf_chts.translation.data import DataSource
from hf_chts.translation.model_card import write_model_card
from hf_chts.translation.recipe import Recipe
from hf_chts.translation.sections import DataSection, TrainingSection
from hf_chts.translation.sizes import Sizes

SCORES = score(["Ein Hund läuft.", "Zwei Katzen."], ["Ein Hund läuft.", "Drei Katzen."], "de")


def card(folder, method="chts", source=None) -> str:
    source = source or DataSource(corpus="embedded")
    config = SparsityConfig(method=method, sparsity=0.75)
    model = nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 8))
    sparsify(model, config)
    recipe = Recipe(
        DataSection(source, source, {"t": source}, source_lang="en", target_lang="de"),
        TrainingSection(max_steps=12_345, seed=17),
        sparsity=config,
    )
    sizes = Sizes.of(model, folder)
    write_model_card(folder, recipe, model, {"newstest": SCORES}, sizes, 29_000)
    return (folder / "README.md").read_text(encoding="utf-8")


def test_contents(tmp_path) -> None:
    text = card(tmp_path)
    front = yaml.safe_load(text.split("---")[1])
    assert front["library_name"] == "transformers"
    assert front["language"] == ["en", "de"]
    assert front["tags"] == ["hf-chts", "sparse", "chts"]
    assert "75.00% of the links of 2 linear layers are inactive" in text
    assert "29,000 sentence pairs (embedded corpus) for 12,345 steps, seed 17" in text
    assert METHODS["chts"].paper in text
    for one, label in ((SCORES.bleu, "BLEU"), (SCORES.chrf, "chrF"), (SCORES.ter, "TER")):
        assert f"| newstest | {label} | {one.value:.2f} | `{one.signature}` |" in text
    assert "| parameters in linear layers made sparse | 128 | 32 | 0.250 |" in text
    assert "import hf_chts" in text


def test_dense_baseline(tmp_path) -> None:
    text = card(tmp_path, method="dense")
    assert "A dense model" in text
    assert METHODS["dense"].paper in text


@pytest.mark.parametrize(
    ("source", "shown"),
    [
        (DataSource(files=("/home/me/secret/a, b.en", "/home/me/secret/b.de")), "a, b.en, b.de"),
        (DataSource(file="/home/me/secret/pairs.tsv"), "pairs.tsv"),
        (DataSource(dataset="wmt/wmt17", fields=("en", "de")), "wmt/wmt17"),
    ],
)
def test_data_are_named_without_folders_of_the_machine(tmp_path, source, shown) -> None:
    text = card(tmp_path, source=source)
    assert f"pairs ({shown}) for" in text
    assert "secret" not in text


def test_a_local_data_set_is_named_by_its_folder(tmp_path) -> None:
    source = DataSource(dataset=str(tmp_path), fields=("en", "de"))
    assert f"pairs ({tmp_path.name}) for" in card(tmp_path, source=source)
    assert str(tmp_path.parent) not in card(tmp_path, source=replace(source, max_pairs=3))
