"""Text in the literature's form, by ``scripts/lowercase_moses.py``."""

from __future__ import annotations

import gzip
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("sacremoses", reason='needs pip install "hf-chts[bench]"')
SCRIPT = Path(__file__).resolve().parents[1] / "scripts" / "lowercase_moses.py"


def run(*folders: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(SCRIPT), *map(str, folders)]
    return subprocess.run(command, capture_output=True, text=True)


@pytest.fixture
def folder(tmp_path) -> Path:
    text = tmp_path / "text"
    text.mkdir()
    with gzip.open(text / "val.en.gz", "wt", encoding="utf-8", newline="") as out:
        out.write("The Dog\u2019s ball, it\u2019s “red.”\nA\u2028B\n\nTwo  men.\n")
    return text


def test_lines_stay_lines_and_tokens_stand_apart(folder, tmp_path) -> None:
    assert run(folder, tmp_path / "out").returncode == 0
    with gzip.open(tmp_path / "out" / "val.en.gz", "rt", encoding="utf-8", newline="") as lines:
        assert lines.read().split("\n") == [
            "the dog 's ball , it 's \" red . \"",
            "a b",
            "",
            "two men .",
            "",
        ]


def test_the_text_itself_is_never_overwritten(folder) -> None:
    before = (folder / "val.en.gz").read_bytes()
    done = run(folder, folder)
    assert done.returncode == 2
    assert "OUTPUT is FOLDER: give another" in done.stderr
    assert (folder / "val.en.gz").read_bytes() == before


def test_a_folder_without_text_is_refused(tmp_path) -> None:
    done = run(tmp_path, tmp_path / "out")
    assert done.returncode == 2
    assert "no file NAME.LANGUAGE.gz in" in done.stderr
    assert not (tmp_path / "out").exists()
