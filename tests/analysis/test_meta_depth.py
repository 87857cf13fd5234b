from itertools import product

import networkx as nx
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from hf_chts.analysis.degree import hubs
from hf_chts.analysis.measures import MEASURES
from hf_chts.analysis.meta_depth import hub_paths, meta_depth
from hf_chts.analysis.network import Undefined, to_graph

masks = hnp.arrays(bool, st.tuples(st.integers(1, 6), st.integers(1, 6)))


def test_levels_of_a_core_with_a_pendant():
    mask = np.zeros((4, 4), dtype=bool)
    mask[:3, :3] = True
    mask[0, 3] = True  # input 3 hangs on the core; output 3 is isolated
    result = meta_depth(mask)
    assert result.inputs.tolist() == [3, 3, 3, 1]
    assert result.outputs.tolist() == [3, 3, 3, 0]
    assert result.levels == (3, 1)
    assert result.shares == pytest.approx((6 / 7, 1 / 7))
    assert result.depth == pytest.approx((7 / 6) ** (6 / 7) * 7 ** (1 / 7))


def test_a_complete_layer_has_no_hierarchy():
    assert meta_depth(np.ones((3, 5), dtype=bool)).depth == 1


@given(masks)
def test_cores_are_those_of_networkx(mask):
    result = meta_depth(mask)
    if not mask.any():
        assert result == Undefined("the layer has no link")
        return
    expected = nx.core_number(to_graph(mask, drop_isolated=False))
    assert result.inputs.tolist() == [expected["in", i] for i in range(mask.shape[1])]
    assert result.outputs.tolist() == [expected["out", o] for o in range(mask.shape[0])]
    assert sum(result.shares) == pytest.approx(1)
    assert 1 <= result.depth <= len(result.levels) + 1e-9


def test_a_nested_layer_is_deeper_than_a_random_one():
    # The upper triangle: the degrees fall from one neuron to the next.
    nested = np.triu(np.ones((30, 30), dtype=bool))
    random = np.random.default_rng(0).random((30, 30)) < nested.mean()
    assert meta_depth(nested).depth > meta_depth(random).depth + 2


def test_random_layers_are_deep_where_they_are_not_square():
    generator = np.random.default_rng(0)
    square, wide, tall = (
        meta_depth(generator.random(shape) < 0.1).depth
        for shape in ((512, 512), (512, 2048), (2048, 512))
    )
    assert square < 2
    assert min(wide, tall) > 7
    assert "high in random layers that are not square" in MEASURES["meta_depth"].unit


def by_enumeration(layers, stages):
    """All paths and those through allowed neurons only, listed one by one."""
    total = allowed = 0
    for path in product(*(range(stage.size) for stage in stages)):
        linked = all(m[o, i] for m, i, o in zip(layers, path, path[1:], strict=False))
        total += linked
        allowed += linked and all(s[j] for s, j in zip(stages, path, strict=True))
    return total, allowed


def test_hub_paths_are_those_found_by_enumeration():
    generator = np.random.default_rng(1)
    first, second = generator.random((6, 5)) < 0.5, generator.random((4, 6)) < 0.5
    stages = [
        hubs(first.sum(axis=0), 0.4),
        hubs(first.sum(axis=1) + second.sum(axis=0), 0.4),
        hubs(second.sum(axis=1), 0.4),
    ]
    result = hub_paths([first, second], share=0.4)
    total, through = by_enumeration([first, second], stages)
    assert 0 < through < total
    assert result.share == pytest.approx(through / total)
    for j, passing in enumerate(result.stages):
        free = [s if k == j else np.ones_like(s) for k, s in enumerate(stages)]
        assert passing == pytest.approx(by_enumeration([first, second], free)[1] / total)
    assert result.expected == pytest.approx(np.prod(result.stages))
    assert result.enrichment == pytest.approx(result.share / result.expected)


def test_hubs_that_lead_to_hubs_are_enriched():
    core, edge = np.ones((2, 2), dtype=bool), np.eye(6, dtype=bool)
    apart = np.block([[core, np.zeros((2, 6), bool)], [np.zeros((6, 2), bool), edge]])
    # Of 8 paths of one layer the four of the core run from hub to hub; half of the ends are hubs
    # of 10 links: shares 4/10, expected (4/10)^2.
    result = hub_paths([apart], share=0.25)
    assert result.share == pytest.approx(0.4)
    assert result.enrichment == pytest.approx(2.5)
    crossed = np.zeros((4, 4), dtype=bool)
    crossed[0, 1:] = crossed[1:, 0] = True  # each hub leads to ordinary neurons only
    assert hub_paths([crossed], share=0.25).share == 0


def test_many_paths_do_not_overflow():
    layers = [np.ones((40, 40), dtype=bool)] * 200
    assert hub_paths(layers).share == pytest.approx(1)


def test_hub_paths_that_do_not_exist():
    cut = [np.array([[True], [False]]), np.array([[False, True]])]
    assert hub_paths(cut) == Undefined("no path leads through all layers")
    # The hub of the first layer's outputs leads nowhere.
    first = np.array([[True, True, True], [True, False, False]])
    second = np.array([[False, True]])
    aside = hub_paths([first, second], share=0.5)
    assert aside == Undefined("at one stage no path passes a hub")


def test_bad_input_is_refused():
    with pytest.raises(ValueError, match="at least one mask, got none"):
        hub_paths([])
    with pytest.raises(ValueError, match="got 2 outputs and then 3 inputs"):
        hub_paths([np.ones((2, 2), dtype=bool), np.ones((2, 3), dtype=bool)])
