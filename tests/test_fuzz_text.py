"""Recipes and text files of any content end in success or in one of three errors."""

from __future__ import annotations

import gzip
import json
import tempfile
from pathlib import Path

import pytest
import yaml
from fuzz_cases import attempt, fuzz
from hypothesis import given
from hypothesis import strategies as st

from hf_chts.translation.data import DataSource, load_pairs
from hf_chts.translation.recipe import Recipe, load_recipe

SOUND = {
    "data": {
        "train": {"files": ["a.en", "a.de"]},
        "validation": {"corpus": "embedded", "split": "validation"},
        "test": {"first": {"file": "t.jsonl", "fields": ["en", "de"]}},
        "max_length": 64,
    },
    "tokenizer": {"vocab_size": 200, "joint": True, "kind": "bpe"},
    "model": {"family": "marian", "config": {"d_model": 16}},
    "training": {"max_steps": 9, "learning_rate": 1e-3, "betas": [0.9, 0.98]},
    "sparsity": {"method": "chts", "sparsity": 0.7, "initial": {"rule": "brf", "r": 0.25}},
    "evaluation": {"beams": 2},
}
VALUES = st.recursive(
    st.one_of(
        st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=8),
        st.sampled_from(["../x", "/etc/passwd", "embedded", "1e-3", ".nan", "smupar", "delta"]),
    ),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner,
                                                                max_size=3),
    max_leaves=5,
)  # fmt: skip


def places(tree, path=()):
    yield path
    if isinstance(tree, dict):
        for key, inner in tree.items():
            yield from places(inner, (*path, key))


PLACES = [path for path in places(SOUND) if path]


def changed(path, value, key=None):
    tree = json.loads(json.dumps(SOUND))
    place = tree
    for part in path[:-1]:
        place = place[part]
    place[path[-1] if key is None else key] = value
    return tree


@pytest.fixture(scope="module")
def folder():
    with tempfile.TemporaryDirectory() as made:
        yield Path(made)


@fuzz
@given(st.sampled_from(PLACES), VALUES, st.none() | st.text(max_size=6))
def test_recipes_with_any_value_or_key(folder, path, value, key) -> None:
    file = folder / "recipe.yaml"
    file.write_text(yaml.safe_dump(changed(path, value, key)), encoding="utf-8")
    recipe = attempt(lambda: load_recipe(file))
    if recipe is not None:
        assert isinstance(recipe, Recipe)
        file.write_text(recipe.to_yaml(), encoding="utf-8")
        assert load_recipe(file).to_yaml() == recipe.to_yaml()
        assert all("/" not in name and name != ".." for name in recipe.data.test)


@fuzz
@given(st.binary(max_size=60) | st.text("[]{}:&*!-?|>'\"#%@,\n\t a1.~<", max_size=40))
def test_recipes_of_any_bytes(folder, content) -> None:
    file = folder / "bytes.yaml"
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    assert attempt(lambda: load_recipe(file)) is None


@pytest.mark.parametrize(
    "text",
    [
        "!!python/object/apply:os.mkdir [ran]",
        "data: !!python/name:os.system ''",
        "a: &a [*a]",
        "data: &d {train: *d}",
        "base: recipe_of_itself.yaml",
        "base: ../../../../../../etc/hostname",
        "base: [1]",
        "data: 2001-99-99",
        "[" * 1500,
        "{a: " * 1500,
        "a: &a [x,x]\nb: &b [*a,*a]\nc: &c [*b,*b]\nd: [*c,*c]",
    ],
)
def test_hostile_recipes(folder, text, monkeypatch) -> None:
    monkeypatch.chdir(folder)
    file = folder / "recipe_of_itself.yaml"
    file.write_text(text)
    assert attempt(lambda: load_recipe(file)) is None
    assert not (folder / "ran").exists()


@fuzz
@given(st.lists(st.text(max_size=25), max_size=3))
def test_overrides_of_any_text(folder, overrides) -> None:
    file = folder / "sound.yaml"
    file.write_text(yaml.safe_dump(SOUND), encoding="utf-8")
    attempt(lambda: load_recipe(file, overrides))


LINES = st.one_of(
    st.binary(max_size=80),
    st.text(max_size=60).map(lambda text: text.encode("utf-8", "surrogatepass")),
    st.lists(VALUES, max_size=4).map(
        lambda rows: "\n".join(json.dumps(row) for row in rows).encode()
    ),
    st.lists(st.dictionaries(st.sampled_from(["en", "de", "translation"]), VALUES), max_size=4).map(
        lambda rows: "\n".join(json.dumps(row) for row in rows).encode()
    ),
    st.sampled_from([b"[" * 100_000, b'{"en": ' * 50_000, b'{"en": "\\ud800", "de": "x"}',
                     b'{"en": "x", "de": ' + b"9" * 5000 + b"}", b"\xef\xbb\xbf", b"a\tb\tc\n"]),
)  # fmt: skip
ENDINGS = st.sampled_from([".txt", ".tsv", ".jsonl", ".txt.gz", ".tsv.gz", ".jsonl.gz", ".gz", ""])


@fuzz
@given(LINES, LINES, ENDINGS, st.data())
def test_text_files_of_any_content(folder, one, two, ending, data) -> None:
    files = [folder / f"one{ending}", folder / f"two{ending}"]
    for file, content in zip(files, (one, two), strict=True):
        if ending.endswith(".gz") and data.draw(st.booleans()):
            packed = bytearray(gzip.compress(content))
            if data.draw(st.booleans()):
                packed[data.draw(st.integers(0, len(packed) - 1))] ^= data.draw(st.integers(1, 255))
            content = bytes(packed[: data.draw(st.integers(0, len(packed)))])
        file.write_bytes(content)
    if data.draw(st.booleans()):
        source = DataSource(files=tuple(map(str, files)))
    else:
        source = DataSource(file=str(files[0]), fields=data.draw(st.none() | st.just(("en", "de"))))
    text = attempt(lambda: load_pairs(source))
    if text is not None:
        assert len(text.source) == len(text.target) > 0
        "".join(text.source + text.target).encode()  # text that can be written
