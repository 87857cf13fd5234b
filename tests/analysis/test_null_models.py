import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.stats import chisquare

from hf_chts.analysis.network import Undefined
from hf_chts.analysis.null_models import NULL_MODELS, Comparison, compare, er, rewired

masks = st.tuples(st.integers(1, 9), st.integers(1, 9)).flatmap(
    lambda shape: arrays(np.bool_, shape)
)


def random_mask(n_out=20, n_in=30, density=0.2, seed=0):
    return np.random.default_rng(seed).random((n_out, n_in)) < density


def same_margins(mask):
    """All masks with the degrees of ``mask``, by trying all."""
    n_in = mask.shape[1]
    rows = [[r for r in itertools.product([0, 1], repeat=n_in) if sum(r) == k] for k in mask.sum(1)]
    columns = mask.sum(0).tolist()
    return [c for c in itertools.product(*rows) if np.sum(c, axis=0).tolist() == columns]


def frequencies(draw, all_masks, n_draws):
    counts = dict.fromkeys(all_masks, 0)
    for seed in range(n_draws):
        counts[tuple(map(tuple, draw(seed).astype(int).tolist()))] += 1
    return list(counts.values())


# The models


@settings(max_examples=50)
@given(masks, st.integers(0, 5))
def test_er_keeps_shape_and_number_of_links(mask, seed):
    drawn = er(mask, seed)
    assert drawn.shape == mask.shape
    assert drawn.dtype == np.bool_
    assert drawn.sum() == mask.sum()


@settings(max_examples=50)
@given(masks, st.integers(0, 5))
def test_rewired_keeps_every_degree(mask, seed):
    before = mask.copy()
    drawn = rewired(mask, seed)
    assert (drawn.sum(axis=0) == mask.sum(axis=0)).all()
    assert (drawn.sum(axis=1) == mask.sum(axis=1)).all()
    assert (mask == before).all()


@pytest.mark.parametrize("null", NULL_MODELS)
def test_one_seed_one_layer(null):
    mask = random_mask()
    draw = NULL_MODELS[null]
    assert (draw(mask, 3) == draw(mask, 3)).all()
    assert (draw(mask, 3) != draw(mask, 4)).any()
    assert (draw(mask, 3) != mask).any()


def test_er_is_uniform():
    mask = np.array([[1, 1, 0], [0, 0, 0]], dtype=bool)
    all_masks = [
        tuple(tuple(int(3 * row + k in chosen) for k in range(3)) for row in range(2))
        for chosen in itertools.combinations(range(6), 2)
    ]
    counts = frequencies(lambda seed: er(mask, seed), all_masks, 3000)
    assert chisquare(counts).pvalue > 0.001


@pytest.mark.parametrize(
    ("rows", "n_masks"),
    [
        ([[1, 0, 0], [0, 1, 0], [0, 0, 1]], 6),
        ([[1, 1, 0, 0], [1, 0, 1, 0], [0, 0, 1, 1]], 15),
        ([[1, 1, 0], [1, 0, 0], [0, 1, 1], [0, 0, 1]], 15),
        ([[1, 1, 0, 0], [0, 0, 1, 1]], 6),
    ],
)
def test_rewired_is_uniform_over_all_layers_of_these_degrees(rows, n_masks):
    mask = np.array(rows, dtype=bool)
    all_masks = same_margins(mask)
    assert len(all_masks) == n_masks
    counts = frequencies(lambda seed: rewired(mask, seed), all_masks, 200 * n_masks)
    assert chisquare(counts).pvalue > 0.001


def test_rewired_forgets_where_it_began():
    mask = np.arange(60)[None, :] // 6 == np.arange(50)[:, None] // 5
    drawn = rewired(mask, 0)
    expected = mask.sum() * mask.mean()
    assert abs((drawn & mask).sum() - expected) < 4 * np.sqrt(expected)
    assert (rewired(mask, 0, n_trades=1) & mask).sum() > 2 * expected


def test_nested_degrees_leave_no_choice():
    mask = np.arange(6)[None, :] <= np.arange(6)[:, None]
    assert (rewired(mask, 1) == mask).all()


def test_rewiring_takes_a_round():
    with pytest.raises(ValueError, match="n_trades must be at least 1, got 0"):
        rewired(random_mask(), n_trades=0)


@pytest.mark.parametrize("draw", NULL_MODELS.values())
def test_masks_are_checked(draw):
    with pytest.raises(TypeError, match="boolean"):
        draw(np.ones((2, 2)))


# The comparison


def first_row(mask, seed):
    return float(mask[0].sum() + 100 * seed)


def test_comparison_by_hand():
    mask = random_mask()
    values = [first_row(er(mask, 5 + k), 5) for k in range(4)]
    found = compare(first_row, mask, null="er", n=4, seed=5)
    assert found.value == first_row(mask, 5)
    assert found.null_mean == pytest.approx(np.mean(values))
    assert found.null_std == pytest.approx(np.std(values, ddof=1))
    assert found.z_score == pytest.approx((found.value - found.null_mean) / found.null_std)


def test_a_full_row_stands_out_of_random_layers():
    mask = random_mask(density=0.1)
    mask[0] = True
    assert compare(first_row, mask, null="er").z_score > 5


def test_a_measure_of_degrees_cannot_differ_in_rewired_layers():
    found = compare(first_row, random_mask(), null="rewired", n=3)
    assert found.null_std == 0
    assert found.z_score == Undefined("the measure is the same in all random layers")


def test_rounding_is_no_spread():
    def noisy(mask, seed):
        return 0.1 + 1e-17 * float(mask[0, 0]) + float(np.float64(0.2)) * 3

    assert isinstance(compare(noisy, random_mask(), n=5).z_score, Undefined)


def test_an_undefined_value_has_no_z_score():
    mask, gone = random_mask(), Undefined("the layer is special")

    def measure(layer, seed):
        return gone if (layer == mask).all() else float(layer[0, :5].sum())

    found = compare(measure, mask, null="er", n=5)
    assert found.value == found.z_score == gone
    assert found.null_std > 0


def test_undefined_random_layers_are_told():
    mask = random_mask()

    def measure(layer, seed):
        return 1.0 if (layer == mask).all() else Undefined("no")

    gap = Undefined("undefined in 3 of 3 random layers")
    assert compare(measure, mask, n=3) == Comparison(1.0, gap, gap, gap)


def test_bad_comparisons_are_refused():
    with pytest.raises(ValueError, match="unknown null model 'ba'; take one of: er, rewired"):
        compare(first_row, random_mask(), null="ba")
    with pytest.raises(ValueError, match="2 random layers or more, got n=1"):
        compare(first_row, random_mask(), n=1)
