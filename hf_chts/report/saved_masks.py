"""The links of a saved model, read from its files without building the model."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool
from safetensors import SafetensorError, safe_open

Mask = Bool[np.ndarray, "out in"]
Shape = tuple[int, int]
_DAMAGE = OSError, ValueError, TypeError, AttributeError, OverflowError


def read_masks(folder: Path) -> dict[str, Mask]:
    """Masks of the sparse layers of a saved model; none if all its layers are dense.

    Raises:
        ValueError: If the files are missing or damaged.
    """
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        saved = (config.get("quantization_config") or {}).get("layers") or {}
        layers = {str(name): (int(n_out), int(n_in)) for name, (n_out, n_in) in saved.items()}
        masks = dict(_masks(sorted(folder.glob("*.safetensors")), layers)) if layers else {}
    except (*_DAMAGE, SafetensorError) as error:
        raise ValueError(f"{folder.name}/ cannot be read: {error}") from None
    if missing := sorted(layers.keys() - masks.keys()):
        raise ValueError(f"{folder.name}/ lacks the links of {len(missing)} layers: {missing[0]}")
    return {name: masks[name] for name in layers}


def _masks(files: list[Path], layers: Mapping[str, Shape]) -> Iterator[tuple[str, Mask]]:
    for path in files:
        with safe_open(path, "np") as tensors:
            held = {key.rpartition(".")[0] for key in tensors.keys()}  # noqa: SIM118
            for name in layers.keys() & held:
                yield name, _mask(tensors, name, layers[name])


def _mask(tensors: Any, name: str, shape: Shape) -> Mask:
    starts = tensors.get_tensor(f"{name}.crow_indices").astype(np.int64)
    columns = tensors.get_tensor(f"{name}.col_indices").astype(np.int64)
    n_out, n_in = shape
    whole = starts.shape == (n_out + 1,) and starts[0] == 0 and starts[-1] == len(columns)
    if not whole or (np.diff(starts) < 0).any() or not ((columns >= 0) & (columns < n_in)).all():
        raise ValueError(f"the links of {name} do not fit {n_out} x {n_in} neurons")
    mask = np.zeros(shape, dtype=bool)
    mask[np.repeat(np.arange(n_out), np.diff(starts)), columns] = True
    return mask
