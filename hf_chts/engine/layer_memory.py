"""What a layer remembers beside its links: explored links, historical weights, early stop.

None of it is part of the model. A run that is interrupted saves it with its checkpoint.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from hf_chts.layers import structure
from hf_chts.layers.sparse_linear import SparseLinear

KEPT = ("explored", "past_positions", "past_values")


def start_counting(layer: SparseLinear, *, historical: bool) -> None:
    """Begin to count explored links, and to keep historical weights if asked; go on if begun."""
    if layer.explored is None:
        layer.explored = structure.pack(layer.mask)
    if historical and layer.past_positions is None:
        layer.past_positions = layer.positions[:0]
        layer.past_values = layer.values.detach()[:0].clone()


def explore(layer: SparseLinear, mask: Bool[Tensor, "out in"]) -> float:
    """Count links as explored; the share of all links that were active at some time."""
    packed = structure.pack(mask)
    layer.explored = packed if layer.explored is None else layer.explored | packed
    return structure.count_bits(layer.explored) / mask.numel()


def historical_weights(
    layer: SparseLinear, positions: Int[Tensor, " n_links"]
) -> Float[Tensor, " n_links"]:
    """The weights links had when they were last active; 0 for links nobody remembers."""
    found = layer.values.new_zeros(positions.numel())
    if layer.past_positions is None or layer.past_positions.numel() == 0:
        return found
    assert layer.past_values is not None
    ordered, order = layer.past_positions.sort()
    place = torch.searchsorted(ordered, positions).clamp_max_(ordered.numel() - 1)
    known = ordered[place] == positions
    found[known] = layer.past_values[order[place[known]]]
    return found


def remember_removed(layer: SparseLinear, after: Bool[Tensor, "out in"], limit: int) -> None:
    """Keep the weights of links that go, and forget those of links that come back.

    Links that came back past us, as when other weights were loaded, are forgotten, too.

    Args:
        layer: The layer, with its links as they were.
        after: Its mask as it will be.
        limit: How many removed links it may remember; the longest gone are forgotten first.
    """
    if layer.past_positions is None:
        return
    assert layer.past_values is not None
    gone = ~after.flatten()[layer.positions]
    back = (after | layer.mask).flatten()[layer.past_positions]
    positions = torch.cat([layer.past_positions[~back], layer.positions[gone]])
    values = torch.cat([layer.past_values[~back], layer.values.detach()[gone]])
    start = max(0, positions.numel() - limit)
    layer.past_positions, layer.past_values = positions[start:].clone(), values[start:].clone()


def memories(layers: Mapping[str, SparseLinear]) -> dict[str, Tensor]:
    """Everything that layers remember, by ``layer name.kind``."""
    found = {}
    for name, layer in layers.items():
        for kind in KEPT:
            if getattr(layer, kind) is not None:
                found[f"{name}.{kind}"] = getattr(layer, kind)
        if layer.resting:
            found[f"{name}.resting"] = torch.ones(1, dtype=torch.bool)
    return found


def recall(layers: Mapping[str, SparseLinear], found: Mapping[str, Tensor]) -> None:
    """Give layers back what :func:`memories` found.

    Raises:
        ValueError: If it belongs to other layers, does not fit these, or lacks what they keep.
    """
    for key, tensor in found.items():
        name, _, kind = key.rpartition(".")
        if name not in layers or kind not in (*KEPT, "resting"):
            raise ValueError(f"the topology's memory names {key!r}, which no sparse layer here has")
        beside = {kind: found.get(f"{name}.{kind}") for kind in KEPT}
        wrong = _what_is_wrong(layers[name], kind, tensor, beside)
        if wrong:
            raise ValueError(f"the topology's memory of {name} is damaged: {kind} {wrong}")
    counted = (f"{n}.{k}" for n, x in layers.items() for k in KEPT if getattr(x, k) is not None)
    if lost := sorted(set(counted) - found.keys()):
        raise ValueError(
            f"the topology's memory lacks {lost[0]}: give what state_dict() returned for a model "
            "with the same sparse layers and configuration"
        )
    for name, layer in layers.items():
        layer.resting = f"{name}.resting" in found
        for kind in KEPT:
            kept = found.get(f"{name}.{kind}")
            setattr(layer, kind, None if kept is None else kept.to(layer.values.device))


def _what_is_wrong(
    layer: SparseLinear, kind: str, tensor: Tensor, beside: Mapping[str, Tensor | None]
) -> str | None:
    size = layer.in_features * layer.out_features
    if kind == "explored" and (tensor.dtype, tensor.shape) != (torch.uint8, (-(-size // 8),)):
        return f"takes {-(-size // 8)} bytes; got {tuple(tensor.shape)} of {tensor.dtype}"
    if kind not in ("past_positions", "past_values"):
        return None
    shapes = {None if x is None else tuple(x.shape) for x in map(beside.get, KEPT[1:])}
    if len(shapes) != 1 or tensor.dim() != 1:
        return "must be one of two lists of one length, past_positions and past_values"
    expected = torch.int64 if kind == "past_positions" else layer.values.dtype
    if tensor.dtype != expected:
        return f"takes {str(expected).removeprefix('torch.')}; got {tensor.dtype}"
    if kind == "past_values":
        return None if bool(tensor.isfinite().all()) else "must be finite"
    if tensor.numel() and not 0 <= int(tensor.min()) <= int(tensor.max()) < size:
        return f"must lie in [0, {size})"
    if tensor.unique().numel() != tensor.numel():
        return "must be distinct"
    return None
