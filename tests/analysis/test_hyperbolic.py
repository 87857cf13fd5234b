import math

import networkx as nx
import numpy as np
import pytest
from hidden_geometry import (
    bipartite_ring_mask,
    circular_order_score,
    distance_correlation,
    popularity_similarity_graph,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from hf_chts.analysis import hyperbolic
from hf_chts.analysis.hyperbolic import (
    REDUCTIONS,
    coalescent_embedding,
    hyperbolic_distance,
    largest_component,
    link_weights,
)
from hf_chts.analysis.network import Undefined, to_graph

radius = st.floats(0, 15)
angle = st.floats(0, 2 * math.pi)
point = st.tuples(radius, angle)


def ring_mask(noise=0.1, seed=0):
    return bipartite_ring_mask(120, 150, 15, seed, noise)


def true_angles(embedding, angle_in, angle_out):
    return np.array([(angle_in if s == "in" else angle_out)[k] for s, k in embedding.nodes])


def weight_between(component, weighting, a, b):
    weights = link_weights(component, weighting)
    return weights[component.nodes.index(a), component.nodes.index(b)]


# The largest component


def test_component_of_a_mask_names_its_neurons():
    mask = np.array([[1, 1, 0, 0], [0, 1, 0, 0], [0, 0, 0, 1]], dtype=bool)
    component = largest_component(mask)
    assert component.nodes == (("in", 0), ("in", 1), ("out", 0), ("out", 1))
    assert component.n_first == 2
    assert component.share == 4 / 7
    assert component.links.toarray().tolist() == [
        [0, 0, 1, 0],
        [0, 0, 1, 1],
        [1, 1, 0, 0],
        [0, 1, 0, 0],
    ]


def test_component_of_a_graph_sorts_the_sides_of_a_bipartite_one():
    mask = np.array([[1, 1, 0], [0, 1, 0]], dtype=bool)
    sides = list(to_graph(mask, drop_isolated=False).nodes(data="bipartite"))
    graph = nx.Graph()
    for node, side in reversed(sides):
        graph.add_node(node, bipartite=side)
    graph.add_edges_from(to_graph(mask).edges)
    component = largest_component(graph)
    assert component.n_first == 2
    assert component.share == 4 / 5
    assert {side for side, _ in component.nodes[:2]} == {"in"}


def test_component_of_a_plain_graph_knows_no_sides():
    component = largest_component(nx.path_graph(4))
    assert component.n_first is None
    assert component.nodes == (0, 1, 2, 3)


@pytest.mark.parametrize("network", [np.zeros((3, 4), dtype=bool), nx.Graph(), nx.empty_graph(5)])
def test_no_link_no_embedding(network):
    assert coalescent_embedding(network) == Undefined("the network has no link")


def test_three_nodes_are_too_few():
    assert "3 nodes" in coalescent_embedding(nx.path_graph(3)).reason
    assert not isinstance(coalescent_embedding(nx.path_graph(4)), Undefined)


def test_a_mask_is_checked():
    with pytest.raises(TypeError, match="boolean"):
        coalescent_embedding(np.ones((4, 4)))


# Distance


def test_distance_along_a_radius_and_through_the_centre():
    assert hyperbolic_distance(3, 1, 5, 1) == pytest.approx(2)
    assert hyperbolic_distance(3, 0.5, 5, 0.5 + math.pi) == pytest.approx(8)
    assert hyperbolic_distance(0, 0.1, 4, 2) == pytest.approx(4)


def test_distance_is_the_law_of_cosines():
    a, b, between = 1.3, 2.1, 0.8
    cosh = math.cosh(a) * math.cosh(b) - math.sinh(a) * math.sinh(b) * math.cos(between)
    assert hyperbolic_distance(a, 0.3, b, 0.3 + between) == pytest.approx(math.acosh(cosh))


def test_close_points_far_out_keep_their_digits():
    # There the law of cosines subtracts numbers of 1e13 from each other.
    assert hyperbolic_distance(15, 0, 15 + 1e-6, 0) == pytest.approx(1e-6, rel=1e-3)


@settings(max_examples=50)
@given(point, point, point)
def test_distance_is_a_metric(a, b, c):
    def distance(p, q):
        return float(hyperbolic_distance(*p, *q))

    assert distance(a, b) == pytest.approx(distance(b, a), abs=1e-9)
    assert distance(a, c) <= distance(a, b) + distance(b, c) + 1e-6


# Weights


def test_repulsion_attraction_on_a_triangle_with_a_tail():
    component = largest_component(nx.Graph([(0, 1), (1, 2), (2, 0), (2, 3)]))
    assert weight_between(component, "RA1", 0, 1) == (2 + 2 + 4) / 2
    assert weight_between(component, "RA1", 0, 2) == (2 + 3 + 6) / 2
    assert weight_between(component, "RA1", 2, 3) == 3 + 1 + 3


def test_only_repulsion_is_left_in_a_bipartite_network():
    component = largest_component(np.ones((2, 3), dtype=bool))
    assert weight_between(component, "RA1", ("in", 0), ("out", 1)) == 2 + 3 + 6


def test_paths_of_length_three_attract():
    # in0-out0 has one path besides itself (by in1, out1); in2-out1 hangs on in1 by out1 alone.
    mask = np.array([[1, 1, 0], [1, 1, 1]], dtype=bool)
    component = largest_component(mask)
    assert weight_between(component, "RA1-L3", ("in", 0), ("out", 0)) == (2 + 2 + 4) / 2
    assert weight_between(component, "RA1-L3", ("in", 0), ("out", 1)) == (2 + 3 + 6) / 2
    assert weight_between(component, "RA1-L3", ("in", 2), ("out", 1)) == 1 + 3 + 3


def test_paths_of_length_three_are_all_simple_paths():
    mask = np.random.default_rng(3).random((7, 9)) < 0.4
    component = largest_component(mask)
    graph = to_graph(mask)
    degree = dict(graph.degree)
    for a, b in nx.Graph(graph.subgraph(component.nodes)).edges:
        paths = [p for p in nx.all_simple_paths(graph, a, b, cutoff=3) if len(p) == 4]
        repulsion = degree[a] + degree[b] + degree[a] * degree[b]
        assert weight_between(component, "RA1-L3", a, b) == repulsion / (1 + len(paths))


@pytest.mark.parametrize("seed", [0, 1])
def test_edge_betweenness_is_that_of_networkx(seed):
    graph = nx.erdos_renyi_graph(30, 0.15, seed=seed)
    component = largest_component(graph)
    expected = nx.edge_betweenness_centrality(graph.subgraph(component.nodes), normalized=False)
    for (a, b), value in expected.items():
        assert weight_between(component, "EBC", a, b) == pytest.approx(value)
        assert weight_between(component, "EBC", b, a) == pytest.approx(value)


def test_edge_betweenness_of_sampled_sources_is_close(monkeypatch):
    component = largest_component(ring_mask()[0])
    exact = link_weights(component, "EBC").toarray()
    monkeypatch.setattr(hyperbolic, "_ALL_SOURCES_UP_TO", 100)
    monkeypatch.setattr(hyperbolic, "_SAMPLED_SOURCES", 100)
    sampled = link_weights(component, "EBC").toarray()
    assert ((sampled > 0) == (exact > 0)).all()
    assert sampled.sum() == pytest.approx(exact.sum(), rel=0.1)
    assert np.corrcoef(sampled[exact > 0], exact[exact > 0])[0, 1] > 0.9


# Coordinates


@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_angles_are_equally_spaced_and_oriented(reduction):
    embedding = coalescent_embedding(ring_mask()[0], reduction=reduction)
    n_nodes = len(embedding.nodes)
    np.testing.assert_allclose(np.sort(embedding.angle), np.arange(n_nodes) * 2 * np.pi / n_nodes)
    by_degree = np.argsort(embedding.radius, kind="stable")
    assert embedding.angle[by_degree[0]] == 0
    assert 0 < embedding.angle[by_degree[1]] < np.pi


def test_radii_follow_the_degrees():
    graph, _, _ = popularity_similarity_graph(200, 4, 2.5, 0.1, seed=0)
    embedding = coalescent_embedding(graph)
    beta, n_nodes = 1 / (embedding.gamma - 1), 200
    assert 2 < embedding.gamma < 3.5
    degree = np.array([graph.degree[node] for node in embedding.nodes])
    ranked = np.argsort(-degree, kind="stable")
    expected = 2 * beta * np.log(np.arange(1, 201)) + 2 * (1 - beta) * np.log(n_nodes)
    np.testing.assert_allclose(embedding.radius[ranked], expected)


def test_radii_of_a_very_heavy_tail_are_cut_at_the_centre():
    rng = np.random.default_rng(0)
    degree = np.minimum(rng.zipf(1.2, 100), 500)
    mask = rng.random((100, 500)).argsort(1).argsort(1) < degree[:, None]
    embedding = coalescent_embedding(mask)
    assert embedding.gamma < 2
    assert embedding.radius.min() == 0
    assert embedding.radius.max() == pytest.approx(2 * np.log(len(embedding.nodes)))


def test_equal_degrees_have_equal_radii():
    embedding = coalescent_embedding(nx.cycle_graph(9))
    assert isinstance(embedding.gamma, Undefined)
    np.testing.assert_allclose(embedding.radius, 2 * np.log(9))


@pytest.mark.parametrize("reduction", ["ncISO", "ISO"])
def test_a_cycle_is_found_exactly(reduction):
    embedding = coalescent_embedding(nx.cycle_graph(21), reduction=reduction)
    steps = np.diff(embedding.angle[np.argsort(embedding.nodes)])
    assert np.unique(np.round(np.mod(steps, 2 * np.pi), 6)).size == 1


@pytest.mark.parametrize("weighting", ["RA1", "EBC"])
@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_hidden_angles_of_popularity_and_similarity_are_found(weighting, reduction):
    graph, radius, angle = popularity_similarity_graph(250, 5, 2.5, 0.1, seed=1)
    embedding = coalescent_embedding(graph, weighting=weighting, reduction=reduction)
    index = np.array(embedding.nodes)
    assert circular_order_score(embedding.angle, angle[index]) > 0.88
    assert distance_correlation(embedding, radius[index], angle[index]) > 0.85
    chance = np.random.default_rng(0).permutation(embedding.angle)
    assert circular_order_score(chance, angle[index]) < 0.6


def test_heat_blurs_the_hidden_angles():
    scores = []
    for temperature in (0, 0.5, 0.9):
        graph, _, angle = popularity_similarity_graph(250, 5, 2.5, temperature, seed=2)
        embedding = coalescent_embedding(graph)
        scores.append(circular_order_score(embedding.angle, angle[np.array(embedding.nodes)]))
    assert scores[0] > scores[1] > scores[2]


@pytest.mark.parametrize("weighting", ["RA1-L3", "EBC"])
@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_hidden_angles_of_a_layer_are_found(weighting, reduction):
    mask, angle_in, angle_out = ring_mask()
    embedding = coalescent_embedding(mask, weighting=weighting, reduction=reduction)
    assert circular_order_score(embedding.angle, true_angles(embedding, angle_in, angle_out)) > 0.8


def test_local_communities_find_the_angles_of_a_noisy_layer_better_than_degrees_alone():
    mask, angle_in, angle_out = ring_mask(noise=0.3)
    scores = {}
    for weighting in ("RA1", "RA1-L3"):
        embedding = coalescent_embedding(mask, weighting=weighting)
        true = true_angles(embedding, angle_in, angle_out)
        scores[weighting] = circular_order_score(embedding.angle, true)
    assert scores["RA1-L3"] > scores["RA1"] + 0.05


def test_sampled_sources_find_nearly_the_same_order(monkeypatch):
    mask = ring_mask()[0]
    exact = coalescent_embedding(mask)
    monkeypatch.setattr(hyperbolic, "_ALL_SOURCES_UP_TO", 100)
    monkeypatch.setattr(hyperbolic, "_SAMPLED_SOURCES", 60)
    first, again = coalescent_embedding(mask, seed=1), coalescent_embedding(mask, seed=1)
    assert circular_order_score(first.angle, exact.angle) > 0.95
    assert (first.angle == again.angle).all()
    assert (first.angle != coalescent_embedding(mask, seed=2).angle).any()


def test_a_mask_and_its_graph_have_one_embedding():
    mask = ring_mask()[0]
    by_mask = coalescent_embedding(mask)
    by_graph = coalescent_embedding(to_graph(mask, drop_isolated=False))
    assert by_mask.nodes == by_graph.nodes
    assert by_mask.largest_component_share == by_graph.largest_component_share
    assert (by_mask.angle == by_graph.angle).all()
    assert (by_mask.radius == by_graph.radius).all()


def test_unknown_names_are_refused():
    graph = nx.path_graph(5)
    with pytest.raises(ValueError, match="unknown weighting 'RA3'; take one of: RA1"):
        coalescent_embedding(graph, weighting="RA3")
    with pytest.raises(ValueError, match="unknown reduction 'PCA'; take one of: ncISO"):
        coalescent_embedding(graph, reduction="PCA")


def test_paths_of_length_three_are_for_bipartite_networks():
    with pytest.raises(ValueError, match="take RA1"):
        coalescent_embedding(nx.path_graph(5), weighting="RA1-L3")
