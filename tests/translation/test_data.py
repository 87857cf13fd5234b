from __future__ import annotations

import gzip
import json
import sys
from pathlib import Path

import pytest

from hf_chts.config import from_mapping
from hf_chts.translation.data import (
    DataSource,
    load_dataset_pairs,
    load_file,
    load_files,
    load_pairs,
)

MULTI30K = Path(__file__).resolve().parents[3] / "shared" / "data" / "multi30k"


def write(path: Path, text: str | bytes) -> Path:
    data = text if isinstance(text, bytes) else text.encode()
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return path


@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_files_split_on_newline_only(tmp_path: Path, suffix: str) -> None:
    en = write(tmp_path / f"a.en{suffix}", "\ufeffa\u2028b\x0bc\r\n\nlast")
    de = write(tmp_path / f"a.de{suffix}", "A\u0085B\n \nEnde\n")
    text = load_files(en, de)
    assert text.source == ["a\u2028b\x0bc", "", "last"]
    assert text.target == ["A\u0085B", " ", "Ende"]
    assert "a.en" in text.origin
    assert len(text) == 3


@pytest.mark.parametrize("name", ["pairs.tsv", "pairs.tsv.gz", "en.de.jsonl", "p.jsonl.gz"])
def test_one_file_of_pairs(tmp_path: Path, name: str) -> None:
    rows = ["a\tA", "b\tB"]
    if "jsonl" in name:
        rows = [json.dumps({"en": "a", "de": "A"})]
        rows += [json.dumps({"translation": {"en": "b", "de": "B", "fr": "x"}, "id": 2})]
    text = load_file(write(tmp_path / name, "\n".join(rows)), ("en", "de"))
    assert (text.source, text.target) == (["a", "b"], ["A", "B"])


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("x.tsv", "a\tA\nb\n", r"x\.tsv, line 2: expected 2 columns, found 1"),
        ("x.tsv", "a\tA\tz\n", r"line 1: expected 2 columns, found 3"),
        ("x.tsv", "", r"x\.tsv is empty"),
        ("x.tsv", b"ab\tc\n\xc3\xa4\xff\tb\n", r"not UTF-8 at byte 7, line 2"),
        ("x.jsonl", '{"en": "a", "de": "A"}\n[1]', r"line 2: expected a JSON object"),
        ("x.jsonl", '{"en": "a"}', r"line 1: expected text in field 'de', found None"),
        ("x.jsonl", '{"en": 1, "de": "A"}', r"field 'en', found 1"),
        ("x.jsonl", "{en", r"x\.jsonl, line 1: not JSON"),
        ("x.csv", "a,b", r"x\.csv: a file of pairs ends in"),
        ("noextension", "a,b", r"a file of pairs ends in"),
    ],
)
def test_malformed_file(tmp_path: Path, name: str, content: str | bytes, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        load_file(write(tmp_path / name, content), ("en", "de"))


def test_jsonl_needs_fields(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="takes fields"):
        load_file(write(tmp_path / "x.jsonl", "{}"))


def test_unequal_number_of_lines(tmp_path: Path) -> None:
    en, de = write(tmp_path / "x.en", "a\nb\nc\n"), write(tmp_path / "x.de", "A\n")
    with pytest.raises(ValueError, match=r"x\.en has 3 lines but .*x\.de has 1"):
        load_files(en, de)


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="nowhere"):
        load_files(tmp_path / "nowhere.en", tmp_path / "nowhere.de")


@pytest.mark.parametrize("damage", [lambda d: d[:-12], lambda d: b"plain text", lambda d: d[:14]])
def test_damaged_gzip(tmp_path: Path, damage) -> None:
    path = tmp_path / "x.tsv.gz"
    path.write_bytes(damage(gzip.compress(b"a\tA\n" * 50)))
    with pytest.raises(ValueError, match="not a whole gzip file"):
        load_file(path)


@pytest.mark.parametrize("nested", [True, False])
@pytest.mark.parametrize("kind", ["jsonl", "parquet"])
def test_local_data_set(tmp_path: Path, monkeypatch, nested: bool, kind: str) -> None:
    datasets = pytest.importorskip("datasets")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    rows = [{"en": f"s{i}", "de": f"t{i}"} for i in range(4)]
    data = datasets.Dataset.from_list([{"translation": r} if nested else r for r in rows])
    folder = tmp_path / "corpus"
    folder.mkdir()
    getattr(data, {"jsonl": "to_json", "parquet": "to_parquet"}[kind])(folder / f"train.{kind}")
    text = load_dataset_pairs(str(folder), None, "train", ("de", "en"))
    assert text.source == ["t0", "t1", "t2", "t3"]
    assert text.target == ["s0", "s1", "s2", "s3"]
    spec = DataSource(dataset=str(folder), fields=["en", "de"], max_pairs=2)
    assert load_pairs(spec).source == ["s0", "s1"]
    with pytest.raises(ValueError, match=r"line 1: .*field 'fr', found None; the fields are"):
        load_dataset_pairs(str(folder), None, "train", ("en", "fr"))


def test_datasets_missing(monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(ImportError, match="pip install datasets"):
        load_dataset_pairs("wmt/wmt14", "de-en", "train", ("de", "en"))


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({}, "exactly one of files, file, dataset and corpus; got none"),
        ({"file": "a.tsv", "corpus": "embedded"}, "got file, corpus"),
        ({"files": ["a"]}, "files takes two names"),
        ({"file": "a.jsonl", "fields": ["en", "de", "fr"]}, "fields takes two names"),
        ({"corpus": "europarl"}, "corpus takes 'embedded'"),
        ({"dataset": "wmt/wmt17"}, "a dataset takes fields"),
        ({"file": "a.tsv", "max_pairs": 0}, "max_pairs must be at least 1; got 0"),
        ({"file": 3}, "file takes"),
        ({"fil": "a.tsv"}, "did you mean"),
    ],
)
def test_bad_specification(spec: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        from_mapping(DataSource, spec)


def test_specification_from_a_recipe(tmp_path: Path) -> None:
    en, de = write(tmp_path / "x.en", "a\nb\nc\n"), write(tmp_path / "x.de", "A\nB\nC\n")
    spec = from_mapping(DataSource, {"files": [str(en), str(de)], "max_pairs": 2})
    text = load_pairs(spec)
    assert (text.source, text.target) == (["a", "b"], ["A", "B"])
    tsv = write(tmp_path / "x.tsv", "a\tA\n")
    assert load_pairs(from_mapping(DataSource, {"file": str(tsv)})).target == ["A"]


def test_embedded_corpus() -> None:
    text = load_pairs(DataSource(corpus="embedded", split="validation", max_pairs=5))
    assert len(text.source) == len(text.target) == 5
    train = load_pairs(DataSource(corpus="embedded", max_pairs=30))
    assert len(train) == 30
    assert train.source[:9] == load_pairs(DataSource(corpus="embedded", max_pairs=9)).source
    assert not set(train.source) & set(text.source)
    with pytest.raises(ValueError, match="no split 'dev'"):
        load_pairs(DataSource(corpus="embedded", split="dev"))


@pytest.mark.skipif(not MULTI30K.is_dir(), reason="no shared/data/multi30k beside the project")
def test_multi30k() -> None:
    text = load_files(MULTI30K / "train.en.gz", MULTI30K / "train.de.gz")
    assert len(text) == len(text.target) == 29_000
    assert all(line.strip() for line in text.source + text.target)
