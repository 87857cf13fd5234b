import networkx as nx
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from hf_chts.analysis.network import Undefined, adjacency, check_mask, to_graph

masks = hnp.arrays(bool, st.tuples(st.integers(1, 6), st.integers(1, 6)))


def test_undefined_is_falsy_and_says_why():
    nothing = Undefined("the layer has no link")
    assert not nothing
    assert str(nothing) == "not defined: the layer has no link"


def test_a_torch_mask_is_read_in_place():
    tensor = torch.tensor([[True, False, True]])
    array = check_mask(tensor)
    tensor[0, 1] = True
    assert array.tolist() == [[True, True, True]]


@pytest.mark.parametrize("wrong", [np.ones((2, 2)), np.ones((2, 2), dtype=np.uint8)])
def test_a_mask_is_boolean(wrong):
    with pytest.raises(TypeError, match="a mask is boolean, got"):
        check_mask(wrong)


@pytest.mark.parametrize("shape", [(3,), (2, 2, 2), (0, 3), (3, 0)])
def test_a_mask_has_two_sides(shape):
    with pytest.raises(ValueError, match="shape \\(out, in\\)"):
        check_mask(np.ones(shape, dtype=bool))


def test_graph_of_a_small_mask():
    mask = np.array([[True, True, False], [False, False, False]])
    graph = to_graph(mask)
    assert set(graph.edges) == {(("in", 0), ("out", 0)), (("in", 1), ("out", 0))}
    assert dict(graph.nodes(data="bipartite")) == {("in", 0): 0, ("in", 1): 0, ("out", 0): 1}
    assert set(to_graph(mask, drop_isolated=False)) - set(graph) == {("in", 2), ("out", 1)}


def test_adjacency_of_a_small_mask():
    mask = np.array([[True, False, True], [False, False, True]])
    expected = np.zeros((5, 5), dtype=int)
    for i, o in [(0, 0), (2, 0), (2, 1)]:
        expected[i, 3 + o] = expected[3 + o, i] = 1
    assert np.array_equal(adjacency(mask).toarray(), expected)


@given(masks)
def test_both_views_are_the_same_network(mask):
    graph = to_graph(mask, drop_isolated=False)
    assert np.array_equal(nx.to_numpy_array(graph, dtype=int), adjacency(mask).toarray())
    assert graph.number_of_edges() == mask.sum()
