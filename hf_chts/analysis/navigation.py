"""How well the coordinates of an embedding explain the network: greedy routing and distances."""

from __future__ import annotations

from dataclasses import dataclass

import networkx as nx
import numpy as np
import scipy.sparse as sp
from jaxtyping import Float, Int
from numpy.typing import ArrayLike
from scipy.sparse import csgraph
from scipy.stats import rankdata

from hf_chts.analysis.hyperbolic import (
    Component,
    Embedding,
    hyperbolic_distance,
    largest_component,
)
from hf_chts.analysis.network import Undefined

_SAMPLED_SOURCES = 100
_PACKETS_AT_ONCE = 1000


@dataclass(frozen=True)
class Routing:
    """Greedy routing over sampled ordered pairs of nodes.

    Attributes:
        success: Share of packets that arrive, in [0, 1].
        stretch: Mean of greedy over shortest path length of those that arrive, at least 1.
        score: GR-score: mean of shortest over greedy path length, 0 where the packet is lost;
            in [0, 1].
        n_pairs: Number of packets.
    """

    success: float
    stretch: float | Undefined
    score: float
    n_pairs: int


@dataclass(frozen=True)
class LinkProbability:
    """How the share of linked pairs falls with hyperbolic distance.

    Attributes:
        distance: Mean distance of the pairs in each bin, rising.
        probability: Share of linked pairs in each bin, in [0, 1].
        auc: Probability that a link is shorter than a non-link, ties counted half; in [0, 1],
            0.5 for coordinates that say nothing.
        n_pairs: Number of pairs looked at.
    """

    distance: Float[np.ndarray, " bins"]
    probability: Float[np.ndarray, " bins"]
    auc: float
    n_pairs: int


def greedy_routing(
    embedding: Embedding, network: nx.Graph | ArrayLike, *, n_pairs: int = 10_000, seed: int = 0
) -> Routing:
    """Send packets through the network by the coordinates of the neighbours alone.

    At each hop the packet moves to the neighbour that is nearest to its destination; it is lost
    when it runs in a loop. All ordered pairs are tried if there are at most ``n_pairs`` of them;
    otherwise pairs of up to 100 random sources with random destinations.

    Source: Muscoloni, Thomas, Ciucci, Bianconi, Cannistraci, Nature Communications 8:1615, 2017,
    greedy routing and GR-score. Deviation: pairs are sampled. A loop is noticed as two hops
    without coming nearer than before, which is the same but for equal distances.

    Args:
        embedding: Of the same network.
        network: A mask of shape (out, in), or an undirected graph.
        n_pairs: Packets to send, at least 1.
        seed: Of the sampled pairs.

    Raises:
        ValueError: If ``n_pairs`` is not positive or the embedding is of another network.
    """
    links = _embedded(embedding, network, n_pairs).links
    source, target = _ordered_pairs(links.shape[0], n_pairs, np.random.default_rng(seed))
    starts, row = np.unique(source, return_inverse=True)
    shortest = csgraph.dijkstra(links, indices=starts, unweighted=True)[row, target]
    hops = np.concatenate(
        [
            _route(embedding, links, source[first:last], target[first:last])
            for first in range(0, len(source), _PACKETS_AT_ONCE)
            for last in [first + _PACKETS_AT_ONCE]
        ]
    )
    arrived = hops > 0
    stretch: float | Undefined = Undefined("no packet arrived")
    if arrived.any():
        stretch = float((hops[arrived] / shortest[arrived]).mean())
    ratio = np.divide(shortest, hops, out=np.zeros(len(hops)), where=arrived)
    return Routing(float(arrived.mean()), stretch, float(ratio.mean()), len(hops))


def link_probability(
    embedding: Embedding,
    network: nx.Graph | ArrayLike,
    *,
    n_pairs: int = 200_000,
    n_bins: int = 20,
    seed: int = 0,
) -> LinkProbability | Undefined:
    """Relate links to the hyperbolic distance of their ends.

    Pairs are drawn uniformly (all of them if there are at most ``n_pairs``), in a bipartite
    network from the pairs of one node of each side, and split into bins of equally many.

    Source: the connection probability as a function of hyperbolic distance, Papadopoulos et al.,
    Nature 489:537, 2012; the area under the curve is the usual one of link prediction.

    Args:
        embedding: Of the same network.
        network: A mask of shape (out, in), or an undirected graph.
        n_pairs: Pairs to look at, at least 1.
        n_bins: Points of the curve, at least 1.
        seed: Of the sampled pairs.

    Raises:
        ValueError: If ``n_pairs`` or ``n_bins`` is not positive or the embedding is of another
            network.
    """
    if n_bins < 1:
        raise ValueError(f"n_bins must be at least 1, got {n_bins}")
    component = _embedded(embedding, network, n_pairs)
    a, b = _candidate_pairs(component, n_pairs, np.random.default_rng(seed))
    linked = np.asarray(component.links[a, b]).ravel() > 0
    n_linked = int(linked.sum())
    if n_linked in (0, len(linked)):
        return Undefined(f"{n_linked} of {len(linked)} pairs are linked, both kinds are needed")
    angle, radius = embedding.angle, embedding.radius
    distance = hyperbolic_distance(radius[a], angle[a], radius[b], angle[b])
    free_ranks = rankdata(distance)[~linked].sum()
    n_free = len(linked) - n_linked
    auc = (free_ranks - n_free * (n_free + 1) / 2) / (n_free * n_linked)
    bins = np.array_split(np.argsort(distance, kind="stable"), min(n_bins, len(distance)))
    return LinkProbability(
        distance=np.array([distance[inside].mean() for inside in bins]),
        probability=np.array([linked[inside].mean() for inside in bins]),
        auc=float(auc),
        n_pairs=len(linked),
    )


