import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hf_chts.rules.initial import initial
from hf_chts.rules.initial.bsf import _preferential_attachment
from hf_chts.rules.links import Site

DRAWN = ["er", "brf", "bsw", "bsf"]


def draw(spec, out_features, in_features, n_links, seed=0, **given_):
    generator = torch.Generator().manual_seed(seed)
    site = Site(out_features, in_features, n_links, generator, **given_)
    return initial.make(spec).function(site)


def ring_distance(out_features, in_features):
    position = torch.arange(out_features).double()[:, None] * in_features / out_features
    apart = (torch.arange(in_features) - position).abs()
    return torch.minimum(apart, in_features - apart)


def data_for(rule, out_features, in_features, n_samples=20):
    generator = torch.Generator().manual_seed(3)
    return {
        "weight": torch.randn(out_features, in_features, generator=generator),
        "inputs": torch.randn(n_samples, in_features, generator=generator),
    }


def test_every_published_start_is_registered():
    assert {"er", "brf", "bsw", "bsf", "csti", "magnitude"} <= set(initial)


@pytest.mark.parametrize("rule", sorted(initial))
@settings(max_examples=25)
@given(st.integers(1, 9), st.integers(1, 9), st.floats(0, 1), st.integers(0, 99))
def test_exact_number_of_links_and_same_seed_same_mask(rule, out, inp, share, seed):
    n_links = max(1, round(share * out * inp))
    data = data_for(rule, out, inp)
    mask = draw(rule, out, inp, n_links, seed, **data)
    assert mask.dtype == torch.bool
    assert mask.shape == (out, inp)
    assert int(mask.sum()) == n_links
    assert torch.equal(mask, draw(rule, out, inp, n_links, seed, **data))


@pytest.mark.parametrize("rule", DRAWN)
def test_another_seed_gives_another_mask(rule):
    assert not torch.equal(draw(rule, 20, 30, 100, seed=1), draw(rule, 20, 30, 100, seed=2))


@pytest.mark.parametrize("n_links", [0, -1, 13])
def test_impossible_numbers_of_links_are_refused(n_links):
    with pytest.raises(ValueError, match=rf"3 x 4 takes n_links in \[1, 12\]; got {n_links}"):
        draw("er", 3, 4, n_links)


@pytest.mark.parametrize("rule", ["er", {"rule": "bsw", "beta": 1.0}, {"rule": "brf", "r": 1.0}])
def test_random_starts_are_uniform(rule):
    n = 1500
    seen = sum(draw(rule, 3, 4, 6, seed).double() for seed in range(n)) / n
    assert (seen - 0.5).abs().max() < 5 * (0.25 / n) ** 0.5


# BRF


@pytest.mark.parametrize(("out", "inp", "n_links"), [(6, 8, 18), (5, 9, 22), (7, 3, 5), (4, 4, 16)])
def test_brf_fixed_degrees_are_equal_up_to_the_remainder(out, inp, n_links):
    degrees = draw("brf", out, inp, n_links).sum(1)
    assert int(degrees.max() - degrees.min()) == (n_links % out > 0)


def test_brf_gives_the_remainder_to_any_outputs():
    more = sum((draw("brf", 6, 8, 20, seed).sum(1) > 3).double() for seed in range(300)) / 300
    assert (more - 2 / 6).abs().max() < 5 * (2 / 9 / 300) ** 0.5


@settings(max_examples=40)
@given(st.integers(1, 12), st.integers(1, 12), st.floats(0, 1), st.integers(0, 99))
def test_brf_uniform_degrees_leave_no_output_without_links(out, inp, share, seed):
    n_links = max(1, round(share * out * inp))
    mask = draw({"rule": "brf", "degrees": "uniform"}, out, inp, n_links, seed)
    degrees = mask.sum(1)
    assert int(degrees.sum()) == n_links
    assert int(degrees.min()) >= (n_links >= out)
    assert n_links >= out or int(degrees.max()) == 1


def test_brf_uniform_degrees_are_spread_over_their_range():
    degrees = draw({"rule": "brf", "degrees": "uniform"}, 2000, 100, 40000).sum(1).double()
    assert degrees.min() <= 3
    assert degrees.max() >= 37
    assert degrees.std() == pytest.approx(38 / 12**0.5, rel=0.1)


