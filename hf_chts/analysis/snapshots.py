"""The links of a run over time, as plain files: ``network.json`` and ``snapshots/step-*.npz``.

``network.json`` holds the shapes of the layers and the groups of neurons between them
(:mod:`hf_chts.analysis.neurons`)::

    {"layers": {NAME: [out, in], ...}, "groups": [[[{"layer": NAME, "axis": "out", "index": null},
    ...], ...], ...]}

Each snapshot holds the active links after one optimizer step, an array a layer of one bit a link,
``numpy.packbits(mask, axis=1)``: uint8, shape (out, ceil(in / 8)). Step 0 is the start.
"""

from __future__ import annotations

import json
import os
import re
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, UInt8

Packed = UInt8[np.ndarray, "out bytes"]
Groups = Sequence[Sequence[Sequence[Mapping[str, Any]]]]

NETWORK_FILE = "network.json"
FOLDER = "snapshots"
_DAMAGE: tuple[type[Exception], ...] = (
    *(OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error),
    *(TypeError, AttributeError),  # numpy reads a lone array, which is no archive
)
_NAME = re.compile(r"step-(\d{8,})\.npz")


@dataclass(frozen=True)
class Snapshots:
    """A run's snapshots, read one at a time.

    Attributes:
        folder: The run's folder.
        layers: Shape (out, in) of each layer, by name.
        groups: Neurons between the layers.
        steps: Optimizer steps that there is a snapshot of, rising.
    """

    folder: Path
    layers: dict[str, tuple[int, int]]
    groups: Groups
    steps: tuple[int, ...]

    def masks(self, step: int) -> dict[str, Bool[np.ndarray, "out in"]]:
        """Active links of all layers after a step.

        Raises:
            ValueError: If there is no snapshot of the step, or it is damaged or does not hold
                these layers.
        """
        if step not in self.steps:
            raise ValueError(f"no snapshot of step {step} in {self.folder}; there are {self.steps}")
        packed = self._read(step)
        return {name: unpack(packed[name], shape[1]) for name, shape in self.layers.items()}

    def _read(self, step: int) -> dict[str, Packed]:
        """The arrays of a snapshot, with the names and shapes they must have."""
        path = snapshot_path(self.folder, step)
        try:
            with np.load(path, allow_pickle=False) as archive:
                found = {name: np.asarray(archive[name]) for name in archive.files}
        except _DAMAGE as error:
            raise ValueError(f"{path} is no whole snapshot: {error}") from error
        if differing := sorted(found.keys() ^ self.layers.keys()):
            raise ValueError(
                f"{path} and {NETWORK_FILE} differ in {len(differing)} layers "
                f"(first: {differing[0]})"
            )
        for name, (n_out, n_in) in self.layers.items():
            bits, shape = found[name], (n_out, -(-n_in // 8))
            if bits.dtype != np.uint8 or bits.shape != shape:
                raise ValueError(
                    f"{path} holds {bits.dtype} of shape {bits.shape} for {name}; "
                    f"expected uint8 of shape {shape}"
                )
        return found


def load_snapshots(folder: str | Path) -> Snapshots:
    """Find the snapshots of a run.

    Args:
        folder: The run's folder, with ``network.json``.

    Raises:
        ValueError: If there is no ``network.json``, or it is not as this module describes.
    """
    folder = Path(folder)
    path = folder / NETWORK_FILE
    if not path.is_file():
        raise ValueError(f"{folder} holds no {NETWORK_FILE}: was the run made without a monitor?")
    try:
        network = json.loads(path.read_text(encoding="utf-8"))
        layers = {name: (int(out), int(inp)) for name, (out, inp) in network["layers"].items()}
        groups = [
            [
                [{key: end[key] for key in ("layer", "axis", "index")} for end in side]
                for side in group
            ]
            for group in network["groups"]
        ]
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError) as error:
        raise ValueError(f"{path} does not describe layers and groups: {error!r}") from error
    return Snapshots(folder, layers, groups, tuple(_steps(folder)))


def pack(mask: Bool[np.ndarray, "out in"]) -> Packed:
    """One bit a link, each row from a byte of its own."""
    packed: Packed = np.packbits(mask, axis=1)
    return packed


def unpack(packed: Packed, in_features: int) -> Bool[np.ndarray, "out in"]:
    """The mask that was packed."""
    return np.unpackbits(packed, axis=1, count=in_features).astype(bool)


def snapshot_path(folder: Path, step: int) -> Path:
    """Where the snapshot of a step lies."""
    return folder / FOLDER / f"step-{step:08d}.npz"


def start_snapshots(
    folder: Path, layers: Mapping[str, tuple[int, int]], groups: Groups, step: int
) -> None:
    """Write ``network.json``, and delete snapshots that a run which is at ``step`` will redo."""
    (folder / FOLDER).mkdir(parents=True, exist_ok=True)
    for old in _steps(folder):
        if old > step or step == 0:
            snapshot_path(folder, old).unlink()
    for torn in (folder / FOLDER).glob("*.npz.part"):
        torn.unlink()
    shapes = {name: list(shape) for name, shape in layers.items()}
    text = json.dumps({"layers": shapes, "groups": groups})
    part = folder / f"{NETWORK_FILE}.part"
    part.write_text(text + "\n", encoding="utf-8")
    os.replace(part, folder / NETWORK_FILE)


def write_snapshot(folder: Path, step: int, packed: Mapping[str, Packed]) -> None:
    """Write the snapshot of a step, whole or not at all, unless it is there already."""
    path = snapshot_path(folder, step)
    if path.exists():
        return
    part = path.with_name(path.name + ".part")
    # numpy's own savez_compressed takes six times as long, to save three percent of the bytes
    with zipfile.ZipFile(part, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for name, bits in packed.items():
            with archive.open(f"{name}.npy", "w") as file:
                np.lib.format.write_array(file, bits, allow_pickle=False)
    os.replace(part, path)


def _steps(folder: Path) -> list[int]:
    names = (_NAME.fullmatch(path.name) for path in (folder / FOLDER).glob("step-*.npz"))
    return sorted(int(name[1]) for name in names if name)
