"""Meta-depth: the hierarchy inside a layer, and the paths that join the hubs of layers.

Sparse layers trained by Cannistraci-Hebb theory are said to be deep in themselves: their neurons
form levels, from a core to a periphery, and signals run from hub to hub across the layers.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import scipy.sparse as sp
from jaxtyping import Bool, Int
from numpy.typing import ArrayLike
from sknetwork.topology import get_core_decomposition

from hf_chts.analysis.degree import degrees, hubs
from hf_chts.analysis.network import Mask, Undefined, adjacency, check_mask


@dataclass(frozen=True)
class MetaDepth:
    """The levels of a layer, from the core to the periphery.

    Attributes:
        inputs: Core number of each input neuron: the largest k such that it belongs to a part of
            the layer in which every neuron has k links; 0 for isolated neurons.
        outputs: Likewise for output neurons.
        levels: Different core numbers of linked neurons, falling: the core first.
        shares: Share of the linked neurons, both sides, on each level; they sum to 1.
        depth: Number of levels of equal size with the same Shannon entropy as the shares, in
            [1, number of levels]. 1 where all linked neurons are on one level. Read it beside a
            null model: random layers are the deeper the less square they are (at a density of
            0.1, about 1.5 for 512 x 512 neurons and 9 for 512 x 2,048).
    """

    inputs: Int[np.ndarray, " in"]
    outputs: Int[np.ndarray, " out"]
    levels: tuple[int, ...]
    shares: tuple[float, ...]
    depth: float


@dataclass(frozen=True)
class HubPaths:
    """Paths of links from the first layer's inputs to the last layer's outputs.

    Attributes:
        share: Paths all of whose neurons are hubs, over all paths, in [0, 1].
        expected: The same if a path met hubs independently at each stage: the product of
            ``stages``. Hubs lie on more paths than others by their degrees alone; this allows
            for it.
        enrichment: ``share / expected``; above 1 where hubs lead to hubs.
        stages: Share of all paths that pass a hub, for the inputs, each set of neurons between
            layers, and the outputs; each in [0, 1].
    """

    share: float
    expected: float
    enrichment: float
    stages: tuple[float, ...]


def meta_depth(mask: ArrayLike) -> MetaDepth | Undefined:
    """The hierarchy of a layer by k-core decomposition of its two-mode network.

    Source: meta-deep layers, Zhang et al., CHT, ICLR 2024; cores, Seidman, Social Networks 5,
    1983; the effective number of levels is the Hill number of order 1, Ecology 54, 1973.
    Deviation: the paper reads levels off a hyperbolic embedding's radius, which needs a choice of
    bins; cores give levels by themselves and take a second.
    """
    network = adjacency(mask)
    if network.nnz == 0:
        return Undefined("the layer has no link")
    cores = np.asarray(get_core_decomposition(sp.csr_matrix(network)), dtype=np.int64)
    n_in = check_mask(mask).shape[1]
    levels, counts = np.unique(cores[np.diff(network.indptr) > 0], return_counts=True)
    shares = counts[::-1] / counts.sum()
    return MetaDepth(
        inputs=cores[:n_in],
        outputs=cores[n_in:],
        levels=tuple(levels[::-1].tolist()),
        shares=tuple(shares.tolist()),
        depth=float(np.exp(-np.sum(shares * np.log(shares)))),
    )


def hub_paths(masks: Sequence[ArrayLike], *, share: float = 0.1) -> HubPaths | Undefined:
    """Credit assignment paths that run through hubs only, across consecutive layers.

    Paths are counted by products of masks with vectors, never listed.

    Source: chains of hubs across layers, Zhang et al., CHT, ICLR 2024.
    Deviation: the share of paths and its expectation are this project's measure of them.

    Args:
        masks: Layers in the order of the forward pass; the outputs of one are the inputs of the
            next.
        share: Hubs among the linked neurons at each stage, in (0, 1]; neurons between two layers
            are ranked by their links on both sides. See :func:`.degree.hubs`.

    Raises:
        ValueError: If there is no mask, or one does not fit to the next.
    """
    layers = [check_mask(mask) for mask in masks]
    if not layers:
        raise ValueError("hub paths need at least one mask, got none")
    for before, after in pairwise(layers):
        if before.shape[0] != after.shape[1]:
            raise ValueError(
                f"the outputs of a layer are the inputs of the next, got {before.shape[0]} "
                f"outputs and then {after.shape[1]} inputs"
            )
    stages = _hubs_of_stages(layers, share)
    everywhere = [np.ones(stage.size, dtype=bool) for stage in stages]
    products = [sp.csr_array(layer, dtype=np.float64) for layer in layers]
    total = _log_paths(products, everywhere)
    if total == -math.inf:
        return Undefined("no path leads through all layers")
    passing = []
    for j, stage in enumerate(stages):
        through = [*everywhere[:j], stage, *everywhere[j + 1 :]]
        passing.append(math.exp(_log_paths(products, through) - total))
    expected = math.prod(passing)
    if expected == 0:
        return Undefined("at one stage no path passes a hub")
    actual = math.exp(_log_paths(products, stages) - total)
    return HubPaths(actual, expected, actual / expected, tuple(passing))


def _hubs_of_stages(layers: Sequence[Mask], share: float) -> list[Bool[np.ndarray, " neurons"]]:
    """Hubs among the inputs, among the neurons between each two layers, among the outputs."""
    counts = [degrees(layer) for layer in layers]
    between = [before.outputs + after.inputs for before, after in pairwise(counts)]
    return [hubs(stage, share) for stage in (counts[0].inputs, *between, counts[-1].outputs)]


def _log_paths(
    products: Sequence[sp.csr_array], allowed: Sequence[Bool[np.ndarray, " neurons"]]
) -> float:
    """Logarithm of the number of paths whose neurons are all allowed; minus infinity for none."""
    paths, log_scale = allowed[0].astype(np.float64), 0.0
    for product, stage in zip(products, allowed[1:], strict=True):
        paths = (product @ paths) * stage
        largest = float(paths.max())
        if largest == 0:
            return -math.inf
        paths, log_scale = paths / largest, log_scale + math.log(largest)
    return log_scale + math.log(paths.sum())
