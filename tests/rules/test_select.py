import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hf_chts.rules.select import choose, draw_rows


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def test_ranked_choice_takes_the_highest_eligible_scores(generator):
    scores = torch.tensor([[9.0, 1.0, 5.0], [3.0, 8.0, 4.0]])
    eligible = torch.tensor([[False, True, True], [True, True, True]])
    expected = torch.tensor([[False, False, True], [False, True, False]])
    assert torch.equal(choose(scores, eligible, 2, generator), expected)


def test_ranked_choice_takes_negative_scores_and_zero_ones(generator):
    scores = torch.tensor([-1.0, 0.0, -3.0, -2.0])
    chosen = choose(scores, torch.ones(4, dtype=torch.bool), 3, generator)
    assert chosen.tolist() == [True, True, False, True]


@pytest.mark.parametrize("exponent", [None, 0.0, 1.0])
def test_ties_are_broken_at_random_and_never_by_position(exponent):
    scores, eligible = torch.ones(10), torch.ones(10, dtype=torch.bool)
    generator = seeded()
    counts = sum(choose(scores, eligible, 3, generator, exponent).double() for _ in range(2000))
    # Inclusion probability 0.3, standard deviation 20.5 links.
    assert (counts - 600).abs().max() < 5 * 20.5


def test_ties_at_the_threshold_only_share_what_is_left():
    scores = torch.tensor([2.0, 1.0, 1.0, 1.0, 0.0])
    generator = seeded()
    eligible = torch.ones(5, dtype=torch.bool)
    counts = sum(choose(scores, eligible, 2, generator).double() for _ in range(900))
    assert counts[0] == 900
    assert counts[4] == 0
    assert (counts[1:4] - 300).abs().max() < 5 * 14.2


def inclusion(odds, k):
    """Exact inclusion probabilities of sampling without replacement, by all ordered draws."""
    result = [0.0] * len(odds)
    for draw in itertools.permutations(range(len(odds)), k):
        left, chance = sum(odds), 1.0
        for item in draw:
            chance *= odds[item] / left
            left -= odds[item]
        for item in draw:
            result[item] += chance
    return result


@pytest.mark.parametrize("exponent", [1.0, 0.5])
def test_few_of_many_are_drawn_by_the_same_law(exponent):
    """Few enough to be drawn one by one, with so uneven odds that many come twice."""
    scores = torch.tensor([9.0, 6.0, 3.0] + [1.0] * 6 + [0.0] * 20)
    expected = torch.tensor(inclusion((scores[:9] ** exponent).tolist(), 3))
    eligible, generator, n = torch.ones(29, dtype=torch.bool), seeded(), 4000
    counts = sum(choose(scores, eligible, 3, generator, exponent).double() for _ in range(n))
    assert counts[9:].sum() == 0
    spread = (n * expected * (1 - expected)).sqrt()
    assert ((counts[:9] - n * expected).abs() < 5 * spread).all()


def test_few_that_never_come_are_filled_up_from_the_zeros():
    scores = torch.tensor([1.0] * 2 + [0.0] * 38)
    eligible = torch.ones(40, dtype=torch.bool)
    eligible[20:] = False
    chosen = choose(scores, eligible, 4, seeded(), 1.0)
    assert chosen.sum() == 4
    assert chosen[:2].all()
    assert not (chosen & ~eligible).any()


@pytest.mark.parametrize("exponent", [1.0, 0.5])
def test_few_of_zeros_alone_are_drawn_evenly(exponent):
    scores, eligible, generator = torch.zeros(40), torch.ones(40).bool(), seeded()
    n = 2000
    counts = sum(choose(scores, eligible, 2, generator, exponent).double() for _ in range(n))
    spread = (n * 0.05 * 0.95) ** 0.5
    assert ((counts - n * 0.05).abs() < 5 * spread).all()


def test_few_are_drawn_by_the_law_where_one_link_has_most_of_the_odds():
    """Draws repeat there, and what is missing is drawn of the others."""
    odds = [0.9, *[0.1 / 40] * 40]
    left_out = 1 - inclusion(odds, 2)[0]
    scores, eligible, generator = torch.tensor(odds), torch.ones(41).bool(), seeded()
    n = 20_000
    missed = sum(not choose(scores, eligible, 2, generator, 1.0)[0] for _ in range(n)) / n
    assert missed == pytest.approx(left_out, abs=4 * (left_out / n) ** 0.5)


def test_one_score_far_above_the_rest_does_not_keep_them_out():
    scores = torch.full((100,), 1e-12)
    scores[7] = 1.0
    chosen = choose(scores, torch.ones(100, dtype=torch.bool), 10, seeded(), 1.0)
    assert chosen.sum() == 10
    assert chosen[7]


