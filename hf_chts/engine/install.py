"""Put the links of an update in place: the only step of the engine with effects."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from jaxtyping import Bool
from torch import Tensor

from hf_chts.config import SparsityConfig
from hf_chts.engine.layer_memory import explore, historical_weights, remember_removed
from hf_chts.engine.optimizer_state import move_links
from hf_chts.engine.ranks import SharedWork
from hf_chts.engine.side_by_side import side_by_side
from hf_chts.engine.telemetry import LayerUpdate
from hf_chts.layers import structure
from hf_chts.layers.sparse_linear import SparseLinear
from hf_chts.rules.percolation import Group, layer_rates

Masks = Mapping[str, Bool[Tensor, "out in"]]


class Change(NamedTuple):
    """Masks of all layers before an update, after removal and percolation, and after regrowth."""

    before: Masks
    kept: Masks
    after: Masks


def install(
    layers: Mapping[str, SparseLinear],
    change: Change,
    groups: Sequence[Group],
    config: SparsityConfig,
    optimizer: torch.optim.Optimizer,
    work: SharedWork,
) -> list[LayerUpdate]:
    """Give layers their new links, with weights, optimizer state and memory, and say what changed.

    Args:
        layers: The sparse layers.
        change: What changes.
        groups: Hidden neurons between the layers.
        config: The resolved configuration.
        optimizer: The optimizer that trains the layers.
        work: The update, with the time it has taken so far.
    """
    start = time.perf_counter()
    rates = layer_rates(change.after, groups)
    work.share(time.perf_counter() - start)

    def give(name: str) -> dict[str, Any]:
        layer, after = layers[name], change.after[name]
        row = _counts(change.before[name], change.kept[name], after)
        row["itop"] = explore(layer, after)
        layer.resting |= row["overlap"] > (config.early_stop or 1.0)
        positions = structure.positions_of(after)
        starts = historical_weights(layer, positions)
        remember_removed(layer, after, int(config.historical_weights * positions.numel()))
        warm = config.new_links == "warm"
        move_links(layer, positions, starts, optimizer, warm=warm)
        return row

    rows, seconds = side_by_side(layers, give, next(iter(layers.values())).values.device)
    work.add(seconds)
    seconds = work.all_seconds()
    return [
        LayerUpdate(
            name,
            layer.nnz,
            layer.density,
            **rows[name],
            active_neurons=rates.get(name),
            seconds=round(seconds[name], 6),
        )
        for name, layer in layers.items()
    ]


def _counts(before: Tensor, kept: Tensor, after: Tensor) -> dict[str, Any]:
    taken = before & ~kept
    back = taken & after
    return {
        "removed": int((before & ~after).count_nonzero()),
        "regrown": int((after & ~before).count_nonzero()),
        "overlap": int(back.count_nonzero()) / max(1, int(taken.count_nonzero())),
    }