def test_brf_without_randomness_takes_the_nearest_inputs():
    mask = draw({"rule": "brf", "r": 0.0}, 8, 8, 24)
    near = ring_distance(8, 8) <= 1
    assert torch.equal(mask, near)


@pytest.mark.parametrize(("out", "inp"), [(6, 21), (21, 6), (7, 10)])
def test_brf_without_randomness_on_rectangles(out, inp):
    mask = draw({"rule": "brf", "r": 0.0}, out, inp, 3 * out)
    distance = ring_distance(out, inp)
    for row, active in zip(distance, mask, strict=True):
        assert row[active].max() <= row[~active].min() + 1e-9


def test_brf_without_randomness_breaks_ties_at_random():
    masks = {
        tuple(draw({"rule": "brf", "r": 0.0}, 4, 4, 8, s).flatten().tolist()) for s in range(9)
    }
    assert len(masks) > 1


def test_brf_draws_inputs_with_the_odds_of_their_distance():
    mask = draw({"rule": "brf", "r": 0.5}, 20000, 5, 20000)  # one input each
    distance = ring_distance(20000, 5)
    odds = 1 / (1 + distance)
    expected = (odds / odds.sum(1, keepdim=True)).mean(0)
    assert torch.allclose(mask.double().mean(0), expected, atol=0.02)
    seen = distance[mask].mean()
    assert seen == pytest.approx(
        float((distance * odds / odds.sum(1, keepdim=True)).sum(1).mean()), abs=0.02
    )


def test_brf_moves_farther_with_r():
    distance = ring_distance(50, 100)
    means = [
        float(distance[draw({"rule": "brf", "r": r}, 50, 100, 500)].mean())
        for r in (0.0, 0.25, 0.5, 1.0)
    ]
    assert means == sorted(means)
    assert means[-1] > 20


def test_brf_does_not_depend_on_its_blocks_for_exact_counts(monkeypatch):
    monkeypatch.setattr("hf_chts.rules.initial.brf._BLOCK_ELEMENTS", 20)
    mask = draw({"rule": "brf", "r": 0.0}, 8, 8, 24)
    assert torch.equal(mask, ring_distance(8, 8) <= 1)


@pytest.mark.parametrize("r", [-0.1, 1.1])
def test_brf_refuses_r_out_of_range(r):
    with pytest.raises(ValueError, match=r"r must be in \[0, 1\]"):
        draw({"rule": "brf", "r": r}, 3, 3, 3)


def test_brf_refuses_unknown_degrees():
    with pytest.raises(ValueError, match="'fixed' or 'uniform'; got 'normal'"):
        draw({"rule": "brf", "degrees": "normal"}, 3, 3, 3)


# BSW


def test_bsw_without_rewiring_links_neurons_to_their_nearest_on_both_sides():
    mask = draw({"rule": "bsw", "beta": 0.0}, 8, 8, 24)
    assert torch.equal(mask, ring_distance(8, 8) <= 1)
    wide = draw({"rule": "bsw", "beta": 0.0}, 6, 12, 18)
    assert torch.equal(wide, ring_distance(6, 12) <= 1)
    assert wide.any(0).all()


def test_bsw_rewires_a_share():
    lattice = draw({"rule": "bsw", "beta": 0.0}, 64, 64, 64 * 5)
    rewired = draw({"rule": "bsw", "beta": 0.25}, 64, 64, 64 * 5)
    moved = int((lattice & ~rewired).sum())
    assert 0.2 * 320 < moved <= 0.25 * 320


@pytest.mark.parametrize("beta", [-0.1, 1.1])
def test_bsw_refuses_beta_out_of_range(beta):
    with pytest.raises(ValueError, match=r"beta must be in \[0, 1\]"):
        draw({"rule": "bsw", "beta": beta}, 3, 3, 3)


# BSF


