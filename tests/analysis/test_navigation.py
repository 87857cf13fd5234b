import itertools

import networkx as nx
import numpy as np
import pytest
from hidden_geometry import popularity_similarity_graph

from hf_chts.analysis.hyperbolic import Embedding, coalescent_embedding, hyperbolic_distance
from hf_chts.analysis.navigation import greedy_routing, link_probability
from hf_chts.analysis.network import Undefined, adjacency


def placed(angles, radii=3.0):
    """An embedding of the nodes 0, 1, ... at given places."""
    angle = np.asarray(angles, dtype=float)
    radius = np.broadcast_to(np.asarray(radii, dtype=float), angle.shape)
    return Embedding(tuple(range(len(angle))), angle, radius, 2.5, 1.0)


def random_network(seed):
    graph = nx.gnm_random_graph(25, 50, seed=seed)
    graph = nx.convert_node_labels_to_integers(
        graph.subgraph(max(nx.connected_components(graph), key=len))
    )
    rng = np.random.default_rng(seed)
    n_nodes = len(graph)
    ordered = nx.Graph()
    ordered.add_nodes_from(range(n_nodes))
    ordered.add_edges_from(graph.edges)
    return ordered, placed(rng.uniform(0, 2 * np.pi, n_nodes), rng.uniform(0, 6, n_nodes))


def walk(graph, embedding, source, target):
    """Hops of one packet, written as the rule is told; None if it comes by a node again."""

    def distance(node):
        r, t = embedding.radius, embedding.angle
        return hyperbolic_distance(r[node], t[node], r[target], t[target])

    node, visited = source, {source}
    while node != target:
        node = min(graph[node], key=distance)
        if node in visited:
            return None
        visited.add(node)
    return len(visited) - 1


# Greedy routing


def test_a_line_along_the_circle_is_walked_without_detour():
    routing = greedy_routing(placed([0, 0.2, 0.4, 0.6]), nx.path_graph(4))
    assert (routing.success, routing.stretch, routing.score) == (1, 1, 1)
    assert routing.n_pairs == 12


def test_packets_are_lost_where_the_nearest_neighbour_leads_back():
    # The ends 0 and 3 are close on the circle but three links apart.
    routing = greedy_routing(placed([0, 2.0, 4.0, 6.2]), nx.path_graph(4))
    # Lost: 0 > 3 by 1 and back, 3 > 0 by 2 and back, 1 > 3 by 0 and back, 2 > 0 by 3 and back.
    assert routing.success == pytest.approx(8 / 12)
    assert routing.stretch == 1
    assert routing.score == pytest.approx(routing.success)


def test_a_packet_may_step_away_before_it_comes_nearer():
    # From 0 to 2 the only way leads outwards by 1, from where 2 itself is nearest.
    embedding = placed([0, 1.0, 0.1], [3, 9, 3])
    graph = nx.path_graph(3)
    assert greedy_routing(embedding, graph).success == 1


@pytest.mark.parametrize("seed", range(8))
def test_all_pairs_are_routed_as_one_by_one(seed):
    graph, embedding = random_network(seed)
    pairs = list(itertools.permutations(graph, 2))
    hops = [walk(graph, embedding, a, b) for a, b in pairs]
    shortest = dict(nx.all_pairs_shortest_path_length(graph))
    arrived = [k for k, one in enumerate(hops) if one]
    ratios = [shortest[pairs[k][0]][pairs[k][1]] / hops[k] for k in arrived]
    routing = greedy_routing(embedding, graph)
    assert routing.n_pairs == len(pairs)
    assert routing.success == pytest.approx(len(arrived) / len(pairs))
    assert routing.score == pytest.approx(sum(ratios) / len(pairs))
    assert routing.stretch == pytest.approx(np.mean([1 / ratio for ratio in ratios]))


def test_sampled_pairs_estimate_all_pairs():
    graph, _, _ = popularity_similarity_graph(150, 4, 2.5, 0.3, seed=0)
    embedding = coalescent_embedding(graph)
    everyone = greedy_routing(embedding, graph, n_pairs=10**6)
    sample = greedy_routing(embedding, graph, n_pairs=5000, seed=1)
    assert everyone.n_pairs == 150 * 149
    assert sample.n_pairs == 5000
    assert sample.score == pytest.approx(everyone.score, abs=0.05)
    assert sample == greedy_routing(embedding, graph, n_pairs=5000, seed=1)


def test_coordinates_that_fit_are_navigated_better_than_shuffled_ones():
    graph, _, _ = popularity_similarity_graph(150, 4, 2.5, 0.1, seed=0)
    fitting = coalescent_embedding(graph)
    order = np.random.default_rng(0).permutation(150)
    shuffled = Embedding(
        fitting.nodes, fitting.angle[order], fitting.radius[order], fitting.gamma, 1.0
    )
    assert greedy_routing(fitting, graph).score > 0.6
    assert greedy_routing(shuffled, graph).score < 0.4


