"""Clustering and path lengths: is a layer a small world?

A layer has no triangles, so its clustering is that of two-mode networks: how often two neurons
that share one neighbour share more.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp
from jaxtyping import Float
from numpy.typing import ArrayLike
from scipy.sparse import csgraph

from hf_chts.analysis.network import Mask, Undefined, adjacency, check_mask


@dataclass(frozen=True)
class PathLength:
    """Distances between the neurons of a layer's largest connected component, in links.

    Attributes:
        mean: Mean over pairs of different neurons, both sides, at least 1.
        longest: Longest distance found; the diameter where ``sampled`` is None.
        component_share: Share of the linked neurons that the component holds, in (0, 1].
        sampled: How many neurons distances were measured from; None for all.
    """

    mean: float
    longest: int
    component_share: float
    sampled: int | None


@dataclass(frozen=True)
class SmallWorldness:
    """Two indices of small worlds.

    Attributes:
        sigma: ``(C / C_random) / (L / L_random)``, in (0, infinity); above 1 for a small world.
        omega: ``L_random / L - C / C_lattice``, in about [-1, 1]: near 0 for a small world,
            negative for lattices, positive for random networks.
    """

    sigma: float
    omega: float


def robins_alexander_clustering(mask: ArrayLike) -> float | Undefined:
    """Share of the paths of length three that are closed to a square, in [0, 1].

    Four times the number of squares over the number of paths of three links. A complete layer has
    1, a tree 0; a random one about its density.

    Source: Robins and Alexander, Computational and Mathematical Organization Theory 10, 2004.
    """
    links = check_mask(mask)
    shared = _shared_neighbours(links if links.shape[0] <= links.shape[1] else links.T)
    np.fill_diagonal(shared, 0)
    squares = float(np.sum(shared * (shared - 1), dtype=np.float64)) / 4
    inputs, outputs = links.sum(axis=0) - 1, links.sum(axis=1) - 1
    paths = float(outputs @ (links.astype(np.float64) @ inputs))
    if paths == 0:
        return Undefined("the layer has no path of three links")
    return 4 * squares / paths


def latapy_clustering(mask: ArrayLike) -> float | Undefined:
    """Mean overlap of the neighbourhoods of neurons that share a neighbour, in [0, 1].

    For two neurons of one side, shared neighbours over all neighbours of the two (Jaccard);
    averaged over the partners of a neuron, then over the linked neurons of both sides. A neuron
    that shares no neighbour with another counts as 0.

    Source: Latapy, Magnien and Del Vecchio, Social Networks 30, 2008, section on clustering.
    Deviation: neurons without a partner are kept in the mean, as networkx does.
    """
    links = check_mask(mask)
    if not links.any():
        return Undefined("the layer has no link")
    return float(np.concatenate([_overlaps(links), _overlaps(links.T)]).mean())


def _shared_neighbours(links: Mask) -> Float[np.ndarray, "rows rows"]:
    """Neighbours that two rows share; exact in single precision, and quick."""
    values = links.astype(np.float32)
    return np.asarray(values @ values.T)


def _overlaps(links: Mask) -> Float[np.ndarray, " linked"]:
    """Mean Jaccard index of each linked row with the rows it shares a neighbour with."""
    links = links[links.any(axis=1)]
    degree = links.sum(axis=1).astype(np.float32)
    shared = _shared_neighbours(links)
    np.fill_diagonal(shared, 0)
    partners = np.count_nonzero(shared, axis=1)
    jaccard = shared / (degree[:, None] + degree - shared)
    return np.asarray(jaccard.sum(axis=1, dtype=np.float64) / np.maximum(partners, 1))


def characteristic_path_length(
    mask: ArrayLike, *, max_sources: int = 512, seed: int = 0
) -> PathLength | Undefined:
    """Mean number of links between two neurons, by the shortest way.

    Links are walked in both directions, and neurons outside the largest connected component are
    left out. Where it has more than ``max_sources`` neurons, distances start from as many,
    drawn at random.

    Source: Watts and Strogatz, Nature 393, 1998.

    Raises:
        ValueError: If ``max_sources`` is below 1.
    """
    if max_sources < 1:
        raise ValueError(f"max_sources is at least 1, got {max_sources}")
    network = adjacency(mask)
    if network.nnz == 0:
        return Undefined("the layer has no link")
    _, labels = csgraph.connected_components(network, directed=False)
    members = np.flatnonzero(labels == np.bincount(labels).argmax())
    linked = int(np.count_nonzero(np.diff(network.indptr)))
    component = sp.csr_array(network[members][:, members])
    sources = np.arange(members.size)
    if members.size > max_sources:
        sources = np.random.default_rng(seed).choice(members.size, max_sources, replace=False)
    distances = csgraph.dijkstra(component, unweighted=True, indices=sources)
    return PathLength(
        mean=float(distances.sum() / (sources.size * (members.size - 1))),
        longest=int(distances.max()),
        component_share=members.size / linked,
        sampled=max_sources if members.size > max_sources else None,
    )


def lattice(mask: ArrayLike) -> Mask:
    """The layer as a lattice: every output keeps its number of links, all to its nearest inputs.

    Inputs and outputs lie on a ring, output o at the place of input ``(o + 1/2) in / out``. It has
    high clustering and long paths: the reference of omega, and :func:`small_worldness`.
    """
    links = check_mask(mask)
    n_out, n_in = links.shape
    place = (np.arange(n_out)[:, None] + 0.5) * n_in / n_out
    distance = np.abs(np.arange(n_in) + 0.5 - place)
    distance = np.minimum(distance, n_in - distance)
    rank = np.empty_like(distance, dtype=np.int64)
    order = distance.argsort(axis=1, kind="stable")
    np.put_along_axis(rank, order, np.broadcast_to(np.arange(n_in), order.shape), axis=1)
    return np.asarray(rank < links.sum(axis=1, keepdims=True))


def small_worldness(
    clustering: float,
    path_length: float,
    *,
    random_clustering: float,
    random_path_length: float,
    lattice_clustering: float,
) -> SmallWorldness | Undefined:
    """Compare a layer with random and lattice networks of its size.

    The references are given, so that they are computed once: take one clustering measure
    throughout, the mean over some random or rewired masks for the random values, and
    :func:`lattice` for the lattice's.

    Source: sigma of Humphries and Gurney, PLoS ONE 3, 2008; omega of Telesford et al., Brain
    Connectivity 1, 2011.
    Deviation: two-mode clustering in place of triangles.

    Raises:
        ValueError: If a clustering is negative, or a path length not positive.
    """
    clusterings = (clustering, random_clustering, lattice_clustering)
    if min(clusterings) < 0 or min(path_length, random_path_length) <= 0:
        raise ValueError(
            "clusterings are at least 0 and path lengths above 0, got clusterings "
            f"{clusterings} and path lengths {(path_length, random_path_length)}"
        )
    if random_clustering == 0 or lattice_clustering == 0:
        return Undefined("a reference network has no clustering to compare with")
    return SmallWorldness(
        sigma=(clustering / random_clustering) / (path_length / random_path_length),
        omega=random_path_length / path_length - clustering / lattice_clustering,
    )
