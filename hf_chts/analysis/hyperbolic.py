"""Coalescent embedding: angles and radii of neurons in the hyperbolic disk.

The angle of a neuron tells whom it resembles, its radius how popular it is (hubs sit near the
centre). Links are weighted by how far apart their ends are, the network is reduced to two
dimensions, and only the circular order of the nodes is kept.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import networkx as nx
import numpy as np
import scipy.sparse as sp
from jaxtyping import Float, Int
from numpy.typing import ArrayLike
from scipy.sparse import csgraph
from scipy.sparse.linalg import svds

from hf_chts.analysis.network import Undefined, adjacency, check_mask
from hf_chts.analysis.power_law_tail import find_tail

WEIGHTINGS = ("RA1", "RA1-L3", "EBC")
REDUCTIONS = ("ncISO", "ISO", "ncMCE", "MCE")
_ALL_SOURCES_UP_TO = 4096
_SAMPLED_SOURCES = 1024
_BLOCK = 256


@dataclass(frozen=True)
class Component:
    """The largest connected component of a network.

    Attributes:
        nodes: Names; of a layer ``("in", i)`` and ``("out", o)``, inputs first.
        links: Symmetric zeros and ones in the order of ``nodes``.
        n_first: Number of nodes of the first side, which come first, or None if the network is
            not known to be bipartite.
        share: Nodes of the component among all nodes of the network, in (0, 1].
    """

    nodes: tuple[Any, ...]
    links: sp.csr_array
    n_first: int | None
    share: float


@dataclass(frozen=True)
class Embedding:
    """Polar coordinates in the hyperbolic disk of curvature -1.

    Attributes:
        nodes: Names of the embedded nodes, the largest connected component.
        angle: In [0, 2 pi), equally spaced.
        radius: At least 0.
        gamma: Exponent of the power law fitted to the degrees' tail, behind the radii.
        largest_component_share: Embedded nodes among all nodes, in (0, 1].
    """

    nodes: tuple[Any, ...]
    angle: Float[np.ndarray, " nodes"]
    radius: Float[np.ndarray, " nodes"]
    gamma: float | Undefined
    largest_component_share: float


def largest_component(network: nx.Graph | ArrayLike) -> Component | Undefined:
    """The largest connected component of a graph or a layer.

    Args:
        network: A mask of shape (out, in), or an undirected graph. A graph whose nodes all carry
            the attribute ``bipartite`` (0 or 1) counts as bipartite.
    """
    if isinstance(network, nx.Graph):
        side = nx.get_node_attributes(network, "bipartite")
        bipartite = len(side) == len(network)
        order = sorted(network, key=side.__getitem__) if bipartite else list(network)
        names: list[Any] = list(order)
        links = sp.csr_array((0, 0))
        if names:
            links = sp.csr_array(nx.to_scipy_sparse_array(network, order, weight=None, dtype=int))
        first = sum(side[name] == 0 for name in order) if bipartite else None
    else:
        mask = check_mask(network)
        links, first = adjacency(mask), mask.shape[1]
        names = [("in", i) for i in range(first)]
        names += [("out", o) for o in range(mask.shape[0])]
    if links.nnz == 0:
        return Undefined("the network has no link")
    _, label = csgraph.connected_components(links, directed=False)
    inside = np.flatnonzero(label == np.bincount(label).argmax())
    return Component(
        nodes=tuple(names[node] for node in inside),
        links=sp.csr_array(links[inside][:, inside]),
        n_first=None if first is None else int((inside < first).sum()),
        share=len(inside) / len(names),
    )


def coalescent_embedding(
    network: nx.Graph | ArrayLike,
    *,
    weighting: str | None = None,
    reduction: str = "ncISO",
    seed: int = 0,
) -> Embedding | Undefined:
    """Embed the largest connected component in the hyperbolic disk.

    Angles: links are weighted by ``weighting``, the matrix of shortest path lengths over these
    weights (ISO: in the network; MCE: in its minimum spanning tree) is reduced by a singular
    value decomposition, centred (``ISO``, ``MCE``) or not (``ncISO``, ``ncMCE``), and the nodes
    are spaced equally in the order found (equidistant adjustment). The first node of highest
    degree has angle 0 and the next one lies in (0, pi), so that results can be compared.
    Radii: ``max(0, 2 beta ln i + 2 (1 - beta) ln n)`` for the node of degree rank i of n nodes,
    ``beta = 1 / (gamma - 1)``. Below gamma = 2 the radii of hubs are cut at 0. Where no power law
    can be fitted (equal degrees, for one) beta is 0: all nodes at ``2 ln n``.

    Source: Muscoloni, Thomas, Ciucci, Bianconi, Cannistraci, Nature Communications 8:1615, 2017,
    in two dimensions; weights and dimensions as in the authors' published program.
    Deviations: ``RA1-L3``, see :func:`link_weights`. Of more than 4,096 nodes, 1,024 drawn at
    random are the sources of the shortest paths, and the singular vectors are those of these
    columns.

    Args:
        network: A mask of shape (out, in), or an undirected graph.
        weighting: One of ``RA1``, ``RA1-L3`` (bipartite networks only), ``EBC``; by default
            ``RA1-L3`` for bipartite networks and ``RA1`` for others.
        reduction: One of ``ncISO``, ``ISO``, ``ncMCE``, ``MCE``.
        seed: Of the sampled sources.

    Raises:
        ValueError: If a name is unknown, or ``RA1-L3`` meets a network that is not bipartite.
    """
    if weighting not in (None, *WEIGHTINGS):
        raise ValueError(f"unknown weighting {weighting!r}; take one of: {', '.join(WEIGHTINGS)}")
    if reduction not in REDUCTIONS:
        raise ValueError(f"unknown reduction {reduction!r}; take one of: {', '.join(REDUCTIONS)}")
    component = largest_component(network)
    if isinstance(component, Undefined):
        return component
    n_nodes = len(component.nodes)
    if n_nodes < 4:
        return Undefined(f"the largest component has {n_nodes} nodes, an embedding needs 4")
    weighting = weighting or ("RA1" if component.n_first is None else "RA1-L3")
    weights = link_weights(component, weighting, seed=seed)
    degree = component.links.sum(axis=0)
    by_degree = np.argsort(-degree, kind="stable")
    gamma = _exponent(degree)
    return Embedding(
        nodes=component.nodes,
        angle=_equidistant(_angular_order(weights, _sources(n_nodes, seed), reduction), by_degree),
        radius=_radii(by_degree, gamma),
        gamma=gamma,
        largest_component_share=component.share,
    )


def hyperbolic_distance(
    radius_a: ArrayLike, angle_a: ArrayLike, radius_b: ArrayLike, angle_b: ArrayLike
) -> Float[np.ndarray, "..."]:
    """Distance between points of the hyperbolic plane of curvature -1, at least 0.

    The law of cosines, written so that close points lose no digits:
    ``cosh d = cosh(r_a - r_b) + 2 sinh r_a sinh r_b sin((theta_a - theta_b) / 2)**2``.
    """
    r_a, r_b = np.asarray(radius_a, float), np.asarray(radius_b, float)
    half_sine = np.sin((np.asarray(angle_a, float) - np.asarray(angle_b, float)) / 2)
    cosh = np.cosh(r_a - r_b) + 2 * np.sinh(r_a) * np.sinh(r_b) * half_sine**2
    return np.asarray(np.arccosh(cosh))


def link_weights(component: Component, weighting: str, *, seed: int = 0) -> sp.csr_array:
    """Weights of links that grow with the distance of their ends in the hidden geometry.

    ``RA1``: ``(d_i + d_j + d_i d_j) / (1 + c)`` with the degrees d and the number c of common
    neighbours. No link of a bipartite network has any, so that only the repulsion of the hubs is
    left. ``RA1-L3`` (our deviation): c is the number of paths of length three that join the ends
    besides the link, the local community of bipartite networks. ``EBC``: the number of shortest
    paths through the link; of more than 4,096 nodes, those from 1,024 of them, scaled up.

    Source: Muscoloni et al. 2017, repulsion-attraction rule and edge-betweenness-centrality.

    Raises:
        ValueError: If ``RA1-L3`` meets a network that is not bipartite.
    """
    links = component.links
    if weighting == "EBC":
        return _edge_betweenness(links, _sources(links.shape[0], seed))
    degree = links.sum(axis=0).astype(float)
    entries = links.tocoo()
    a, b = degree[entries.row], degree[entries.col]
    weights = a + b + a * b
    if weighting == "RA1-L3":
        if component.n_first is None:
            raise ValueError("RA1-L3 is for bipartite networks; take RA1 for this graph")
        weights /= 1 + _paths_of_length_three(links, component.n_first)
    elif component.n_first is None:
        common = (links @ links).tocsr()
        weights /= 1 + np.asarray(common[entries.row, entries.col]).ravel()
    return sp.csr_array((weights, (entries.row, entries.col)), shape=links.shape)


def _paths_of_length_three(links: sp.csr_array, n_first: int) -> Float[np.ndarray, " entries"]:
    """Paths i-z1-z2-j beside the link (i, j), for each entry of ``links``: walks minus returns."""
    layer = links[n_first:, :n_first].toarray().astype(np.float32)
    walks = (layer @ layer.T) @ layer
    paths = walks - layer.sum(axis=1)[:, None] - layer.sum(axis=0)[None, :] + 1
    entries = links.tocoo()
    out = np.maximum(entries.row, entries.col) - n_first
    counts: Float[np.ndarray, " entries"] = paths[out, np.minimum(entries.row, entries.col)]
    return counts.astype(float)


def _edge_betweenness(links: sp.csr_array, sources: Int[np.ndarray, " s"]) -> sp.csr_array:
    """Brandes' algorithm, level by level for a block of sources at once."""
    n_nodes = links.shape[0]
    rows, columns = links.nonzero()
    passed = np.zeros(len(rows))
    step = links.astype(float)
    for begin in range(0, len(sources), _BLOCK):
        block = sources[begin : begin + _BLOCK]
        front = np.zeros((len(block), n_nodes))
        front[np.arange(len(block)), block] = 1
        levels, seen = [front], front > 0
        while (front := (front @ step) * ~seen).any():
            levels.append(front)
            seen |= front > 0
        dependency = np.zeros_like(front)
        for before, after in zip(levels[-2::-1], levels[:0:-1], strict=True):
            per_path = np.divide(1 + dependency, after, out=np.zeros_like(after), where=after > 0)
            passed += (before.T @ per_path)[rows, columns]
            dependency = before * (per_path @ step)
    # Each link carries its own two ends; a sample of sources may have missed them.
    both_ways = sp.csr_array((passed, (rows, columns)), shape=links.shape)
    both_ways = (both_ways + both_ways.T) * (n_nodes / len(sources) / 2)
    both_ways.data = np.maximum(both_ways.data, 1)
    return sp.csr_array(both_ways)


