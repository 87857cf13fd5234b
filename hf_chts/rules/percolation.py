"""Removal of links that lead nowhere.

A *group* is one set of neurons between layers, seen from several sides. Neuron ``j`` is active
when it has a link on every side; otherwise its links on all sides are removed. A side is one or
more ends of layers, and a neuron has a link on it when it has one at any of its ends::

    [[End("fc1", "out")], [End("fc2", "in")]]                      # feed-forward, MLP, value > out
    [[End("gate", "out")], [End("up", "out")], [End("down", "in")]]  # gated feed-forward
    [[End("q", "out")], [End("k", "out")]]                         # query and key meet

``index`` maps neurons of the group to neurons of the layer. It picks a part of a fused layer,
``End("qkv", "out", torch.arange(2 * d, 3 * d))``, and serves shared heads: with two query heads
on one key head of width h, ``[[End("k", "out")], [End("q", "out", torch.arange(h)),
End("q", "out", torch.arange(h, 2 * h))]]``. Rotary embeddings turn neurons ``j`` and ``j + h / 2``
of a head into each other, so such a pair counts as one neuron: two ends, first and second halves,
on the query's side and two on the key's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Bool, Int
from torch import Tensor

Masks = Mapping[str, Bool[Tensor, "out in"]]


@dataclass(frozen=True)
class End:
    """Where a group's neurons meet a layer.

    Attributes:
        layer: Name of the layer.
        axis: Whether they are the layer's outputs (``"out"``) or inputs (``"in"``).
        index: Which of them, in the group's order, without repetition; None for all.
    """

    layer: str
    axis: Literal["out", "in"]
    index: Int[Tensor, " neurons"] | None = None


Group = Sequence[Sequence[End]]


def percolate(masks: Masks, groups: Sequence[Group]) -> dict[str, Bool[Tensor, "out in"]]:
    """Remove the links of inactive neurons until no neuron becomes inactive any more.

    Source: Zhang et al., CHT, ICLR 2024, and CHTs, NeurIPS 2025, arXiv 2501.19107. Deviation: the
    authors' code passes over the layers once each way; this one runs to the fixed point.

    Args:
        masks: Masks by layer name; left as they are.
        groups: The sets of neurons between layers, each as its sides.

    Returns:
        Masks by layer name, subsets of those given.

    Raises:
        ValueError: If a group has an empty side, names a layer that has no mask, or its ends
            have different numbers of neurons.
    """
    _check(masks, groups)
    result, linked = dict(masks), _Linked(masks)
    changed = True
    while changed:
        changed = False
        for group in groups:
            active = _active(linked, group)
            for end in (end for side in group for end in side):
                if bool((linked.of(end) & ~active).any()):
                    result[end.layer] = _cut(result[end.layer], end, ~active)
                    linked.forget(end.layer, result[end.layer])
                    changed = True
    return result


def active_neurons(masks: Masks, group: Group) -> Bool[Tensor, " neurons"]:
    """Tell which neurons of a group have a link on every side."""
    return _active(_Linked(masks), group)


def _active(linked: _Linked, group: Group) -> Bool[Tensor, " neurons"]:
    sides = [torch.stack([linked.of(end) for end in side]).any(0) for side in group]
    return torch.stack(sides).all(0)


def active_neuron_rate(masks: Masks, groups: Sequence[Group]) -> float:
    """Active neurons over all neurons of the groups, in [0, 1]; ANP when taken after percolation.

    Source: Zhang et al., CHT, ICLR 2024 (active neuron post-percolation rate).

    Raises:
        ValueError: As ``percolate``, or if there is no group.
    """
    if not groups:
        raise ValueError("the rate of active neurons needs at least one group")
    _check(masks, groups)
    linked = _Linked(masks)
    return float(torch.cat([_active(linked, group).cpu() for group in groups]).double().mean())


def layer_rates(masks: Masks, groups: Sequence[Group]) -> dict[str, float]:
    """Active neurons over hidden neurons of each layer, both sides together, after percolation.

    Returns:
        Rates in [0, 1] by layer name; layers without a hidden neuron are left out.
    """
    linked = _Linked(percolate(masks, groups))
    found: dict[str, list[Bool[Tensor, " neurons"]]] = {}
    for group in groups:
        active = _active(linked, group)
        for end in (end for side in group for end in side):
            found.setdefault(end.layer, []).append(active)
    return {name: float(torch.cat(active).double().mean()) for name, active in found.items()}


class _Linked:
    """Which neurons of each layer have a link, looked up once for each side of a mask."""

    def __init__(self, masks: Masks) -> None:
        self.masks = dict(masks)
        self._found: dict[tuple[str, str], Bool[Tensor, " neurons"]] = {}

    def of(self, end: End) -> Bool[Tensor, " neurons"]:
        key = end.layer, end.axis
        if key not in self._found:
            bits = self.masks[end.layer].view(torch.uint8)  # their maximum is found much faster
            self._found[key] = bits.amax(1 if end.axis == "out" else 0).bool()
        return self._found[key] if end.index is None else self._found[key][end.index]

    def forget(self, layer: str, mask: Bool[Tensor, "out in"]) -> None:
        """Take a new mask of a layer."""
        self.masks[layer] = mask
        self._found.pop((layer, "out"), None)
        self._found.pop((layer, "in"), None)


def _cut(
    mask: Bool[Tensor, "out in"], end: End, inactive: Bool[Tensor, " neurons"]
) -> Bool[Tensor, "out in"]:
    dead = inactive
    if end.index is not None:
        dead = torch.zeros(mask.shape[end.axis == "in"], dtype=torch.bool, device=mask.device)
        dead[end.index] = inactive
    return mask & ~(dead[:, None] if end.axis == "out" else dead)


def _check(masks: Masks, groups: Sequence[Group]) -> None:
    for group in groups:
        if not group or not all(group):
            raise ValueError(f"a group needs sides and each side an end; got {group}")
        sizes: dict[tuple[str, str], list[int]] = {}
        for end in (end for side in group for end in side):
            if end.layer not in masks:
                raise ValueError(f"no mask of layer {end.layer!r}; known: {', '.join(masks)}")
            axis = masks[end.layer].shape[end.axis == "in"]
            found = axis if end.index is None else len(end.index)
            sizes.setdefault((end.layer, end.axis), []).append(found)
        if len({size for found in sizes.values() for size in found}) > 1:
            raise ValueError(f"ends of a group differ in their number of neurons: {sizes}")
