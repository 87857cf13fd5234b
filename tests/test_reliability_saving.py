"""Files and folders that stand whole or not at all."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
from contextlib import contextmanager

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from hf_chts.safe_saving import (
    CHECKSUMS,
    UNFINISHED,
    checkpoints,
    discard,
    refuse_damaged,
    rotate,
    seal,
    step_of,
    sweep,
    what_is_damaged,
    whole_folder,
    write_text,
)


@contextmanager
def small_files(n_bytes: int):
    """No file may grow beyond so many bytes: what a full disk does, for this process alone."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (n_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def sealed(folder, step):
    path = folder / f"checkpoint-{step}"
    (path / "inner").mkdir(parents=True)
    (path / "a.txt").write_text(f"step {step}")
    (path / "inner" / "b.bin").write_bytes(bytes(range(100)))
    seal(path)
    return path


def test_text_is_replaced_whole(tmp_path) -> None:
    path = tmp_path / "a.txt"
    write_text(path, "old")
    with (
        small_files(10),
        pytest.raises(OSError, match=r"a\.txt could not be written .* bytes are free there"),
    ):
        write_text(path, "new" * 100)
    assert path.read_text() == "old"
    write_text(path, "ä")
    assert path.read_text(encoding="utf-8") == "ä"
    assert os.listdir(tmp_path) == ["a.txt"]


def fill(path, kind) -> None:
    with whole_folder(path) as staged:
        (staged / "first").touch()
        if kind == "text":
            (staged / "second").write_text("x" * 1000)
        elif kind == "torch":
            torch.save(torch.zeros(1000), staged / "second")
        elif kind == "safetensors":
            save_file({"x": torch.zeros(1000)}, staged / "second")
        elif kind == "other":
            raise KeyError(kind)


@pytest.mark.parametrize("kind", ["text", "torch", "safetensors", "other"])
def test_a_folder_is_replaced_whole(tmp_path, kind) -> None:
    path = tmp_path / "model"
    fill(path, "nothing")
    (path / "first").rename(path / "old")
    expected = KeyError if kind == "other" else OSError
    with small_files(100), pytest.raises(expected, match=r"model could not be written|other"):
        fill(path, kind)
    assert os.listdir(path) == ["old"]
    fill(path, "nothing")
    assert os.listdir(path) == ["first"]
    assert os.listdir(tmp_path) == ["model"]


KILLED = """
import os, pathlib, signal, sys
from hf_chts.safe_saving import whole_folder

rename, calls = os.rename, []

def dying(*args):
    calls.append(args)
    if len(calls) == int(sys.argv[2]):
        os.kill(os.getpid(), signal.SIGKILL)
    rename(*args)

os.rename = dying
with whole_folder(pathlib.Path(sys.argv[1])) as staged:
    (staged / "new").touch()
"""


@pytest.mark.parametrize(("call", "left"), [(1, "old"), (2, "old"), (3, "new")])
def test_a_process_killed_while_it_replaces_a_folder_leaves_one_whole(tmp_path, call, left) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "old").touch()
    command = [sys.executable, "-c", KILLED, str(tmp_path / "model"), str(call)]
    assert subprocess.run(command, check=False).returncode == (-signal.SIGKILL if call < 3 else 0)
    sweep(tmp_path)
    assert os.listdir(tmp_path) == ["model"]
    assert os.listdir(tmp_path / "model") == [left]


def test_a_folder_that_cannot_take_its_place_leaves_the_older_one(tmp_path, monkeypatch) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "old").touch()
    rename = os.rename

    def refusing(source, target):
        if source.name == "model" and source.parent.name == UNFINISHED:
            raise OSError("no such luck")
        rename(source, target)

    monkeypatch.setattr(os, "rename", refusing)
    with (
        pytest.raises(OSError, match=r"could not be written \(no such luck"),
        whole_folder(tmp_path / "model") as staged,
    ):
        (staged / "new").touch()
    assert os.listdir(tmp_path) == ["model"]
    assert os.listdir(tmp_path / "model") == ["old"]


def test_what_a_killed_process_had_discarded_stays_away(tmp_path) -> None:
    (tmp_path / UNFINISHED / "model.old").mkdir(parents=True)
    sweep(tmp_path)
    assert os.listdir(tmp_path) == []


def test_leftovers_of_a_killed_process_are_in_nobodys_way(tmp_path) -> None:
    left = tmp_path / UNFINISHED
    (left / "model").mkdir(parents=True)
    (left / "model" / "half").touch()
    (left / "model.replaced").mkdir()
    with whole_folder(tmp_path / "model") as staged:
        assert os.listdir(staged) == []
    with whole_folder(tmp_path / "model"):
        pass
    assert os.listdir(tmp_path) == ["model"]


