import networkx as nx
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from networkx.algorithms import bipartite

from hf_chts.analysis.community import communities, modularity
from hf_chts.analysis.network import Undefined

BLOCKS = np.kron(np.eye(2, dtype=bool), np.ones((2, 3), dtype=bool))
masks = hnp.arrays(bool, st.tuples(st.integers(1, 6), st.integers(1, 6)))


def test_modularity_of_two_blocks_by_hand():
    # Half of the links in each block: 1/2 - 1/4, twice.
    result = modularity(BLOCKS, [0, 0, 0, 7, 7, 7], [0, 0, 7, 7])
    assert (result.barber, result.newman) == (0.5, 0.5)
    one = modularity(BLOCKS, [0] * 6, [0] * 4)
    assert (one.barber, one.newman) == (0, 0)


def test_a_partition_by_sides_has_no_link_inside():
    result = modularity(BLOCKS, [0] * 6, [1] * 4)
    assert result.barber == 0
    assert result.newman == -0.5


@given(masks, st.data())
def test_modularity_is_that_of_networkx(mask, data):
    n_out, n_in = mask.shape
    inputs = data.draw(st.lists(st.integers(0, 3), min_size=n_in, max_size=n_in))
    outputs = data.draw(st.lists(st.integers(0, 3), min_size=n_out, max_size=n_out))
    result = modularity(mask, inputs, outputs)
    if not mask.any():
        assert result == Undefined("the layer has no link")
        return
    graph = nx.DiGraph()
    graph.add_nodes_from([("in", i) for i in range(n_in)] + [("out", o) for o in range(n_out)])
    graph.add_edges_from((("in", int(i)), ("out", int(o))) for o, i in np.argwhere(mask))
    groups = {}
    for name, labels in (("in", inputs), ("out", outputs)):
        for j, label in enumerate(labels):
            groups.setdefault(label, set()).add((name, j))
    parts = list(groups.values())
    # With links from inputs to outputs, directed modularity is Barber's.
    assert result.barber == pytest.approx(nx.community.modularity(graph, parts))
    undirected = nx.community.modularity(graph.to_undirected(), parts)
    assert result.newman == pytest.approx(undirected)


def test_modularity_of_the_karate_club():
    # A symmetric mask with the same communities on both sides has the modularity of the network.
    graph = nx.karate_club_graph()
    club = np.array([graph.nodes[n]["club"] == "Officer" for n in graph], dtype=int)
    mask = nx.to_numpy_array(graph, weight=None).astype(bool)
    assert modularity(mask, club, club).barber == pytest.approx(0.3582, abs=1e-4)


def test_communities_of_the_southern_women():
    graph = nx.davis_southern_women_graph()
    women, events = graph.graph["top"], graph.graph["bottom"]
    mask = bipartite.biadjacency_matrix(graph, women, events).toarray().astype(bool)
    found = communities(mask, n_starts=20)
    assert found.modularity.barber == pytest.approx(0.3455, abs=5e-4)  # the best one known
    assert len(found.sizes) == 4


def test_planted_communities_are_found():
    generator = np.random.default_rng(0)
    inputs, outputs = generator.integers(0, 4, 120), generator.integers(0, 4, 100)
    inside = outputs[:, None] == inputs
    mask = generator.random(inside.shape) < np.where(inside, 0.4, 0.03)
    found = communities(mask, seed=3)
    assert len(found.sizes) == 4
    assert sum(found.sizes) == 220
    assert len(set(zip(found.inputs.tolist(), inputs.tolist(), strict=True))) == 4
    assert len(set(zip(found.outputs.tolist(), outputs.tolist(), strict=True))) == 4
    assert found.modularity == modularity(mask, found.inputs, found.outputs)


def test_communities_are_sorted_by_size_and_isolated_neurons_in_none():
    mask = np.zeros((6, 6), dtype=bool)
    mask[0, :2] = True
    mask[1:4, 2:5] = True
    found = communities(mask)
    assert found.inputs.tolist() == [1, 1, 0, 0, 0, -1]
    assert found.outputs.tolist() == [1, 0, 0, 0, -1, -1]
    assert found.sizes == (6, 3)


def test_the_same_seed_finds_the_same_communities():
    mask = np.random.default_rng(0).random((80, 80)) < 0.1
    first, again = communities(mask, seed=5), communities(mask, seed=5)
    assert np.array_equal(first.inputs, again.inputs)
    assert first.modularity == again.modularity
    best = communities(mask, n_starts=10, seed=5).modularity.barber
    assert best >= communities(mask, n_starts=1, seed=5).modularity.barber


def test_an_empty_layer_has_no_communities():
    assert communities(np.zeros((2, 2), dtype=bool)) == Undefined("the layer has no link")


def test_bad_input_is_refused():
    with pytest.raises(ValueError, match="n_starts is at least 1, got 0"):
        communities(BLOCKS, n_starts=0)
    with pytest.raises(TypeError, match="communities are integers, got float64"):
        modularity(BLOCKS, [0.0] * 6, [0] * 4)
    with pytest.raises(ValueError, match="needs 6 input and 4 output communities"):
        modularity(BLOCKS, [0] * 4, [0] * 6)
