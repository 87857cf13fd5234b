"""What rows change, read strictly."""

from __future__ import annotations

from dataclasses import replace

import pytest
from tiny_comparisons import write_recipe

from hf_chts.comparison.settings import check_names, read_settings, refuse_own_rules
from hf_chts.translation.recipe import load_recipe


def test_rows_and_variants(tmp_path) -> None:
    path = tmp_path / "settings.yaml"
    path.write_text(
        "dense: {training: {learning_rate: 5e-4}}\n"
        "narrow-dense: {training: {clip: 0.0}}\n"
        "chts_ranked: {sparsity: {method: chts, regrowth_exponent: ranked}}\n"
    )
    settings = read_settings(path)
    assert settings["dense"] == {"training": {"learning_rate": 5e-4}}
    assert list(settings) == ["dense", "narrow-dense", "chts_ranked"]
    check_names(["chts_ranked", "chts", "shallow-decoder"], settings)
    with pytest.raises(ValueError, match="no method 'chts_ranke': did you mean 'chts_ranked'"):
        check_names(["chts", "chts_ranke"], settings)
    with pytest.raises(ValueError, match="no method 'narow-dense': did you mean 'narrow-dense'"):
        check_names(["narow-dense"], {})
    path.write_text("")
    assert read_settings(path) == {}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: [", "is not YAML"),
        ("- chts", r"settings are a mapping from rows to changes; got \['chts'\]"),
        ("chtz: {}", "unknown row 'chtz': did you mean 'cht'.* says sparsity.method"),
        ("1: {}", "a row's name takes letters, digits, _ and -; got 1"),
        ("a/b: {sparsity: {method: chts}}", "a row's name takes .* got 'a/b'"),
        ("mine: {sparsity: {method: chtz}}", "row mine: no method 'chtz': did you mean 'cht'"),
        ("chts: {sparsity: {method: set}}", "row chts sets sparsity.method: give a variant"),
        ("narrow-dense: {sparsity: {method: set}}", "row narrow-dense sets sparsity.method"),
        ("chts: {sparsity: 3}", "row chts takes sections of a recipe"),
        ("chts:", "row chts takes sections of a recipe"),
        ("chts: {training: {seed: 3}}", "sets training.seed, which the comparison decides"),
        ("chts: {sparsity: {seed: 3}}", "sets sparsity.seed, which the comparison decides"),
        ("chts: {sparsity: {sparsity: 0.5}}", "sets sparsity.sparsity, which the comparison"),
        ("chts: {data: {test: {}}}", "sets data.test, which the comparison decides"),
        ("chts: {data: {validation: {}}}", "sets data.validation, which the comparison decides"),
    ],
)
def test_what_is_refused(tmp_path, text, message) -> None:
    path = tmp_path / "settings.yaml"
    path.write_text(text)
    with pytest.raises(ValueError, match=message) as refused:
        read_settings(path)
    assert str(path) in str(refused.value)


def test_no_file(tmp_path) -> None:
    with pytest.raises(ValueError, match=r"no settings .*absent.yaml: give the path of a YAML"):
        read_settings(tmp_path / "absent.yaml")


def test_a_recipe_leaves_rules_to_the_methods(tmp_path) -> None:
    recipe = load_recipe(write_recipe(tmp_path))
    refuse_own_rules(replace(recipe, sparsity=replace(recipe.sparsity, zeta=0.2)))
    chosen = replace(recipe.sparsity, regrowth="random", initial={"rule": "brf"})
    with pytest.raises(ValueError, match=r"sets sparsity.initial, sparsity.regrowth, which would"):
        refuse_own_rules(replace(recipe, sparsity=chosen))
