import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hf_chts.analysis.angular import angular_separability
from hf_chts.analysis.hyperbolic import Embedding
from hf_chts.analysis.network import Undefined


def separability(labels, **options):
    """Nodes at equal steps round the circle, labelled in that order."""
    angles = np.arange(len(labels)) * 2 * np.pi / len(labels)
    return angular_separability(angles, labels, **options)


def mistakes_of(labels, group):
    """Nodes of others in the shortest arc of places that holds the whole group."""
    n_nodes, best = len(labels), len(labels)
    for start in range(n_nodes):
        arc, seen = 0, 0
        while seen < labels.count(group):
            seen += labels[(start + arc) % n_nodes] == group
            arc += 1
        best = min(best, arc - labels.count(group))
    return best


def test_communities_with_arcs_of_their_own_are_separated():
    found = separability(["a"] * 10 + ["b"] * 10 + ["c"] * 10)
    assert found.index == 1
    assert found.mistakes == (0, 0, 0)
    assert found.p_value == 1 / 1001


def test_mistakes_by_hand():
    # a has gaps of 1, 0 and 3: one node of others inside it. b has gaps of 2, 0 and 1.
    found = separability(list("abaabbc"))
    assert found.mistakes == (1, 2, 0)
    assert found.index == 1 - 3 / found.worst


def test_labels_are_sorted_as_text():
    assert separability([2, 10, 2, 2, 10, 10, 3]).mistakes == (2, 1, 0)


def test_alternating_communities_are_the_worst_case():
    found = separability(list("ab") * 8, n_permutations=50)
    assert found.index == 0
    assert found.p_value == 1
    assert found.mistakes == (7, 7)


@settings(max_examples=50)
@given(st.lists(st.sampled_from("abc"), min_size=4, max_size=12))
def test_mistakes_are_the_others_in_the_shortest_arc(labels):
    found = separability(labels, n_permutations=5)
    if isinstance(found, Undefined):
        return
    assert found.mistakes == tuple(mistakes_of(labels, one) for one in sorted(set(labels)))
    assert 0 <= found.index <= 1
    assert 0 < found.p_value <= 1


@settings(max_examples=50)
@given(st.permutations(range(12)), st.integers(0, 11))
def test_turning_mirroring_and_renaming_change_nothing(order, turn):
    labels = [number % 3 for number in order]
    one = separability(labels, n_permutations=20)
    turned = labels[turn:] + labels[:turn]
    assert separability(turned, n_permutations=20).mistakes == one.mistakes
    assert separability(labels[::-1], n_permutations=20).mistakes == one.mistakes
    renamed = separability([f"community {label}" for label in labels], n_permutations=20)
    assert renamed == one


def test_random_labels_are_not_separated():
    labels = np.random.default_rng(5).integers(0, 4, 200).tolist()
    found = separability(labels)
    assert found.index < 0.2
    assert found.p_value > 0.01


def test_p_values_of_random_labels_are_uniform():
    rng = np.random.default_rng(1)
    p_values = [
        separability(rng.permutation([0, 1, 2] * 20).tolist(), n_permutations=99, seed=k).p_value
        for k in range(100)
    ]
    assert 0.4 < np.mean(p_values) < 0.6
    assert 0.01 <= np.mean(np.array(p_values) <= 0.1) < 0.2


def test_an_embedding_gives_its_angles():
    angles = np.array([0, 3.0, 0.1, 3.1, 0.2, 3.2])
    embedding = Embedding(tuple(range(6)), angle=angles, radius=np.ones(6), gamma=3.0,
                          largest_component_share=1.0)  # fmt: skip
    found = angular_separability(embedding, list("ababab"))
    assert found.index == 1
    assert found == angular_separability(angles, list("ababab"))


def test_one_seed_one_answer():
    labels = np.random.default_rng(5).integers(0, 4, 40).tolist()
    assert separability(labels, seed=3) == separability(labels, seed=3)
    assert separability(labels, seed=3) != separability(labels, seed=4)


@pytest.mark.parametrize("labels", ["aaaa", "abcd", "aab", ""])
def test_too_few_nodes_or_communities(labels):
    assert "at least two" in separability(list(labels)).reason


def test_a_community_of_all_but_one_has_no_mistake():
    # One stranger always fits into the largest gap.
    assert separability(list("aaab")) == Undefined(
        "no arrangement of these communities has a mistake"
    )


def test_bad_input_is_refused():
    with pytest.raises(ValueError, match="got 3 labels, angles \\(4,\\)"):
        angular_separability([0, 1, 2, 3], [0, 0, 1])
    with pytest.raises(ValueError, match="n_permutations must be at least 1, got 0"):
        separability(list("aabb"), n_permutations=0)