def _embedded(embedding: Embedding, network: nx.Graph | ArrayLike, n_pairs: int) -> Component:
    if n_pairs < 1:
        raise ValueError(f"n_pairs must be at least 1, got {n_pairs}")
    component = largest_component(network)
    if isinstance(component, Undefined) or component.nodes != embedding.nodes:
        raise ValueError("the embedding is of another network; embed this one first")
    return component


def _ordered_pairs(
    n_nodes: int, n_pairs: int, rng: np.random.Generator
) -> tuple[Int[np.ndarray, " pairs"], Int[np.ndarray, " pairs"]]:
    """Sources and different destinations."""
    if n_nodes * (n_nodes - 1) <= n_pairs:
        source, step = np.divmod(np.arange(n_nodes * (n_nodes - 1)), n_nodes - 1)
    else:
        some = rng.choice(n_nodes, min(n_nodes, _SAMPLED_SOURCES), replace=False)
        source, step = rng.choice(some, n_pairs), rng.integers(n_nodes - 1, size=n_pairs)
    return source, (source + step + 1) % n_nodes


def _candidate_pairs(
    component: Component, n_pairs: int, rng: np.random.Generator
) -> tuple[Int[np.ndarray, " pairs"], Int[np.ndarray, " pairs"]]:
    """Pairs that may be linked: of different sides, or of different nodes (each pair once)."""
    n_nodes, first = len(component.nodes), component.n_first
    n_other = n_nodes if first is None else n_nodes - first
    total = n_nodes * (n_nodes - 1) // 2 if first is None else first * n_other
    drawn = np.arange(total)
    if total > n_pairs:
        drawn = rng.choice(total, n_pairs, replace=False, shuffle=False)
    if first is not None:
        return drawn // n_other, first + drawn % n_other
    # Row r of the triangle below the diagonal starts at r (r - 1) / 2.
    row = ((1 + np.sqrt(1 + 8 * drawn)) / 2).astype(int)
    return row, drawn - row * (row - 1) // 2


def _route(
    embedding: Embedding,
    links: sp.csr_array,
    source: Int[np.ndarray, " packets"],
    target: Int[np.ndarray, " packets"],
) -> Int[np.ndarray, " packets"]:
    """Number of hops of each packet, 0 for those that are lost."""
    angle, radius = embedding.angle, embedding.radius
    hops = np.zeros(len(source), dtype=int)
    here, travelling = source.copy(), np.arange(len(source))
    nearest = hyperbolic_distance(radius[source], angle[source], radius[target], angle[target])
    detour = np.zeros(len(source), dtype=int)
    hop = 0
    while len(travelling):
        hop += 1
        here, distance = _next_hop(embedding, links, here, target[travelling])
        there = here == target[travelling]
        hops[travelling[there]] = hop
        detour = np.where(distance < nearest, 0, detour + 1)
        on = ~there & (detour < 2)
        nearest = np.minimum(nearest, distance)[on]
        here, travelling, detour = here[on], travelling[on], detour[on]
    return hops


def _next_hop(
    embedding: Embedding,
    links: sp.csr_array,
    here: Int[np.ndarray, " packets"],
    target: Int[np.ndarray, " packets"],
) -> tuple[Int[np.ndarray, " packets"], Float[np.ndarray, " packets"]]:
    """The neighbour nearest to the target, and its distance; the lowest of equals."""
    begin, degree = links.indptr[here], np.diff(links.indptr)[here]
    first = np.cumsum(degree) - degree
    packet = np.repeat(np.arange(len(here)), degree)
    neighbour = links.indices[np.arange(degree.sum()) + (begin - first)[packet]]
    angle, radius, aim = embedding.angle, embedding.radius, target[packet]
    distance = hyperbolic_distance(radius[neighbour], angle[neighbour], radius[aim], angle[aim])
    shortest = np.minimum.reduceat(distance, first)
    hit = np.flatnonzero(distance == shortest[packet])
    _, once = np.unique(packet[hit], return_index=True)
    return neighbour[hit[once]], shortest