def _sources(n_nodes: int, seed: int) -> Int[np.ndarray, " s"]:
    if n_nodes <= _ALL_SOURCES_UP_TO:
        return np.arange(n_nodes)
    drawn = np.random.default_rng(seed).choice(n_nodes, _SAMPLED_SOURCES, replace=False)
    return np.sort(drawn)


def _angular_order(
    weights: sp.csr_array, sources: Int[np.ndarray, " s"], reduction: str
) -> Float[np.ndarray, " nodes"]:
    """A number per node whose order is the order of the angles."""
    if reduction.endswith("MCE"):
        tree = csgraph.minimum_spanning_tree(weights)
        weights = sp.csr_array(tree + tree.T)
    kernel = csgraph.dijkstra(weights, indices=sources).T
    kernel /= kernel.max()
    centred = not reduction.startswith("nc")
    if centred:
        kernel = kernel**2
        kernel -= kernel.mean(axis=0, keepdims=True)
        kernel -= kernel.mean(axis=1, keepdims=True)
    skipped, used = (0 if centred else 1), (1 if reduction.endswith("MCE") else 2)
    start = np.random.default_rng(0).random(len(sources))
    vectors, values, _ = svds(kernel, k=skipped + used, v0=start)
    strongest = np.argsort(-values)[skipped:]
    coordinates: Float[np.ndarray, "nodes used"] = (vectors * np.sqrt(values))[:, strongest]
    if used == 1:
        return coordinates[:, 0]
    return np.asarray(np.arctan2(coordinates[:, 1], coordinates[:, 0]))


