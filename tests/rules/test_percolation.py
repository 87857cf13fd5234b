from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hf_chts.rules.percolation import End, active_neuron_rate, active_neurons, percolate

CHAIN = [[End("first", "out")], [End("second", "in")]]
QUERY_KEY = [[End("query", "out")], [End("key", "out")]]


def bools(*rows):
    return torch.tensor(rows, dtype=torch.bool)


def test_chain_by_hand():
    masks = {
        "first": bools([1, 0], [0, 0], [1, 1]),  # hidden 1 has no input
        "second": bools([1, 1, 0], [0, 1, 0]),  # hidden 2 has no output
    }
    after = percolate(masks, [CHAIN])
    assert torch.equal(after["first"], bools([1, 0], [0, 0], [0, 0]))
    assert torch.equal(after["second"], bools([1, 0, 0], [0, 0, 0]))
    assert active_neurons(after, CHAIN).tolist() == [True, False, False]
    assert active_neuron_rate(after, [CHAIN]) == pytest.approx(1 / 3)


def test_query_and_key_by_hand():
    masks = {"query": bools([1, 1], [0, 0], [1, 0]), "key": bools([0, 1], [1, 1], [0, 0])}
    after = percolate(masks, [QUERY_KEY])
    assert torch.equal(after["query"], bools([1, 1], [0, 0], [0, 0]))
    assert torch.equal(after["key"], bools([0, 1], [0, 0], [0, 0]))


def test_gate_and_up_are_both_needed():
    group = [[End("gate", "out")], [End("up", "out")], [End("down", "in")]]
    masks = {
        "gate": bools([1], [0], [1], [1]),
        "up": bools([1], [1], [0], [1]),
        "down": bools([1, 1, 1, 0]),
    }
    after = percolate(masks, [group])
    for name in ("gate", "up"):
        assert after[name].flatten().tolist() == [True, False, False, False]
    assert after["down"].tolist() == [[True, False, False, False]]


def test_removal_travels_along_a_chain_in_both_directions():
    names = ["a", "b", "c", "d"]
    groups = [[[End(x, "out")], [End(y, "in")]] for x, y in pairwise(names)]
    line = torch.eye(3, dtype=torch.bool)
    for broken in names:
        masks = {name: line.clone() for name in names}
        masks[broken][1, 1] = False
        for order in (groups, groups[::-1]):
            after = percolate(masks, order)
            assert all(
                torch.equal(after[name], bools([1, 0, 0], [0, 0, 0], [0, 0, 1])) for name in names
            )


def test_grouped_queries_share_a_key_head():
    # Two query heads of width 2 meet one key head.
    group = [
        [End("k", "out")],
        [End("q", "out", torch.tensor([0, 1])), End("q", "out", torch.tensor([2, 3]))],
    ]
    masks = {"k": bools([1], [0]), "q": bools([0], [1], [1], [1])}
    after = percolate(masks, [group])
    assert after["k"].flatten().tolist() == [True, False]  # query 2 still uses key 0
    assert after["q"].flatten().tolist() == [False, False, True, False]
    without = percolate({"k": bools([1], [1]), "q": bools([0], [1], [0], [1])}, [group])
    assert without["k"].flatten().tolist() == [False, True]


def test_rotary_pairs_count_as_one_neuron():
    low, high = torch.tensor([0, 1]), torch.tensor([2, 3])
    group = [[End(name, "out", half) for half in (low, high)] for name in ("q", "k")]
    masks = {"q": bools([1], [0], [0], [0]), "k": bools([0], [1], [1], [1])}
    after = percolate(masks, [group])
    assert after["q"].flatten().tolist() == [True, False, False, False]
    assert after["k"].flatten().tolist() == [False, False, True, False]


def test_part_of_a_fused_layer():
    value = torch.arange(4, 6)
    group = [[End("qkv", "out", value)], [End("o", "in")]]
    masks = {"qkv": torch.ones(6, 2, dtype=torch.bool), "o": bools([1, 0], [1, 0])}
    after = percolate(masks, [group])
    assert after["qkv"].any(1).tolist() == [True] * 5 + [False]


def test_layers_outside_the_groups_stay():
    other = bools([0, 0], [1, 0])
    after = percolate({"first": bools([1]), "second": bools([1]), "other": other}, [CHAIN])
    assert after["other"] is other


@pytest.mark.parametrize("case", [f"case{i}" for i in range(5)])
@pytest.mark.parametrize(
    ("names", "group"), [(("chain_first", "chain_second"), CHAIN), (("query", "key"), QUERY_KEY)]
)
def test_reference_vectors(link_vectors, case, names, group):
    vectors = link_vectors[case]
    ends = [end.layer for side in group for end in side]
    masks = {end: vectors[f"{name}_in"] for end, name in zip(ends, names, strict=True)}
    after = percolate(masks, [group])
    for end, name in zip(ends, names, strict=True):
        removed, must = masks[end] & ~after[end], masks[end] & ~vectors[f"{name}_out"]
        assert not (must & ~removed).any()
        # Whatever goes beyond belongs to neurons that are inactive.
        active = active_neurons(after, group)
        lost = removed.any(0) if (name, end) == ("chain_second", "second") else removed.any(1)
        assert not (lost & active).any()


@settings(max_examples=60)
@given(st.integers(1, 6), st.floats(0, 0.7), st.integers(0, 9999))
def test_fixed_point_invariants(width, density, seed):
    generator = torch.Generator().manual_seed(seed)
    names = ["query", "key", "first", "second", "third"]
    masks = {n: torch.rand(width, width, generator=generator) < density for n in names}
    before = {name: mask.clone() for name, mask in masks.items()}
    groups = [QUERY_KEY, CHAIN, [[End("second", "out")], [End("third", "in")]]]
    after = percolate(masks, groups)
    for name in names:
        assert torch.equal(masks[name], before[name])
        assert not (after[name] & ~masks[name]).any()
    for group in groups:
        active = active_neurons(after, group)
        for end in (end for side in group for end in side):
            assert torch.equal(after[end.layer].any(1 if end.axis == "out" else 0), active)
    again = percolate(after, groups)
    assert all(torch.equal(again[name], after[name]) for name in names)


def test_nothing_is_lost_where_all_neurons_are_active():
    masks = {"first": torch.eye(4).bool(), "second": torch.eye(4).bool()}
    after = percolate(masks, [CHAIN])
    assert all(torch.equal(after[name], masks[name]) for name in masks)
    assert active_neuron_rate(after, [CHAIN]) == 1.0


def test_bad_groups_are_refused():
    masks = {"first": bools([1], [1]), "second": bools([1, 1, 1])}
    with pytest.raises(ValueError, match="no mask of layer 'third'; known: first, second"):
        percolate(masks, [[[End("third", "out")]]])
    with pytest.raises(ValueError, match=r"differ in their number of neurons: .*2.*3"):
        percolate(masks, [CHAIN])
    halves = [End("second", "in", torch.arange(1)), End("second", "in", torch.arange(1, 3))]
    with pytest.raises(ValueError, match=r"differ in their number of neurons: .*\[1, 2\]"):
        percolate(masks, [[halves]])
    for empty in ([], [[]], [[End("first", "out")], []]):
        with pytest.raises(ValueError, match="a group needs sides"):
            percolate(masks, [empty])
    with pytest.raises(ValueError, match="at least one group"):
        active_neuron_rate(masks, [])