def test_discarding_follows_no_link(tmp_path) -> None:
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept" / "file").touch()
    (tmp_path / "link").symlink_to(tmp_path / "kept")
    discard(tmp_path / "link")
    assert os.listdir(tmp_path / "kept") == ["file"]
    assert not (tmp_path / "link").is_symlink()


def test_damage_is_named(tmp_path) -> None:
    path = sealed(tmp_path, 7)
    assert what_is_damaged(path) is None
    (path / "notes.txt").write_text("of the user")
    assert what_is_damaged(path) is None
    data = (path / "inner" / "b.bin").read_bytes()
    (path / "inner" / "b.bin").write_bytes(data[:40])
    assert what_is_damaged(path) == "inner/b.bin has 40 of 100 bytes"
    (path / "inner" / "b.bin").write_bytes(data[:99] + b"x")
    assert what_is_damaged(path) == "inner/b.bin has changed since it was written"
    (path / "inner" / "b.bin").unlink()
    sealed(tmp_path, 3)
    with pytest.raises(
        ValueError, match=r"-7 is damaged: inner/b.bin is missing; before it there is checkpoint-3"
    ):
        refuse_damaged(path)
    (path / CHECKSUMS).unlink()
    assert what_is_damaged(path) == "it has no checksums.json, which is written last"
    assert what_is_damaged(tmp_path / "checkpoint-9") == "it is not there"


@pytest.mark.parametrize(
    "text", ["", "[", "[1]", '{"a": 1}', '{"a": ["x", 2]}', "[" * 9999, "\udc80"]
)
def test_damaged_lists_are_named(tmp_path, text) -> None:
    path = sealed(tmp_path, 1)
    (path / CHECKSUMS).write_text(text, errors="surrogateescape")
    assert what_is_damaged(path) == "checksums.json cannot be read"


@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_every_changed_byte_is_found(tmp_path, data) -> None:
    path = tmp_path / "checkpoint-1"
    if not path.exists():
        sealed(tmp_path, 1)
    name = data.draw(st.sampled_from(["a.txt", "inner/b.bin"]))
    before = (path / name).read_bytes()
    place = data.draw(st.integers(0, len(before) - 1))
    changed = bytearray(before)
    changed[place] ^= data.draw(st.integers(1, 255))
    (path / name).write_bytes(changed)
    assert name in what_is_damaged(path)
    (path / name).write_bytes(before)
    assert what_is_damaged(path) is None


def test_steps_are_those_of_names(tmp_path) -> None:
    for name in ("checkpoint-10", "checkpoint-9", "checkpoint-best", "checkpoint-", "checkpoint-٣"):
        (tmp_path / name).mkdir()
    (tmp_path / "checkpoint-4").touch()
    assert list(checkpoints(tmp_path)) == [9, 10]
    assert step_of(tmp_path) == -1
    assert checkpoints(tmp_path / "nowhere") == {}


@pytest.mark.parametrize(
    ("limit", "latest", "best", "left"),
    [
        (None, 40, None, [10, 20, 30, 40]),
        (0, 40, None, [10, 20, 30, 40]),
        (2, 40, None, [30, 40]),
        (2, 40, 10, [10, 40]),
        (1, 40, 10, [10, 40]),
        (1, 40, 40, [40]),
        (1, 40, None, [40]),
        (1, 40, 99, [40]),
        (3, 40, 99, [20, 30, 40]),
        (2, 20, 10, [10, 20]),  # 30 and 40 are of a course that was given up
        (3, 20, 10, [10, 20, 40]),
        (3, 30, None, [10, 20, 30]),  # 40 counts as the oldest
        (5, 40, 10, [10, 20, 30, 40]),
        (9, 40, 10, [10, 20, 30, 40]),
    ],
)
def test_rotation(tmp_path, limit, latest, best, left) -> None:
    for step in (10, 20, 30, 40):
        sealed(tmp_path, step)
    rotate(tmp_path, limit, latest, best)
    assert list(checkpoints(tmp_path)) == left
    assert not (tmp_path / UNFINISHED).exists()


def test_the_list_names_every_file(tmp_path) -> None:
    listed = json.loads((sealed(tmp_path, 1) / CHECKSUMS).read_text())
    assert {name: size for name, (size, _) in listed.items()} == {"a.txt": 6, "inner/b.bin": 100}
