"""The comparisons of scripts/ train what the recipes of their methods do."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from hf_chts.comparison.grid import cells, recipe_for
from hf_chts.comparison.settings import read_settings, refuse_own_rules
from hf_chts.methods import METHODS
from hf_chts.translation.recipe import load_recipe

HOME = Path(__file__).resolve().parents[2]
PAPER = read_settings(HOME / "scripts" / "compare_paper.yaml")
FOLDERS = sorted(path.parent for path in (HOME / "recipes").glob("*/base.yaml"))
FILES = [
    path
    for folder in FOLDERS
    if folder.name != "finetune_opus_mt"  # half of the links, by settings of its own
    for path in sorted(folder.glob("*.yaml"))
    if path.stem in METHODS
]


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_rows_are_trained_as_the_recipe_of_their_method_says(path) -> None:
    base, alone = load_recipe(path.with_name("base.yaml")), load_recipe(path)
    refuse_own_rules(base)
    (cell,) = cells([path.stem], [0.9], [1], PAPER)
    if path.stem == "dense":
        alone = replace(alone, sparsity=replace(alone.sparsity, sparsity=0.0))
    seeded = replace(alone, sparsity=replace(alone.sparsity, seed=1))
    assert recipe_for(base, cell, PAPER) == seeded


@pytest.mark.parametrize(
    ("settings", "recipe"),
    [("compare_multi30k", "small"), ("compare_multi30k", "converged"), ("compare_widths", "small"),
     ("compare_paper", "base")],
)  # fmt: skip
def test_what_a_row_changes_is_in_its_recipe(settings, recipe) -> None:
    rows = read_settings(HOME / "scripts" / f"{settings}.yaml")
    shared = load_recipe(HOME / "recipes" / "multi30k_en_de" / f"{recipe}.yaml")
    refuse_own_rules(shared)
    for cell in cells(list(rows), [0.9, 0.95], [1], rows):
        made = recipe_for(shared, cell, rows)
        for section, changes in rows[cell.method].items():
            for key, value in changes.items():
                found = getattr(getattr(made, section), key)
                assert found.items() >= value.items() if isinstance(value, dict) else found == value
