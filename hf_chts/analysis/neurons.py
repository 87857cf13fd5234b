"""Neurons between layers: which are active, how their degrees go, and what links layers share.

Groups are the sets of neurons between layers, as a run's ``network.json`` lists them: a group is a
list of sides, a side a list of ends ``{"layer": name, "axis": "out" | "in", "index": None | [int,
...]}``. Neuron j of the group is neuron ``index[j]`` (or j) on that axis of that layer.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations, product
from typing import Any

import numpy as np
from jaxtyping import Bool, Int
from numpy.typing import ArrayLike

from hf_chts.analysis.network import Mask, Undefined, check_mask

End = Mapping[str, Any]
Group = Sequence[Sequence[End]]


@dataclass(frozen=True)
class ActiveNeurons:
    """Neurons between layers that keep a link on every side.

    Attributes:
        groups: Whether each neuron is active, by name of the group (:func:`group_name`).
    """

    groups: dict[str, Bool[np.ndarray, " neurons"]]

    @property
    def rates(self) -> dict[str, float]:
        """Share of each group's neurons that are active (its ANP), in [0, 1]."""
        return {name: float(active.mean()) for name, active in self.groups.items()}

    @property
    def overall(self) -> float | Undefined:
        """Share of all groups' neurons that are active (ANP), in [0, 1]."""
        if not self.groups:
            return Undefined("no neurons lie between two sparse layers")
        return float(np.concatenate(list(self.groups.values())).mean())


@dataclass(frozen=True)
class DegreeCorrelation:
    """How a neuron's links towards it go with its links away from it.

    Attributes:
        pearson: Correlation of the two degrees, in [-1, 1].
        spearman: Correlation of their ranks, in [-1, 1].
        n_neurons: Active neurons that were compared.
    """

    pearson: float
    spearman: float
    n_neurons: int


def anp(masks: Mapping[str, ArrayLike], groups: Sequence[Group]) -> ActiveNeurons:
    """Find the neurons between layers that are active once percolation has come to rest.

    A neuron is active if it has a link on every side of its group. Links of the others no longer
    count, which may make further neurons inactive.

    Source: Zhang et al., CHT, ICLR 2024 (active neuron post-percolation rate).

    Raises:
        TypeError: If a mask is not boolean.
        ValueError: If a mask is not two-dimensional, or a group does not fit the masks.
    """
    links = check_groups(masks, groups)
    alive = {
        (name, axis): np.ones(size, dtype=bool)
        for name, mask in links.items()
        for axis, size in zip(("out", "in"), mask.shape, strict=True)
    }
    active: dict[str, np.ndarray] = {}
    changed = True
    while changed:
        changed = False
        for group in groups:
            sides = [np.any([_linked(links, alive, end) for end in side], axis=0) for side in group]
            now = active[group_name(group)] = np.all(sides, axis=0)
            for end in ends(group):
                neurons = alive[end["layer"], end["axis"]]
                index = neurons_of(end, links)
                changed = changed or bool((neurons[index] & ~now).any())
                neurons[index] &= now
    return ActiveNeurons(active)


def degree_correlation(
    masks: Mapping[str, ArrayLike], groups: Sequence[Group]
) -> dict[str, DegreeCorrelation | Undefined]:
    """Correlate the degrees of neurons between consecutive layers, on one side and the other.

    A neuron's in-degree counts its links from the layers that feed it, its out-degree those to the
    layers it feeds. Where queries meet keys, nothing is fed: there the two counts of links that
    arrive are compared. Neurons that are not active (:func:`anp`) are left out, for their zeros
    would pass for correlation.

    Source: such one-point correlations of directed networks decide how far they percolate: Boguñá
    and Serrano, *Generalized percolation in random directed networks*, Physical Review E 72, 2005.

    Returns:
        By name of the group (:func:`group_name`); Undefined with fewer than three active neurons,
        or if all of them have the same degree on a side.

    Raises:
        TypeError: If a mask is not boolean.
        ValueError: If a mask is not two-dimensional, or a group does not fit the masks.
    """
    links = check_groups(masks, groups)
    active = anp(links, groups).groups
    found: dict[str, DegreeCorrelation | Undefined] = {}
    for group in groups:
        name = group_name(group)
        leaving = [end for end in ends(group) if end["axis"] == "in"]
        arriving = [end for end in ends(group) if end["axis"] == "out"]
        first, second = (arriving, leaving) if arriving and leaving else (group[0], group[1:][-1])
        a, b = (_degrees(links, side)[active[name]] for side in (first, second))
        found[name] = _correlation(a, b)
    return found


def shared_links(
    masks: Mapping[str, ArrayLike], groups: Sequence[Group]
) -> dict[str, float | Undefined]:
    """Links that layers share where they meet, over what chance would give them.

    Layers share a link of neuron j of a group when both link j to the same neuron of their other
    sides. Where the one reads a residual stream and the other writes to it, as the two layers of a
    feed-forward block do, such links close a loop from a neuron of the stream back to itself.
    Chance gives neuron j, with a and b of n possible links to the two, a b / n shared ones.

    Returns:
        By name of the group (:func:`group_name`), over all pairs of layers on different sides: 1
        for layers drawn at random, 1 over the density for layers of the same links and even
        degrees. Undefined where other sides differ in neurons, or no neuron links to two layers.

    Raises:
        TypeError: If a mask is not boolean.
        ValueError: If a mask is not two-dimensional, or a group does not fit the masks.
    """
    links = check_groups(masks, groups)
    return {group_name(group): _shared(links, group) for group in groups}


