import networkx as nx
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from networkx.algorithms import bipartite

from hf_chts.analysis.clustering import (
    characteristic_path_length,
    latapy_clustering,
    lattice,
    robins_alexander_clustering,
    small_worldness,
)
from hf_chts.analysis.network import Undefined, to_graph

masks = hnp.arrays(bool, st.tuples(st.integers(1, 7), st.integers(1, 7)))
COMPLETE = np.ones((3, 4), dtype=bool)
STAR = np.ones((1, 5), dtype=bool)
PATH = np.array([[True, True], [False, True]])  # in 0 - out 0 - in 1 - out 1


def southern_women():
    graph = nx.davis_southern_women_graph()
    women, events = graph.graph["top"], graph.graph["bottom"]
    return bipartite.biadjacency_matrix(graph, women, events).toarray().astype(bool)


def random_mask(shape, density, seed=0):
    return np.random.default_rng(seed).random(shape) < density


def test_complete_layers_are_fully_clustered():
    assert robins_alexander_clustering(COMPLETE) == 1
    assert latapy_clustering(COMPLETE) == pytest.approx(1)


def test_trees_have_no_squares():
    assert robins_alexander_clustering(PATH) == 0
    assert robins_alexander_clustering(STAR) == Undefined("the layer has no path of three links")


def test_overlap_in_a_star():
    # Five inputs share all they have with one another, the output has no partner.
    assert latapy_clustering(STAR) == pytest.approx(5 / 6)


def test_clustering_of_the_southern_women():
    assert robins_alexander_clustering(southern_women()) == pytest.approx(0.468, abs=5e-4)


@given(masks)
def test_clusterings_are_those_of_networkx(mask):
    graph = to_graph(mask)
    expected = bipartite.robins_alexander_clustering(graph) if mask.any() else 0
    assert (robins_alexander_clustering(mask) or 0.0) == pytest.approx(expected)
    if mask.any():
        local = bipartite.latapy_clustering(graph)
        assert latapy_clustering(mask) == pytest.approx(np.mean(list(local.values())), rel=1e-5)


@given(masks)
def test_clustering_does_not_tell_inputs_from_outputs(mask):
    assert robins_alexander_clustering(mask) == robins_alexander_clustering(mask.T)
    assert latapy_clustering(mask) == pytest.approx(latapy_clustering(mask.T)) if mask.any() else 1


def test_an_empty_layer_has_neither_overlap_nor_paths():
    empty = np.zeros((2, 3), dtype=bool)
    assert latapy_clustering(empty) == Undefined("the layer has no link")
    assert characteristic_path_length(empty) == Undefined("the layer has no link")


@pytest.mark.parametrize(("mask", "mean", "longest"), [(PATH, 10 / 6, 3), (COMPLETE, 30 / 21, 2)])
def test_path_lengths_by_hand(mask, mean, longest):
    result = characteristic_path_length(mask)
    assert result.mean == pytest.approx(mean)
    assert (result.longest, result.component_share, result.sampled) == (longest, 1.0, None)


def test_path_length_of_the_southern_women():
    expected = nx.average_shortest_path_length(nx.davis_southern_women_graph())
    assert characteristic_path_length(southern_women()).mean == pytest.approx(expected)


def test_only_the_largest_component_counts():
    mask = np.zeros((4, 5), dtype=bool)
    mask[:2, :2] = PATH
    mask[2, 2] = True  # a second component; the last neurons are isolated
    result = characteristic_path_length(mask)
    assert result.mean == pytest.approx(10 / 6)
    assert result.component_share == pytest.approx(4 / 6)


def test_distances_are_sampled_in_large_components():
    mask = random_mask((60, 50), 0.2)
    whole = characteristic_path_length(mask)
    part = characteristic_path_length(mask, max_sources=30, seed=1)
    assert (whole.sampled, part.sampled) == (None, 30)
    assert part.mean == pytest.approx(whole.mean, rel=0.05)
    assert part == characteristic_path_length(mask, max_sources=30, seed=1)
    assert part.mean != characteristic_path_length(mask, max_sources=30, seed=2).mean
    with pytest.raises(ValueError, match="max_sources is at least 1, got 0"):
        characteristic_path_length(mask, max_sources=0)


def test_lattices_by_hand():
    assert np.array_equal(lattice(np.eye(4, dtype=bool)[::-1]), np.eye(4, dtype=bool))
    # Output 0 lies between inputs 0 and 1, output 1 between inputs 2 and 3.
    two = np.array([[True, False, False, True], [True, False, False, True]])
    assert lattice(two).tolist() == [[True, True, False, False], [False, False, True, True]]


@given(masks)
def test_lattices_keep_the_links_of_outputs(mask):
    assert np.array_equal(lattice(mask).sum(axis=1), mask.sum(axis=1))


def test_a_rewired_lattice_is_a_small_world():
    random = random_mask((200, 200), 0.05)
    ring = lattice(random)
    moved = random_mask((200, 200), 0.1, seed=1)
    small = np.where(moved, random, ring)
    results = []
    for mask in (ring, small, random):
        results.append(
            small_worldness(
                robins_alexander_clustering(mask),
                characteristic_path_length(mask).mean,
                random_clustering=robins_alexander_clustering(random),
                random_path_length=characteristic_path_length(random).mean,
                lattice_clustering=robins_alexander_clustering(ring),
            )
        )
    omegas = [result.omega for result in results]
    assert omegas[0] < -0.5 < omegas[1] < 0.5 < omegas[2]
    assert results[1].sigma > 2
    assert results[2].sigma == pytest.approx(1)


def test_small_worldness_by_hand():
    result = small_worldness(
        0.5, 2.0, random_clustering=0.1, random_path_length=1.8, lattice_clustering=0.6
    )
    assert result.sigma == pytest.approx(4.5)
    assert result.omega == pytest.approx(0.9 - 0.5 / 0.6)


@pytest.mark.parametrize("references", [(0.0, 0.6), (0.1, 0.0)])
def test_small_worldness_needs_clustered_references(references):
    random, ring = references
    result = small_worldness(
        0.5, 2.0, random_clustering=random, random_path_length=1.8, lattice_clustering=ring
    )
    assert result == Undefined("a reference network has no clustering to compare with")


@pytest.mark.parametrize(("clustering", "length"), [(-0.1, 2.0), (0.5, 0.0)])
def test_small_worldness_refuses_impossible_values(clustering, length):
    with pytest.raises(ValueError, match="clusterings are at least 0 and path lengths above 0"):
        small_worldness(
            clustering,
            length,
            random_clustering=0.1,
            random_path_length=1.8,
            lattice_clustering=0.6,
        )
