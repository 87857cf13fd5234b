"""Regrowth rules that are in no paper."""

from itertools import product
from math import sqrt

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hf_chts.rules.links import Links
from hf_chts.rules.regrowth import regrowth


def links_of(weight, correlation=None):
    weight = torch.as_tensor(weight, dtype=torch.float64)
    return Links(weight, weight != 0, torch.Generator(), None, correlation)


def random_links(out=7, inp=9, density=0.4, seed=0):
    generator = torch.Generator().manual_seed(seed)
    weight = torch.randn(out, inp, generator=generator, dtype=torch.float64)
    weight *= torch.rand(out, inp, generator=generator) < density
    correlation = torch.rand(out, inp, generator=generator, dtype=torch.float64) * 2 - 1
    return links_of(weight, correlation)


def scores_of(links, name, **params):
    return regrowth.make({"rule": name, **params}).function(links)


def test_hebbian_is_the_size_of_the_correlation():
    correlation = torch.tensor([[0.5, -0.75], [0.0, 1.0]], dtype=torch.float64)
    scores = scores_of(links_of([[1, 0], [0, 0]], correlation), "hebbian")
    assert scores.tolist() == [[0.5, 0.75], [0.0, 1.0]]


def test_a_head_has_its_rows_of_the_correlation():
    links = random_links()
    part = links.of(slice(2, 5))
    assert torch.equal(part.correlation, links.correlation[2:5])
    assert links_of(links.weight).of(slice(1)).correlation is None


@pytest.mark.parametrize("name", ["hebbian", "ch2_l3n_hebbian"])
def test_correlations_are_needed(name):
    with pytest.raises(ValueError, match="hebbian needs the correlation of neurons"):
        scores_of(links_of([[1, 0], [0, 1]]), name)


def test_topology_and_activity_meet_in_a_geometric_mean():
    links = random_links()
    activity, topology = (scores_of(links, name) for name in ("hebbian", "ch2_l3n"))
    assert torch.equal(scores_of(links, "ch2_l3n_hebbian", share=0.0), activity)
    assert torch.equal(scores_of(links, "ch2_l3n_hebbian", share=1.0), topology)
    torch.testing.assert_close(scores_of(links, "ch2_l3n_hebbian"), (activity * topology).sqrt())
    quarter = scores_of(links, "ch2_l3n_hebbian", share=0.25)
    torch.testing.assert_close(quarter, topology**0.25 * activity**0.75)
    for share in (-0.1, 1.1, float("nan")):
        with pytest.raises(ValueError, match=r"share must be in \[0, 1\]"):
            scores_of(links, "ch2_l3n_hebbian", share=share)


def test_degrees_are_divided_out_by_hand():
    # The only path from output 0 to input 1 is 0 - input 0 - output 1 - 1, and CH2-L3n is 3 there
    # (see test_regrowth). Output 0 has one link, input 1 one, output 1 three, input 0 two.
    links = links_of([[1, 0, 0], [1, 1, 1]])
    assert scores_of(links, "ch2_l3n")[0, 1] == pytest.approx(3)
    assert scores_of(links, "ch2_l3n_normalised")[0, 1] == pytest.approx(3)
    two = links_of([[1, 1, 0, 0], [1, 1, 1, 0], [0, 0, 1, 0]])
    plain, degrees = scores_of(two, "ch2_l3n")[0, 2], (2, 2)
    assert plain > 0
    for power in (0.5, 1.0):
        divided = scores_of(two, "ch2_l3n_normalised", power=power)[0, 2]
        assert divided == pytest.approx(plain / (degrees[0] * degrees[1]) ** power)


def test_hubs_score_less():
    links = random_links(20, 30)
    plain, divided = (scores_of(links, name) for name in ("ch2_l3n", "ch2_l3n_normalised"))
    assert torch.equal(scores_of(links, "ch2_l3n_normalised", power=0.0), plain)
    degree = links.mask.sum(1, keepdim=True) * links.mask.sum(0)

    def mean_degree(scores):
        odds = scores.masked_fill(links.mask, 0)
        return (odds * degree).sum() / odds.sum()

    assert mean_degree(divided) < mean_degree(plain)
    for power in (-1.0, float("inf"), float("nan")):
        with pytest.raises(ValueError, match=r"power must be in \[0, inf\)"):
            scores_of(links, "ch2_l3n_normalised", power=power)


def by_enumeration(weight):
    size, (outputs, inputs) = weight.abs().tolist(), map(range, weight.shape)
    scores = torch.zeros_like(weight)
    for o, i in product(outputs, inputs):
        scores[o, i] = sum(size[o][a] * size[b][a] * size[b][i] for a in inputs for b in outputs)
    return scores


@settings(max_examples=25)
@given(st.integers(1, 8), st.integers(1, 8), st.floats(0, 1), st.integers(0, 99))
def test_weighted_paths_equal_path_enumeration(out, inp, density, seed):
    links = random_links(out, inp, density, seed)
    scores = scores_of(links, "weighted_paths")
    torch.testing.assert_close(scores, by_enumeration(links.weight))
    assert bool((scores[~links.mask] >= 0).all())


def test_weighted_paths_by_hand():
    scores = scores_of(links_of([[2, 0, 0], [-3, 0.5, 0]]), "weighted_paths")
    assert scores[0, 1] == pytest.approx(2 * 3 * 0.5)
    assert scores[0, 2] == 0
    normalised = scores_of(links_of([[2, 0, 0], [-3, 0.5, 0]]), "weighted_paths", normalised=True)
    shares = 2 / sqrt(2 * 5), 3 / sqrt(3.5 * 5), 0.5 / sqrt(3.5 * 0.5)
    assert normalised[0, 1] == pytest.approx(shares[0] * shares[1] * shares[2])


def test_normalised_paths_do_not_depend_on_the_scale_of_weights():
    links = random_links()
    doubled = links_of(links.weight * -2)
    for normalised, factor in ((True, 1), (False, 8)):
        one, other = (
            scores_of(x, "weighted_paths", normalised=normalised) for x in (links, doubled)
        )
        torch.testing.assert_close(other, one * factor)


def test_a_link_that_has_just_grown_carries_no_path():
    weight = torch.tensor([[1.0, 0, 0], [1, 1, 0]], dtype=torch.float64)
    mask = torch.tensor([[1, 0, 0], [1, 1, 1]]).bool()  # the last link has weight 0
    scores = scores_of(Links(weight, mask, torch.Generator()), "weighted_paths", normalised=True)
    assert scores[0, 2] == 0
    assert scores[0, 1] > 0
    assert scores.isfinite().all()
