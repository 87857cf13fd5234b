import networkx as nx
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from hf_chts.analysis.network import Undefined, adjacency
from hf_chts.analysis.organisation import (
    assortativity,
    lcp_correlation,
    perturbed,
    rich_club,
    structural_consistency,
)

masks = hnp.arrays(bool, st.tuples(st.integers(1, 7), st.integers(1, 7)))
EMPTY = np.zeros((3, 3), dtype=bool)


def random_mask(shape, density, seed=0):
    return np.random.default_rng(seed).random(shape) < density


def test_rich_club_by_hand():
    mask = np.zeros((4, 4), dtype=bool)
    mask[0, :3] = mask[1, :3] = mask[2, 0] = mask[3, 1] = True
    # Inputs have 3, 3, 2, 0 links, outputs 3, 3, 1, 1; the two hubs of each side are all linked.
    assert rich_club(mask, share=0.5) == 1
    mask[1, 0], mask[1, 3] = False, True
    # Now inputs 2, 3, 2, 1: half of four, with the tie, are three hubs; one of six links misses.
    assert rich_club(mask, share=0.5) == pytest.approx(5 / 6)


def test_rich_club_of_all_neurons_is_the_density():
    mask = random_mask((20, 30), 0.5)
    assert rich_club(mask, share=1.0) == pytest.approx(mask.mean())
    assert rich_club(EMPTY) == Undefined("the layer has no link")


def test_assortativity_by_hand():
    alike = np.zeros((3, 3), dtype=bool)
    alike[0, 0] = alike[1, 1] = alike[1, 2] = alike[2, 1] = alike[2, 2] = True
    assert assortativity(alike) == pytest.approx(1)
    crossed = np.zeros((4, 4), dtype=bool)
    crossed[0, 1:] = crossed[1:, 0] = True
    assert assortativity(crossed) == pytest.approx(-1)


def test_assortativity_of_the_karate_club():
    # As a mask a network has each link in both directions, as Newman counts them: -0.476.
    mask = nx.to_numpy_array(nx.karate_club_graph(), weight=None).astype(bool)
    assert assortativity(mask) == pytest.approx(-0.476, abs=5e-4)


def test_assortativity_that_does_not_exist():
    assert assortativity(np.eye(3, dtype=bool)) == Undefined(
        "all links have the same degree at one end"
    )
    assert assortativity(EMPTY) == Undefined("the layer has fewer than two links")


def lcp_by_enumeration(mask):
    """CN and LCL of each link from the paths of three links, listed one by one."""
    counts = []
    for o, i in np.argwhere(mask):
        nodes, inner = set(), set()
        for z_out in np.flatnonzero(mask[:, i]):
            for z_in in np.flatnonzero(mask[o]):
                if z_out != o and z_in != i and mask[z_out, z_in]:
                    nodes |= {("out", z_out), ("in", z_in)}
                    inner.add((z_out, z_in))
        if len(nodes) > 1:
            counts.append((len(nodes), len(inner)))
    return np.array(counts).reshape(-1, 2).T


@given(masks)
def test_lcp_correlation_is_that_of_enumerated_paths(mask):
    common, links = lcp_by_enumeration(mask)
    result = lcp_correlation(mask)
    if common.size < 2 or np.ptp(common) == 0 or np.ptp(links) == 0:
        assert isinstance(result, Undefined)
    else:
        assert result == pytest.approx(np.corrcoef(common, links)[0, 1])


def test_lcp_correlation_is_high_where_communities_are_of_different_sizes():
    sizes = (2, 4, 6, 8)
    mask = np.zeros((20, 20), dtype=bool)
    start = 0
    for size in sizes:
        mask[start : start + size, start : start + size] = True
        start += size
    # In a complete block of n, CN = 2 (n - 1) and LCL = (n - 1)^2 for its n^2 links.
    n = np.repeat(sizes, np.square(sizes))
    expected = np.corrcoef(2 * (n - 1), (n - 1) ** 2)[0, 1]
    assert lcp_correlation(mask) == pytest.approx(expected)


