from __future__ import annotations

import io
import json
import tempfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from hf_chts.analysis.snapshots import (
    load_snapshots,
    pack,
    snapshot_path,
    start_snapshots,
    unpack,
    write_snapshot,
)

A = np.array([[1, 0, 0, 0, 0, 0, 0, 0, 1, 1], [0, 1, 0, 0, 0, 0, 0, 0, 0, 0]], dtype=bool)
GROUPS = [[[{"layer": "a", "axis": "out", "index": [1, 0]}], [{"layer": "b", "axis": "in"}]]]
GROUPS[0][1][0]["index"] = None


def run_of(folder, *steps):
    start_snapshots(folder, {"a.x": (2, 10)}, [], 0)
    for step in steps:
        write_snapshot(folder, step, {"a.x": pack(A)})
    return folder


def test_the_format(tmp_path) -> None:
    run_of(tmp_path, 0, 1200)
    network = json.loads((tmp_path / "network.json").read_text())
    assert network == {"layers": {"a.x": [2, 10]}, "groups": []}
    names = sorted(path.name for path in (tmp_path / "snapshots").iterdir())
    assert names == ["step-00000000.npz", "step-00001200.npz"]
    with np.load(tmp_path / "snapshots" / names[0]) as archive:
        assert archive.files == ["a.x"]
        assert archive["a.x"].tolist() == [[0b10000000, 0b11000000], [0b01000000, 0]]
        assert archive["a.x"].dtype == np.uint8


masks = hnp.arrays(bool, hnp.array_shapes(min_dims=2, max_dims=2, max_side=20))


@given(st.dictionaries(st.sampled_from(["fc1", "a.b", "layers.0.q"]), masks))
def test_what_was_written_is_read(layers) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        start_snapshots(folder, {name: m.shape for name, m in layers.items()}, GROUPS, 0)
        write_snapshot(folder, 3, {name: pack(m) for name, m in layers.items()})
        run = load_snapshots(name)
        assert (run.steps, run.groups) == ((3,), GROUPS)
        found = run.masks(3)
    assert list(found) == list(layers)
    for name, mask in layers.items():
        assert found[name].dtype == bool
        assert (found[name] == mask).all()
        assert (unpack(pack(mask), mask.shape[1]) == mask).all()


def test_a_run_redoes_what_came_after_its_step(tmp_path) -> None:
    run_of(tmp_path, 0, 10, 20, 30)
    torn = tmp_path / "snapshots" / "step-00000040.npz.part"
    other = tmp_path / "snapshots" / "notes.npz"
    for path in (torn, other):
        path.write_text("half")
    start_snapshots(tmp_path, {"a.x": (2, 10)}, [], 20)
    assert load_snapshots(tmp_path).steps == (0, 10, 20)
    assert not torn.exists()
    assert other.exists()
    start_snapshots(tmp_path, {"a.x": (2, 10)}, [], 0)
    assert load_snapshots(tmp_path).steps == ()


def test_a_snapshot_that_is_there_stays(tmp_path) -> None:
    run_of(tmp_path, 10)
    before = snapshot_path(tmp_path, 10).stat()
    write_snapshot(tmp_path, 10, {"a.x": pack(~A)})
    assert snapshot_path(tmp_path, 10).stat() == before


def test_folders_that_hold_no_network(tmp_path) -> None:
    with pytest.raises(ValueError, match=r"holds no network\.json"):
        load_snapshots(tmp_path)
    for text in ("{", "[]", '{"layers": {"a": [1]}, "groups": []}', '{"layers": {}}', "3"):
        (tmp_path / "network.json").write_text(text)
        with pytest.raises(ValueError, match="does not describe layers and groups"):
            load_snapshots(tmp_path)
    (tmp_path / "network.json").write_text('{"layers": {"a": [2, 3]}, "groups": [[[{}]]]}')
    with pytest.raises(ValueError, match="does not describe layers and groups"):
        load_snapshots(tmp_path)


def test_damaged_snapshots(tmp_path) -> None:
    run = load_snapshots(run_of(tmp_path, 10))
    path = snapshot_path(tmp_path, 10)
    with pytest.raises(ValueError, match=r"no snapshot of step 3 .*; there are \(10,\)"):
        run.masks(3)
    whole = path.read_bytes()
    array = io.BytesIO()
    np.save(array, A)
    changed = whole[:80] + bytes([whole[80] ^ 255]) + whole[81:]  # in the compressed data
    for damaged in (b"", whole[:40], changed, array.getvalue()):
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match="is no whole snapshot"):
            run.masks(10)
    for arrays, message in (
        ({"a.y": pack(A)}, r"differ in 2 layers \(first: a\.x\)"),
        ({"a.x": A}, r"holds bool of shape \(2, 10\) for a\.x; expected uint8 of shape \(2, 2\)"),
        ({"a.x": pack(A)[:1]}, r"expected uint8 of shape \(2, 2\)"),
    ):
        np.savez_compressed(path, **arrays)
        with pytest.raises(ValueError, match=message):
            run.masks(10)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.x", "text")
    with pytest.raises(ValueError, match=r"expected uint8 of shape \(2, 2\)"):
        run.masks(10)


def test_no_code_is_run(tmp_path) -> None:
    run = load_snapshots(run_of(tmp_path, 10))
    np.savez_compressed(snapshot_path(tmp_path, 10), **{"a.x": np.array([[print]], dtype=object)})
    with pytest.raises(ValueError, match="allow_pickle"):
        run.masks(10)


def test_names_of_any_kind(tmp_path) -> None:
    start_snapshots(tmp_path, {"file": (2, 10), "a/b": (2, 10)}, [], 0)
    write_snapshot(tmp_path, 0, {"file": pack(A), "a/b": pack(~A)})
    found = load_snapshots(tmp_path).masks(0)
    assert (found["file"] == A).all()
    assert (found["a/b"] == ~A).all()
