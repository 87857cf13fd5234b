"""Networks grown in a known hyperbolic disk, and how well an embedding finds it again."""

import networkx as nx
import numpy as np

from hf_chts.analysis.hyperbolic import hyperbolic_distance


def popularity_similarity_graph(n_nodes, n_links, gamma, temperature, seed):
    """The PSO model (Papadopoulos et al., Nature 489, 2012). Returns graph, radius and angle."""
    rng = np.random.default_rng(seed)
    beta = 1 / (gamma - 1)
    angle = rng.uniform(0, 2 * np.pi, n_nodes)
    born = 2 * np.log(np.arange(1, n_nodes + 1))
    graph = nx.empty_graph(n_nodes)
    for node in range(1, n_nodes):
        older = np.arange(node)
        faded = beta * born[older] + (1 - beta) * born[node]
        distance = hyperbolic_distance(faded, angle[older], born[node], angle[node])
        if temperature == 0 or node <= n_links:
            chosen = np.argsort(distance)[:n_links]
        else:
            reach = (1 - np.exp(-(1 - beta) * born[node] / 2)) / (n_links * (1 - beta))
            middle = 2 * temperature / np.sin(temperature * np.pi) * reach
            threshold = born[node] - 2 * np.log(middle)
            probability = 1 / (1 + np.exp((distance - threshold) / (2 * temperature)))
            keys = np.log(rng.random(node)) / probability
            chosen = np.argsort(-keys)[:n_links]
        graph.add_edges_from((node, int(other)) for other in chosen)
    return graph, beta * born + (1 - beta) * born[-1], angle


def bipartite_ring_mask(n_out, n_in, links_per_output, seed, noise=0.0):
    """Outputs linked to their nearest inputs on a circle; a share of them to random inputs."""
    rng = np.random.default_rng(seed)
    angle_in, angle_out = (rng.uniform(0, 2 * np.pi, n) for n in (n_in, n_out))
    apart = np.pi - np.abs(np.pi - np.abs(angle_out[:, None] - angle_in[None, :]))
    mask = apart.argsort(axis=1).argsort(axis=1) < links_per_output
    free = rng.random(n_out * n_in).reshape(n_out, n_in)
    at_random = free.argsort(axis=1).argsort(axis=1) < links_per_output
    mask = np.where((rng.random(n_out) < noise)[:, None], at_random, mask)
    return mask, angle_in, angle_out


def circular_order_score(angle, true_angle):
    """C-score: share of node pairs in the same circular order; 0.5 is chance."""
    first, second = np.triu_indices(len(angle), 1)
    turn = np.mod(angle[second] - angle[first], 2 * np.pi) < np.pi
    true_turn = np.mod(true_angle[second] - true_angle[first], 2 * np.pi) < np.pi
    same = float((turn == true_turn).mean())
    return max(same, 1 - same)


def distance_correlation(embedding, radius, angle):
    """HD-correlation: Pearson's correlation of all pairwise hyperbolic distances."""
    first, second = np.triu_indices(len(angle), 1)
    found = hyperbolic_distance(
        embedding.radius[first],
        embedding.angle[first],
        embedding.radius[second],
        embedding.angle[second],
    )
    true = hyperbolic_distance(radius[first], angle[first], radius[second], angle[second])
    return float(np.corrcoef(found, true)[0, 1])
