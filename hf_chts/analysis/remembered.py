"""Measures that rest on results other measures need too: the last of each kind is kept."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache, wraps
from typing import TypeVar

import numpy as np

from hf_chts.analysis.angular import angular_separability
from hf_chts.analysis.clustering import (
    SmallWorldness,
    characteristic_path_length,
    lattice,
    robins_alexander_clustering,
    small_worldness,
)
from hf_chts.analysis.community import Communities, communities
from hf_chts.analysis.degree import PowerLaw, degrees, fit_power_law
from hf_chts.analysis.hyperbolic import Embedding, coalescent_embedding
from hf_chts.analysis.navigation import Routing, greedy_routing, link_probability
from hf_chts.analysis.network import Mask, Undefined
from hf_chts.analysis.null_models import rewired

_RANDOM_REFERENCES = 3
Result = TypeVar("Result")


def _remember(function: Callable[[Mask, int], Result]) -> Callable[[Mask, int], Result]:
    """Keep the last result, known by the layer's bits and the seed."""

    @lru_cache(maxsize=1)
    def of_bits(bits: bytes, shape: tuple[int, int], seed: int) -> Result:
        flat = np.unpackbits(np.frombuffer(bits, np.uint8), count=shape[0] * shape[1])
        return function(flat.astype(bool).reshape(shape), seed)

    @wraps(function)
    def remembered(mask: Mask, seed: int) -> Result:
        return of_bits(np.packbits(mask).tobytes(), (mask.shape[0], mask.shape[1]), seed)

    return remembered


@_remember
def power_law(mask: Mask, seed: int) -> PowerLaw | Undefined:
    """The power law of the degrees of both sides together."""
    counts = degrees(mask)
    return fit_power_law(np.concatenate([counts.inputs, counts.outputs]), seed=seed)


@_remember
def partition(mask: Mask, seed: int) -> Communities | Undefined:
    """The communities of a layer."""
    return communities(mask, seed=seed)


@_remember
def embedding(mask: Mask, seed: int) -> Embedding | Undefined:
    """The coalescent embedding of a layer, as it is by default."""
    return coalescent_embedding(mask, seed=seed)


@_remember
def routing(mask: Mask, seed: int) -> Routing | Undefined:
    """Greedy routing in the embedding of a layer."""
    embedded = embedding(mask, seed)
    if isinstance(embedded, Undefined):
        return embedded
    return greedy_routing(embedded, mask, seed=seed)


@_remember
def small_world(mask: Mask, seed: int) -> SmallWorldness | Undefined:
    """Small-world indices of a layer, against three rewired layers and its lattice."""
    random = [rewired(mask, seed + k) for k in range(_RANDOM_REFERENCES)]
    clusterings, lengths = [], []
    for layer in (mask, lattice(mask), *random):
        clustering = robins_alexander_clustering(layer)
        length = characteristic_path_length(layer, seed=seed)
        if isinstance(clustering, Undefined):
            return clustering
        if isinstance(length, Undefined):
            return length
        clusterings.append(clustering)
        lengths.append(length.mean)
    return small_worldness(
        clusterings[0],
        lengths[0],
        random_clustering=float(np.mean(clusterings[2:])),
        random_path_length=float(np.mean(lengths[2:])),
        lattice_clustering=clusterings[1],
    )


def modularity(mask: Mask, seed: int) -> float | Undefined:
    """Barber's modularity of the communities of a layer."""
    groups = partition(mask, seed)
    return groups if isinstance(groups, Undefined) else groups.modularity.barber


def distance_auc(mask: Mask, seed: int) -> float | Undefined:
    """How well hyperbolic distance tells links from non-links."""
    embedded = embedding(mask, seed)
    if isinstance(embedded, Undefined):
        return embedded
    found = link_probability(embedded, mask, seed=seed)
    return found if isinstance(found, Undefined) else found.auc


def angular_separation(mask: Mask, seed: int) -> float | Undefined:
    """How far the communities of a layer keep apart on the circle of its embedding."""
    embedded, groups = embedding(mask, seed), partition(mask, seed)
    if isinstance(embedded, Undefined):
        return embedded
    if isinstance(groups, Undefined):
        return groups
    sides = {"in": groups.inputs, "out": groups.outputs}
    labels = [int(sides[side][neuron]) for side, neuron in embedded.nodes]
    found = angular_separability(embedded, labels, seed=seed)
    return found if isinstance(found, Undefined) else found.index
