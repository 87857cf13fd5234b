from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.stats import hypergeom

from hf_chts.analysis.history import Overlap, itop, overlap, overlaps, total
from hf_chts.analysis.network import Undefined

A = np.array([[1, 1, 0], [0, 1, 0]], dtype=bool)
B = np.array([[1, 0, 0], [0, 1, 1]], dtype=bool)
shapes = hnp.array_shapes(min_dims=2, max_dims=2, max_side=6)


def test_overlap_of_a_small_pair() -> None:
    found = overlap(A, B)
    assert (found.shared, found.united, found.expected) == (2, 4, 3 * 3 / 6)
    assert found.jaccard == 0.5
    assert found.ratio == pytest.approx(4 / 3)
    # variance n_a n_b (N - n_a) (N - n_b) / (N^2 (N - 1)) = 81 / 180
    assert found.variance == pytest.approx(0.45)
    assert found.z_score == pytest.approx(0.5 / 0.45**0.5)


@given(data=st.data(), shape=shapes)
def test_chance_is_hypergeometric(data, shape) -> None:
    a, b = (data.draw(hnp.arrays(bool, shape)) for _ in "ab")
    found = overlap(a, b)
    shared = np.arange(a.size + 1)
    chance = hypergeom.pmf(shared, a.size, int(a.sum()), int(b.sum()))
    assert found.expected == pytest.approx(chance @ shared)
    assert found.variance == pytest.approx(chance @ (shared - found.expected) ** 2, abs=1e-9)
    assert overlap(b, a) == found
    assert overlap(a, a).jaccard == 1 if a.any() else overlap(a, a).shared == 0


def test_chance_is_what_shuffled_masks_share() -> None:
    generator = np.random.default_rng(0)
    a = generator.random((20, 30)) < 0.2
    draws = [generator.permutation(a.flatten()).reshape(a.shape) for _ in range(3000)]
    shared = [overlap(a, b).shared for b in draws]
    assert np.mean(shared) == pytest.approx(overlap(a, a).expected, rel=0.02)
    assert np.var(shared) == pytest.approx(overlap(a, a).variance, rel=0.1)


def test_overlaps_that_do_not_exist() -> None:
    none, every = np.zeros((2, 3), dtype=bool), np.ones((2, 3), dtype=bool)
    assert overlap(none, none).jaccard == Undefined("neither mask has a link")
    assert overlap(none, A).ratio == Undefined("a mask has no link")
    for pair in ((none, A), (every, A), (every[:1, :1], every[:1, :1])):
        assert isinstance(overlap(*pair).z_score, Undefined)
    assert overlap(every, A).ratio == 1


def test_overlaps_add_up_over_layers() -> None:
    found = overlaps({"x": A, "y": A}, {"y": A, "x": B})
    assert list(found) == ["x", "y"]
    assert found["x"] == overlap(A, B)
    both = total(found.values())
    assert (both.shared, both.united, both.expected) == (5, 7, 3.0)
    assert both.variance == pytest.approx(0.9)
    assert total([]) == Overlap(0, 0, 0.0, 0.0)


def test_what_cannot_be_compared() -> None:
    with pytest.raises(ValueError, match=r"one shape; got \(2, 3\) and \(3, 2\)"):
        overlap(A, A.T)
    with pytest.raises(TypeError, match="boolean"):
        overlap(A, A.astype(int))
    with pytest.raises(ValueError, match=r"differ in 2 layers \(first: x\)"):
        overlaps({"x": A}, {"y": A})


def test_itop_of_a_small_run() -> None:
    empty = np.zeros_like(A)
    small, none = np.array([[True]]), np.array([[False]])
    history = [{"a": A, "b": none}, {"a": empty, "b": none}, {"a": B, "b": small}]
    found = itop(iter(history))
    np.testing.assert_allclose(found.layers["a"], [3 / 6, 3 / 6, 4 / 6])
    np.testing.assert_allclose(found.layers["b"], [0, 0, 1])
    np.testing.assert_allclose(found.overall, [3 / 7, 3 / 7, 5 / 7])
    assert A.sum() == 3  # the masks are left as they are


@given(hnp.arrays(bool, st.tuples(*[st.integers(1, 5)] * 3)))
def test_itop_is_the_density_of_the_union(history) -> None:
    found = itop([{"layer": mask} for mask in history])
    assert found.overall[0] == history[0].mean()
    assert found.overall[-1] == pytest.approx(history.any(0).mean())
    assert (np.diff(found.overall) >= 0).all()


@pytest.mark.parametrize("history", [[], [{}]])
def test_itop_of_nothing(history) -> None:
    with pytest.raises(ValueError, match="nothing to follow"):
        itop(history)


def test_itop_of_networks_that_change() -> None:
    with pytest.raises(ValueError, match=r"first: b"):
        itop([{"a": A}, {"a": A, "b": B}])
    with pytest.raises(ValueError, match=r"first: a"):
        itop([{}, {"a": A}])
    with pytest.raises(ValueError, match=r"a changes its shape: \(2, 3\), then \(3, 2\)"):
        itop([{"a": A}, {"a": A.T}])