def _equidistant(
    order: Float[np.ndarray, " nodes"], by_degree: Int[np.ndarray, " nodes"]
) -> Float[np.ndarray, " nodes"]:
    """Equal steps around the circle, turned and mirrored into the one agreed position."""
    n_nodes = len(order)
    place = np.empty(n_nodes, dtype=int)
    place[np.argsort(order, kind="stable")] = np.arange(n_nodes)
    place = (place - place[by_degree[0]]) % n_nodes
    off_axis = next(node for node in by_degree if place[node] * 2 % n_nodes)
    if place[off_axis] * 2 > n_nodes:
        place = -place % n_nodes
    return np.asarray(2 * np.pi * place / n_nodes)


def _exponent(degree: Int[np.ndarray, " nodes"]) -> float | Undefined:
    tail = find_tail(degree.astype(np.int64))
    return tail.gamma if tail else Undefined("no ten nodes have degrees that follow a power law")


def _radii(
    by_degree: Int[np.ndarray, " nodes"], gamma: float | Undefined
) -> Float[np.ndarray, " nodes"]:
    n_nodes = len(by_degree)
    beta = 0.0 if isinstance(gamma, Undefined) else 1 / (gamma - 1)
    radius = np.empty(n_nodes)
    rank = np.arange(1, n_nodes + 1)
    radius[by_degree] = np.maximum(0, 2 * beta * np.log(rank) + 2 * (1 - beta) * np.log(n_nodes))
    return radius