def test_bsf_has_hubs_on_both_sides_and_a_power_law():
    mask = draw("bsf", 400, 600, 6000)
    for degrees in (mask.sum(0).double(), mask.sum(1).double()):
        assert degrees.max() > 5 * degrees.mean()
        tail = degrees[degrees >= degrees.median()]
        gamma = 1 + len(tail) / float((tail / (degrees.median() - 0.5)).log().sum())
        assert 2.2 < gamma < 3.6


def test_bsf_keeps_the_degrees_of_the_graph_that_it_deals_to_both_sides():
    generator = torch.Generator().manual_seed(3)
    ends = torch.cat(_preferential_attachment(600, 3000, generator))
    dealt = torch.randperm(600, generator=generator)[ends].bincount(minlength=600)
    mask = draw("bsf", 300, 300, 3000, seed=3)
    found = torch.cat([mask.sum(1), mask.sum(0)])
    assert 0 < int((found - dealt).abs().sum()) < 0.15 * 2 * 3000  # but for the last links


@pytest.mark.parametrize(("out", "inp"), [(100, 300), (300, 100)])
def test_bsf_gives_the_last_links_to_hubs(out, inp):
    """One side has far more links within itself than the other, and so many are drawn at last."""
    generator = torch.Generator().manual_seed(0)
    ends = torch.cat(_preferential_attachment(out + inp, 3000, generator))
    dealt = torch.randperm(out + inp, generator=generator)[ends].bincount(minlength=out + inp)
    mask = draw("bsf", out, inp, 3000, seed=0)
    for before, after in ((dealt[:out], mask.sum(1)), (dealt[out:], mask.sum(0))):
        hubs = before.argsort(descending=True)[: len(before) // 10]
        share = float(before[hubs].sum() / before.sum())
        assert float(after[hubs].sum() / after.sum()) > 0.8 * share  # even odds: 0.6 of it


# CSTI


def test_csti_links_correlated_features():
    generator = torch.Generator().manual_seed(0)
    a, b = torch.randn(2, 500, generator=generator)
    noise = 0.1 * torch.randn(500, 2, generator=generator)
    inputs = torch.stack([a, b, -a + noise[:, 0], b + noise[:, 1]], dim=1)
    mask = draw("csti", 4, 4, 8, inputs=inputs)
    expected = torch.tensor([[1, 0, 1, 0], [0, 1, 0, 1], [1, 0, 1, 0], [0, 1, 0, 1]]).bool()
    assert torch.equal(mask, expected)
    assert torch.equal(draw("csti", 8, 4, 16, inputs=inputs), expected.repeat(2, 1))
    assert torch.equal(draw("csti", 2, 4, 4, inputs=inputs), expected[[0, 2]])


def test_csti_copies_of_features_see_other_samples():
    inputs = torch.randn(20, 6, generator=torch.Generator().manual_seed(0))
    mask = draw("csti", 12, 6, 24, inputs=inputs)
    assert int((mask[:6] != mask[6:]).sum()) > 2  # ties would decide about one link


def test_csti_constant_features_come_last():
    inputs = torch.randn(50, 4, generator=torch.Generator().manual_seed(0))
    inputs[:, 2] = 5.0
    mask = draw("csti", 4, 4, 9, inputs=inputs)
    assert not mask[2].any()
    assert not mask[:, 2].any()


@pytest.mark.parametrize("shape", [(20, 5), (1, 4)])
def test_csti_refuses_inputs_of_a_wrong_shape(shape):
    with pytest.raises(ValueError, match=r"inputs of shape \(samples >= 2, 4\)"):
        draw("csti", 4, 4, 8, inputs=torch.randn(shape))


def test_csti_needs_inputs():
    with pytest.raises(ValueError, match="csti needs input features"):
        draw("csti", 4, 4, 8)


# Magnitude


def test_magnitude_keeps_the_strongest_weights():
    weight = torch.tensor([[0.1, -5.0, 2.0], [-3.0, 0.2, 0.0]])
    mask = draw("magnitude", 2, 3, 3, weight=weight)
    assert torch.equal(mask, weight.abs() >= 2)


def test_magnitude_needs_a_weight():
    with pytest.raises(ValueError, match="magnitude needs the weight of a dense layer"):
        draw("magnitude", 2, 3, 3)