@pytest.mark.parametrize(("exponent", "k"), [(0.0, 2), (1.0, 1), (1.0, 3), (2.0, 2)])
def test_soft_choice_follows_the_law_of_sampling_without_replacement(exponent, k):
    scores = torch.tensor([0.1, 0.2, 0.4, 0.8, 1.6])
    generator, n = seeded(7), 4000
    eligible = torch.ones(5, dtype=torch.bool)
    seen = sum(choose(scores, eligible, k, generator, exponent).double() for _ in range(n)) / n
    expected = torch.tensor(inclusion([s**exponent for s in scores.tolist()], k)).double()
    sigma = (expected * (1 - expected) / n).sqrt()
    assert ((seen - expected).abs() < 4.5 * sigma + 1e-9).all()


def test_soft_choice_does_not_underflow():
    scores = torch.tensor([1e-38, 1e-37, 1e-36])  # the ninth powers are 0 even in float64
    generator = seeded()
    eligible = torch.ones(3, dtype=torch.bool)
    for _ in range(20):
        assert choose(scores, eligible, 1, generator, 9.0).tolist() == [False, False, True]


@pytest.mark.parametrize("exponent", [0.0, 1.0, 9.0])
def test_scores_of_zero_wait_until_the_positive_ones_run_out(exponent):
    scores = torch.tensor([0.0, 1e-30, 0.0, 1.0, 0.0, 0.0])
    eligible = torch.ones(6, dtype=torch.bool)
    generator = seeded()
    counts = torch.zeros(6)
    for _ in range(800):
        counts += choose(scores, eligible, 4, generator, exponent)
    assert counts[1] == counts[3] == 800
    assert (counts[[0, 2, 4, 5]] - 400).abs().max() < 5 * 14.2


@settings(max_examples=60)
@given(st.data())
def test_exact_count_all_eligible_repeatable_and_pure(data):
    rows, columns = data.draw(st.integers(1, 6)), data.draw(st.integers(1, 6))
    generator = seeded(data.draw(st.integers(0, 1000)))
    scores = torch.randint(0, 4, (rows, columns), generator=generator).double()
    eligible = torch.rand(rows, columns, generator=generator) < data.draw(st.floats(0, 1))
    k = data.draw(st.integers(0, int(eligible.sum())))
    exponent = data.draw(st.sampled_from([None, 0.0, 0.5, 1.0, 9.0]))
    scores[~eligible] = torch.nan  # what is not eligible is never looked at
    before = scores.clone(), eligible.clone()
    chosen = choose(scores, eligible, k, seeded(1), exponent)
    assert int(chosen.sum()) == k
    assert not (chosen & ~eligible).any()
    assert torch.equal(chosen, choose(scores, eligible, k, seeded(1), exponent))
    assert torch.equal(scores.nan_to_num(), before[0].nan_to_num())
    assert torch.equal(eligible, before[1])
    if 0 < k < int(eligible.sum()) and exponent is None:
        assert scores[chosen].min() >= scores[eligible & ~chosen].max()


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("exponent", [None, 1.0])
def test_every_float_dtype(dtype, exponent, generator):
    scores = torch.rand(5, 4, generator=generator).to(dtype)
    eligible = torch.ones(5, 4, dtype=torch.bool)
    assert int(choose(scores, eligible, 7, generator, exponent).sum()) == 7


def test_transposed_scores_choose_the_right_links(generator):
    scores = torch.arange(6.0).view(2, 3).T
    chosen = choose(scores, torch.ones(3, 2, dtype=torch.bool), 2, generator)
    assert torch.equal(chosen, scores >= 4)


@pytest.mark.parametrize("k", [-1, 4])
def test_impossible_count_is_refused(k, generator):
    with pytest.raises(ValueError, match=rf"cannot choose {k} links.*\[0, 3\]"):
        choose(torch.ones(2, 2), torch.tensor([[True, True], [True, False]]), k, generator)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("exponent", [None, 1.0])
def test_scores_that_are_not_finite_are_refused(bad, exponent, generator):
    with pytest.raises(ValueError, match="must be finite"):
        choose(torch.tensor([1.0, bad]), torch.tensor([True, True]), 1, generator, exponent)


def test_negative_scores_are_refused_in_soft_choice(generator):
    with pytest.raises(ValueError, match="scores >= 0"):
        choose(torch.tensor([1.0, -1.0]), torch.tensor([True, True]), 1, generator, 1.0)


@pytest.mark.parametrize("exponent", [-0.5, math.inf, math.nan])
def test_exponent_out_of_range_is_refused(exponent, generator):
    with pytest.raises(ValueError, match="exponent must be"):
        choose(torch.ones(2), torch.tensor([True, True]), 1, generator, exponent)


def test_draw_rows_draws_each_degree(generator):
    degrees = torch.tensor([0, 1, 5, 3])
    drawn = draw_rows(torch.zeros(4, 5), degrees, generator)
    assert torch.equal(drawn.sum(1), degrees)


def test_draw_rows_follows_the_odds(generator):
    log_odds = torch.tensor([0.1, 0.3, 0.6]).log().expand(6000, 3)
    seen = draw_rows(log_odds, torch.ones(6000, dtype=torch.long), generator).double().mean(0)
    assert torch.allclose(seen, torch.tensor([0.1, 0.3, 0.6]).double(), atol=0.03)