def test_lcp_correlation_that_does_not_exist():
    what = "number of common neighbours, or of links between them"
    assert lcp_correlation(np.ones((2, 2), bool)) == Undefined(f"all links have the same {what}")
    assert lcp_correlation(np.eye(3, dtype=bool)) == Undefined(
        "fewer than two links have more than one common neighbour"
    )


def hide(mask, share, seed=0):
    hidden = mask & random_mask(mask.shape, share, seed=seed)
    return mask & ~hidden, hidden


def test_perturbed_matrix_is_that_of_the_adjacency_matrix():
    # The definition on the symmetric network; no eigenvalue is repeated here.
    kept, hidden = hide(random_mask((9, 9), 0.5, seed=2), 0.2)
    values, vectors = np.linalg.eigh(adjacency(kept).toarray().astype(float))
    assert np.diff(values).min() > 1e-6
    change = adjacency(hidden).toarray()
    shifts = np.einsum("nk,nm,mk->k", vectors, change, vectors)
    expected = (vectors * (values + shifts)) @ vectors.T
    assert perturbed(kept, hidden) == pytest.approx(expected[9:, :9], abs=1e-9)


@given(masks, st.integers(0, 100))
def test_perturbed_matrix_does_not_depend_on_the_order_of_neurons(mask, seed):
    kept, hidden = hide(mask, 0.3, seed)
    if not kept.any():
        return
    generator = np.random.default_rng(seed)
    rows, columns = (generator.permutation(n) for n in mask.shape)
    moved = perturbed(kept[rows][:, columns], hidden[rows][:, columns])
    assert moved == pytest.approx(perturbed(kept, hidden)[rows][:, columns], abs=1e-6)
    turned = perturbed(kept.T, hidden.T).T
    assert turned == pytest.approx(perturbed(kept, hidden), abs=1e-6)


def test_regular_layers_are_consistent_and_random_ones_are_not():
    blocks = np.kron(np.eye(4, dtype=bool), np.ones((15, 15), dtype=bool))
    random = random_mask((60, 60), 0.25)
    regular = structural_consistency(blocks)
    assert regular.mean > 0.9
    assert (regular.repetitions, regular.sampled) == (10, None)
    assert structural_consistency(random).mean < 0.2


def test_large_sides_are_sampled():
    blocks = np.kron(np.eye(4, dtype=bool), np.ones((15, 15), dtype=bool))
    result = structural_consistency(blocks, max_neurons=40, seed=2)
    assert result.sampled == 40
    assert result.mean > 0.8
    assert result == structural_consistency(blocks, max_neurons=40, seed=2)
    random = random_mask((60, 60), 0.25)
    first, other = (structural_consistency(random, max_neurons=40, seed=s) for s in (2, 3))
    assert first != other


def test_isolated_neurons_change_no_consistency():
    mask = random_mask((12, 10), 0.4)
    mask[[0, 1]] |= ~mask.any(axis=0)
    wide = np.zeros((20, 15), dtype=bool)
    wide[:12, :10] = mask
    assert structural_consistency(wide) == structural_consistency(mask)


def test_consistency_that_does_not_exist():
    one = EMPTY.copy()
    one[0, 0] = True
    assert structural_consistency(one) == Undefined(
        "the layer has fewer than two links, one to hide and one to learn from"
    )
    assert structural_consistency(np.ones((2, 3), bool)) == Undefined(
        "no pair of linked neurons is without a link"
    )
    assert structural_consistency(np.eye(50, dtype=bool), max_neurons=1) == Undefined(
        "random parts of 1 neurons a side have hardly a link"
    )


def test_bad_input_is_refused():
    mask = random_mask((5, 5), 0.5)
    with pytest.raises(ValueError, match="hidden_share lies in \\(0, 1\\), got 1"):
        structural_consistency(mask, hidden_share=1.0)
    with pytest.raises(ValueError, match="at least 1, got 0 and 1024"):
        structural_consistency(mask, repetitions=0)