def test_stretch_is_undefined_when_the_only_packet_is_lost():
    graph, embedding = nx.path_graph(4), placed([0, 2.0, 4.0, 6.2])
    found = [greedy_routing(embedding, graph, n_pairs=1, seed=seed) for seed in range(60)]
    lost = [one for one in found if one.success == 0]
    assert lost
    assert all(one.stretch == Undefined("no packet arrived") for one in lost)
    assert all(one.score == 0 for one in lost)


def test_a_layer_is_routed():
    mask = np.random.default_rng(0).random((20, 30)) < 0.3
    routing = greedy_routing(coalescent_embedding(mask), mask)
    assert 0 < routing.score <= routing.success <= 1
    assert routing.stretch >= 1


@pytest.mark.parametrize("measure", [greedy_routing, link_probability])
def test_numbers_of_pairs_and_foreign_networks_are_refused(measure):
    embedding = placed([0, 1, 2, 3])
    with pytest.raises(ValueError, match="n_pairs must be at least 1, got 0"):
        measure(embedding, nx.path_graph(4), n_pairs=0)
    with pytest.raises(ValueError, match="embedding is of another network"):
        measure(embedding, nx.path_graph(5))
    with pytest.raises(ValueError, match="embedding is of another network"):
        measure(embedding, np.zeros((2, 2), dtype=bool))


# Links and distances


def brute_auc(embedding, pairs, linked):
    r, t = embedding.radius, embedding.angle
    distance = [float(hyperbolic_distance(r[a], t[a], r[b], t[b])) for a, b in pairs]
    near = [d for d, one in zip(distance, linked, strict=True) if one]
    far = [d for d, one in zip(distance, linked, strict=True) if not one]
    return np.mean([(a < b) + (a == b) / 2 for a in near for b in far])


@pytest.mark.parametrize("seed", range(4))
def test_area_under_the_curve_of_all_pairs(seed):
    graph, embedding = random_network(seed)
    pairs = list(itertools.combinations(graph, 2))
    found = link_probability(embedding, graph)
    expected = brute_auc(embedding, pairs, [graph.has_edge(*pair) for pair in pairs])
    assert found.n_pairs == len(pairs)
    assert found.auc == pytest.approx(expected)


def test_pairs_of_a_layer_join_its_two_sides():
    mask = np.random.default_rng(1).random((9, 12)) < 0.4
    embedding = coalescent_embedding(mask)
    links = adjacency(mask).toarray()
    inputs = [k for k, (side, _) in enumerate(embedding.nodes) if side == "in"]
    outputs = [k for k, (side, _) in enumerate(embedding.nodes) if side == "out"]
    number = [i if side == "in" else 12 + i for side, i in embedding.nodes]
    pairs = list(itertools.product(inputs, outputs))
    linked = [bool(links[number[a], number[b]]) for a, b in pairs]
    found = link_probability(embedding, mask, n_bins=1)
    assert found.n_pairs == len(pairs)
    assert found.auc == pytest.approx(brute_auc(embedding, pairs, linked))
    assert found.probability == pytest.approx([np.mean(linked)])


def test_links_grow_rarer_with_distance():
    graph, _, _ = popularity_similarity_graph(200, 5, 2.5, 0.1, seed=0)
    found = link_probability(coalescent_embedding(graph), graph, n_bins=5)
    assert found.auc > 0.9
    assert (np.diff(found.distance) > 0).all()
    assert found.probability[0] > 0.15 > found.probability[-1]


def test_sampled_pairs_estimate_the_curve():
    graph, _, _ = popularity_similarity_graph(200, 5, 2.5, 0.3, seed=0)
    embedding = coalescent_embedding(graph)
    everyone = link_probability(embedding, graph)
    sample = link_probability(embedding, graph, n_pairs=8000)
    assert everyone.n_pairs == 200 * 199 // 2
    assert sample.n_pairs == 8000
    assert sample.auc == pytest.approx(everyone.auc, abs=0.03)


def test_a_complete_layer_has_no_non_link():
    mask = np.ones((3, 4), dtype=bool)
    found = link_probability(coalescent_embedding(mask), mask)
    assert found == Undefined("12 of 12 pairs are linked, both kinds are needed")


def test_a_curve_has_a_point():
    with pytest.raises(ValueError, match="n_bins must be at least 1, got 0"):
        link_probability(placed([0, 1, 2, 3]), nx.path_graph(4), n_bins=0)