def group_name(group: Group) -> str:
    """A name for a group of neurons: its layers side by side, ``fc1 > fc2``, ``k | q``."""
    names = [" + ".join(dict.fromkeys(str(end["layer"]) for end in side)) for side in group]
    joint = " > " if any(end["axis"] == "in" for end in group[-1]) else " | "
    return joint.join(names)


def ends(group: Group) -> Iterator[End]:
    """The ends of a group, side by side."""
    return (end for side in group for end in side)


def neurons_of(end: End, masks: Mapping[str, Mask]) -> Int[np.ndarray, " neurons"]:
    """Which neurons of its layer's axis an end takes, in the group's order."""
    size = masks[end["layer"]].shape[end["axis"] == "in"]
    index = end.get("index")
    return np.arange(size) if index is None else np.asarray(index)


def check_groups(masks: Mapping[str, ArrayLike], groups: Sequence[Group]) -> dict[str, Mask]:
    """The masks as numpy arrays, after a look at them and at the groups.

    Raises:
        TypeError: If a mask is not boolean.
        ValueError: If a mask is not two-dimensional; if a group has fewer than two sides or an
            empty one; if an end names no layer or one that has no mask, an axis that is neither
            ``out`` nor ``in``, or neurons that are not there, no integers, none at all or one
            twice; or if the ends of a group have different numbers of neurons.
    """
    links = {name: check_mask(mask) for name, mask in masks.items()}
    for group in groups:
        if len(group) < 2 or not all(group):
            raise ValueError(f"a group has two sides or more, each with an end; got {group}")
        sizes = {_checked_size(end, links) for end in ends(group)}
        if len(sizes) > 1:
            raise ValueError(f"ends of {group_name(group)} differ in neurons: {sorted(sizes)}")
    return links


def _checked_size(end: End, links: Mapping[str, Mask]) -> int:
    """How many neurons an end has, after a look at it."""
    if not isinstance(end, Mapping) or not {"layer", "axis"} <= end.keys():
        raise ValueError(f"an end is a mapping with a layer and an axis; got {end!r}")
    if end["layer"] not in links:
        raise ValueError(f"no mask of layer {end['layer']}, which a group of neurons names")
    if end["axis"] not in ("out", "in"):
        raise ValueError(f"an axis is 'out' or 'in'; got {end['axis']!r}")
    index, size = neurons_of(end, links), links[end["layer"]].shape[end["axis"] == "in"]
    whole = index.ndim == 1 and np.issubdtype(index.dtype, np.integer)
    if not whole or index.min() < 0 or index.max() >= size or len(np.unique(index)) < index.size:
        raise ValueError(
            f"the neurons of an end are distinct integers in [0, {size}) on axis "
            f"{end['axis']!r} of {end['layer']}, at least one"
        )
    return int(index.size)


def _linked(
    masks: Mapping[str, Mask], alive: Mapping[tuple[str, str], np.ndarray], end: End
) -> Bool[np.ndarray, " neurons"]:
    """Which neurons of an end are alive and have a link to or from one that is."""
    mask = masks[end["layer"]]
    mine, far = (alive[end["layer"], axis] for axis in _facing(end))
    if end["axis"] == "in":
        mask = mask.T
    if not far.all():
        mask = mask[:, far]
    linked: np.ndarray = (mask.any(1) & mine)[neurons_of(end, masks)]
    return linked


def _facing(end: End) -> tuple[str, str]:
    return ("out", "in") if end["axis"] == "out" else ("in", "out")


def _degrees(masks: Mapping[str, Mask], side: Sequence[End]) -> Int[np.ndarray, " neurons"]:
    summed: np.ndarray = np.sum([_seen_from(masks, end).sum(1) for end in side], axis=0)
    return summed


def _shared(masks: Mapping[str, Mask], group: Group) -> float | Undefined:
    found = expected = 0.0
    for one, other in combinations(group, 2):
        for pair in product(one, other):
            a, b = (_seen_from(masks, end) for end in pair)
            if a.shape != b.shape:
                return Undefined(f"the layers link {a.shape[1]} and {b.shape[1]} other neurons")
            found += np.count_nonzero(a & b)
            expected += float((a.sum(1) * b.sum(1)).sum()) / a.shape[1]
    return found / expected if expected else Undefined("no neuron has links to two of the layers")


def _seen_from(masks: Mapping[str, Mask], end: End) -> Bool[np.ndarray, "neurons others"]:
    mask = masks[end["layer"]]
    seen: np.ndarray = (mask if end["axis"] == "out" else mask.T)[neurons_of(end, masks)]
    return seen


def _correlation(a: np.ndarray, b: np.ndarray) -> DegreeCorrelation | Undefined:
    from scipy.stats import pearsonr, spearmanr  # takes a second to import

    if a.size < 3:
        return Undefined(f"{a.size} active neurons are too few to correlate their degrees")
    if np.ptp(a) == 0 or np.ptp(b) == 0:
        return Undefined("all active neurons have the same degree on a side")
    return DegreeCorrelation(
        float(pearsonr(a, b).statistic), float(spearmanr(a, b).statistic), a.size
    )
