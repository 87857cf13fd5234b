"""Parallel text from files, data sets and the embedded corpus, read strictly.

Reading keeps every line, so that line numbers and test sets stay whole. What training leaves out
is decided, counted and reported by :func:`hf_chts.translation.encode.encode`.
"""

from __future__ import annotations

import gzip
import itertools
import json
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hf_chts.config import check_types


@dataclass(frozen=True)
class ParallelText:
    """Sentences and their translations; entry ``i`` comes from line (or row) ``i + 1``.

    Attributes:
        source: Source sentences, as many as there are targets.
        target: Target sentences.
        origin: Where they come from, for reports.
    """

    source: list[str]
    target: list[str]
    origin: str

    def __len__(self) -> int:
        return len(self.source)


@dataclass(frozen=True)
class DataSource:
    """Where parallel text comes from, as a recipe says it: one of the first four, and details.

    Attributes:
        files: Two line-aligned text files, source first; ``.gz`` is unpacked.
        file: One file of pairs: ``.tsv`` (two columns) or ``.jsonl`` (with ``fields``), also
            ``.gz``.
        dataset: Hub id of a data set, or a local folder that ``datasets`` can load.
        corpus: ``"embedded"``, the corpus of this package.
        config: Configuration of ``dataset``, for example ``"de-en"``.
        split: Split of ``dataset`` or ``corpus``, for example ``"train"``.
        fields: Names of the source and the target field in rows of ``.jsonl`` and ``dataset``, at
            the top level or under ``"translation"``, for example ``["en", "de"]``.
        max_pairs: Take the first so many pairs, at least 1; None: all. Of the embedded training
            split any number can be had; None: its default size.
    """

    files: tuple[str, ...] | None = None
    file: str | None = None
    dataset: str | None = None
    corpus: str | None = None
    config: str | None = None
    split: str = "train"
    fields: tuple[str, ...] | None = None
    max_pairs: int | None = None

    def __post_init__(self) -> None:
        check_types(self)
        given = [n for n in ("files", "file", "dataset", "corpus") if getattr(self, n) is not None]
        if len(given) != 1:
            raise ValueError(
                "a data source takes exactly one of files, file, dataset and corpus; got "
                f"{', '.join(given) or 'none'}"
            )
        for name in ("files", "fields"):
            value = getattr(self, name)
            if value is not None:
                if len(value) != 2:
                    raise ValueError(f"{name} takes two names, source and target; got {value!r}")
                object.__setattr__(self, name, tuple(value))
        if self.corpus not in (None, "embedded"):
            raise ValueError(f"corpus takes 'embedded'; got {self.corpus!r}")
        if self.dataset is not None and self.fields is None:
            raise ValueError("a dataset takes fields, the names of its source and target field")
        if self.max_pairs is not None and self.max_pairs < 1:
            raise ValueError(f"max_pairs must be at least 1; got {self.max_pairs}")


def load_pairs(spec: DataSource) -> ParallelText:
    """Read the pairs that a recipe names.

    Raises:
        ValueError: If the data are empty or malformed.
        FileNotFoundError: If a file is missing.
        ImportError: If ``datasets`` is needed and not installed.
    """
    if spec.files is not None:
        text = load_files(*spec.files)
    elif spec.file is not None:
        text = load_file(spec.file, spec.fields)
    elif spec.dataset is not None and spec.fields is not None:
        return load_dataset_pairs(
            spec.dataset, spec.config, spec.split, spec.fields, spec.max_pairs
        )
    else:
        text = _load_corpus(spec.split, spec.max_pairs)
    n = spec.max_pairs
    return ParallelText(text.source[:n], text.target[:n], text.origin)


def load_files(source_path: str | Path, target_path: str | Path) -> ParallelText:
    r"""Read two line-aligned UTF-8 text files; lines end at ``\n`` (or ``\r\n``) only.

    Args:
        source_path: Plain text; gzip if the name ends in ``.gz``.
        target_path: Likewise, with as many lines.

    Raises:
        ValueError: If a file is empty, not UTF-8 or not gzip, or the line counts differ.
        FileNotFoundError: If a file is missing.
    """
    source, target = read_lines(source_path), read_lines(target_path)
    if len(source) != len(target):
        raise ValueError(
            f"{source_path} has {len(source)} lines but {target_path} has {len(target)}; line i of "
            "one must translate line i of the other"
        )
    return ParallelText(source, target, f"{source_path} and {target_path}")


def load_file(path: str | Path, fields: tuple[str, ...] | None = None) -> ParallelText:
    """Read pairs from one ``.tsv`` or ``.jsonl`` file, plain or ``.gz``.

    Args:
        path: The file. A line of ``.tsv`` is source, tab, target; one of ``.jsonl`` is an object.
        fields: Names of the source and target field of ``.jsonl``.

    Raises:
        ValueError: If the extension is unknown, or a line is malformed.
        FileNotFoundError: If the file is missing.
    """
    suffixes = [suffix for suffix in Path(path).suffixes if suffix != ".gz"]
    kind = suffixes[-1] if suffixes else ""
    if kind not in (".tsv", ".jsonl"):
        raise ValueError(f"{path}: a file of pairs ends in .tsv, .jsonl, .tsv.gz or .jsonl.gz")
    if kind == ".tsv":
        pairs = [_tsv_pair(path, n, line) for n, line in enumerate(read_lines(path), 1)]
        return _parallel(pairs, str(path))
    if fields is None:
        raise ValueError(f"{path}: .jsonl takes fields, the names of its source and target field")
    rows = (_json_row(path, n, line) for n, line in enumerate(read_lines(path), 1))
    return _parallel(_row_pairs(rows, fields, str(path)), str(path))


def load_dataset_pairs(
    path: str,
    config: str | None,
    split: str,
    fields: tuple[str, ...],
    max_pairs: int | None = None,
) -> ParallelText:
    """Read pairs through ``datasets``.

    Args:
        path: Hub id, for example ``"wmt/wmt17"``, or a local folder of data files.
        config: Configuration, for example ``"de-en"``; None: the only one.
        split: Split, for example ``"train"``.
        fields: Names of the source and target field, at the top level of a row or under
            ``"translation"``.
        max_pairs: Take the first so many rows.

    Raises:
        ImportError: If ``datasets`` is not installed.
        ValueError: If the split is empty, or a row lacks a field.
    """
    try:
        import datasets
    except ImportError as error:
        raise ImportError(f"reading {path} takes datasets: pip install datasets") from error
    try:
        rows = datasets.load_dataset(path, config, split=split)
    except (RuntimeError, datasets.exceptions.DatasetsError) as error:
        raise ValueError(f"{path} is no data set that can be read: {error}") from error
    origin = " ".join(filter(None, (path, config, split)))
    return _parallel(_row_pairs(itertools.islice(rows, max_pairs), fields, origin), origin)


def _load_corpus(split: str, max_pairs: int | None) -> ParallelText:
    """One split of the embedded corpus."""
    from hf_chts.translation import corpus

    if split == "train":
        splits = corpus.splits() if max_pairs is None else corpus.splits(n_train=max_pairs)
    else:
        splits = corpus.splits(n_train=1)  # the others do not depend on it
    if split not in splits:
        raise ValueError(f"the embedded corpus has no split {split!r}; it has {', '.join(splits)}")
    return _parallel(splits[split], f"embedded corpus {split}")


def _parallel(pairs: Iterable[tuple[str, str]], origin: str) -> ParallelText:
    """Pairs as two lists; empty data are refused."""
    pairs = list(pairs)
    if not pairs:
        raise ValueError(f"{origin} holds no pairs")
    return ParallelText([s for s, _ in pairs], [t for _, t in pairs], origin)


def read_lines(path: str | Path) -> list[str]:
    """All lines of a UTF-8 text file, plain or gzip, split at line feeds only.

    Raises:
        ValueError: If the file is empty, not UTF-8 or not gzip.
        FileNotFoundError: If it is missing.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file")
    data = path.read_bytes()
    if path.suffix == ".gz":
        try:
            data = gzip.decompress(data)
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            raise ValueError(f"{path}: not a whole gzip file ({error})") from error
    return lines_of(data, str(path))


def lines_of(data: bytes, name: str) -> list[str]:
    """All lines of UTF-8 text, split at line feeds only; the last one may lack its own.

    Args:
        data: The text.
        name: What errors call it.

    Raises:
        ValueError: If it is empty or not UTF-8.
    """
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ValueError(
            f"{name}: not UTF-8 at byte {error.start}, line {line} ({error.reason}); convert it"
        ) from error
    lines = text.removeprefix("\ufeff").split("\n")
    if lines[-1] == "":
        lines.pop()
    if not lines:
        raise ValueError(f"{name} is empty")
    return [line.removesuffix("\r") for line in lines]


def _tsv_pair(path: str | Path, number: int, line: str) -> tuple[str, str]:
    columns = line.split("\t")
    if len(columns) != 2:
        raise ValueError(f"{path}, line {number}: expected 2 columns, found {len(columns)}")
    return columns[0], columns[1]


def _json_row(path: str | Path, number: int, line: str) -> Mapping[str, Any]:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path}, line {number}: not JSON ({error})") from error
    if not isinstance(row, dict):
        raise ValueError(f"{path}, line {number}: expected a JSON object, found {line[:40]!r}")
    return row


def _row_pairs(
    rows: Iterable[Mapping[str, Any]], fields: tuple[str, ...], origin: str
) -> list[tuple[str, str]]:
    """The two fields of each row, which may lie under ``translation``."""
    pairs = []
    for number, row in enumerate(rows, 1):
        inner = row.get("translation")
        row = inner if isinstance(inner, dict) else row
        for field in fields:
            if not _is_text(row.get(field)):
                raise ValueError(
                    f"{origin}, line {number}: expected text in field {field!r}, found "
                    f"{row.get(field)!a:.80}; the fields are {', '.join(map(ascii, row)):.200}"
                )
        pairs.append((row[fields[0]], row[fields[1]]))
    return pairs


def _is_text(value: Any) -> bool:
    """Whether a value is text that can be written; JSON may hold halves of characters."""
    try:
        return isinstance(value, str) and value.encode() is not None
    except UnicodeEncodeError:
        return False
