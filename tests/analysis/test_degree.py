import networkx as nx
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from hf_chts.analysis.degree import check_degrees, degrees, fit_power_law, heterogeneity, hubs
from hf_chts.analysis.network import Undefined

counts = hnp.arrays(np.int64, st.integers(1, 20), elements=st.integers(0, 9))


def grown_by_preference():
    """Degrees of a Barabási-Albert graph; as the graph grows its exponent nears 3."""
    graph = nx.barabasi_albert_graph(2000, 3, seed=0)
    return np.array([degree for _, degree in graph.degree()])


def test_degrees_of_a_small_mask():
    result = degrees(np.array([[True, True, False], [True, False, False]]))
    assert result.inputs.tolist() == [2, 1, 0]
    assert result.outputs.tolist() == [2, 1]


def test_power_law_of_a_growing_network():
    fit = fit_power_law(grown_by_preference())
    assert 2.5 < fit.gamma < 3.1
    assert fit.x_min <= 6
    assert fit.p_value > 0.1
    assert fit.alternatives["exponential"].log_ratio > 0
    assert fit.alternatives["exponential"].p_value < 1e-3


@pytest.mark.filterwarnings("ignore")  # of the package itself
def test_the_fit_is_that_of_the_powerlaw_package():
    powerlaw = pytest.importorskip("powerlaw", reason="the reference fit is not installed")
    data = grown_by_preference()
    theirs = powerlaw.Fit(data, discrete=True, verbose=0, estimate_discrete=False)
    ours = fit_power_law(data, n_bootstrap=1)
    assert ours.gamma == pytest.approx(theirs.power_law.alpha, rel=1e-4)
    assert (ours.x_min, ours.n_tail) == (theirs.xmin, theirs.n_tail)
    assert ours.distance == pytest.approx(theirs.power_law.D, rel=1e-3)
    for name, rival in ours.alternatives.items():
        ratio, p_value = theirs.distribution_compare("power_law", name)
        assert rival.log_ratio == pytest.approx(ratio, rel=1e-3)
        assert rival.p_value == pytest.approx(p_value, rel=0.02)


def test_words_of_moby_dick_as_published():
    # Clauset, Shalizi and Newman, table 6.1: gamma 1.95(2), x_min 7(2), 2958 words in the tail,
    # and p = 0.49.
    powerlaw = pytest.importorskip("powerlaw", reason="the published data are not installed")
    words = np.asarray(powerlaw.load_test_dataset("words"), dtype=int)
    fit = fit_power_law(words, n_bootstrap=20)
    assert fit.gamma == pytest.approx(1.95, abs=0.005)
    assert (fit.x_min, fit.n_tail) == (7, 2958)
    assert fit.p_value > 0.1


@pytest.mark.parametrize("gamma", [1.6, 2.5])
def test_drawn_exponents_are_found(gamma):
    fit = fit_power_law(np.random.default_rng(3).zipf(gamma, 3000), n_bootstrap=20)
    assert fit.gamma == pytest.approx(gamma, abs=0.1)
    assert fit.p_value > 0.1
    assert fit.n_bootstrap == 20


def test_a_layer_of_two_kinds_of_neurons_follows_no_power_law():
    generator = np.random.default_rng(0)
    data = np.concatenate([generator.poisson(20, 1000), generator.poisson(60, 1000)])
    fit = fit_power_law(data[data < 62], n_bootstrap=50)
    assert fit.p_value < 0.1


def test_random_layers_are_never_scale_free():
    mask = np.random.default_rng(0).random((1000, 1000)) < 0.1
    fit = fit_power_law(degrees(mask).inputs, n_bootstrap=5)
    assert fit.gamma > 10
    assert fit.alternatives["exponential"].log_ratio < 0


def test_the_same_seed_gives_the_same_p_value():
    data = grown_by_preference()[:500]
    assert fit_power_law(data, n_bootstrap=20, seed=1) == fit_power_law(
        data, n_bootstrap=20, seed=1
    )
    p_values = {fit_power_law(data, n_bootstrap=20, seed=seed).p_value for seed in range(4)}
    assert len(p_values) > 1


def test_isolated_neurons_change_no_fit():
    data = grown_by_preference()[:300]
    padded = np.concatenate([data, np.zeros(100, dtype=int)])
    assert fit_power_law(padded, n_bootstrap=5) == fit_power_law(data, n_bootstrap=5)


@pytest.mark.parametrize("data", [[0, 0, 0], [5] * 50, [1, 2, 3]])
def test_a_fit_that_does_not_exist(data):
    assert fit_power_law(data) == Undefined(
        "no ten linked neurons have degrees that a power law could follow"
    )


def test_heterogeneity_of_the_karate_club():
    data = [degree for _, degree in nx.karate_club_graph().degree()]
    assert heterogeneity(data) == pytest.approx(1.693, abs=5e-4)


def test_heterogeneity_by_hand():
    assert heterogeneity([3, 3, 3]) == 1
    assert heterogeneity([1, 3]) == pytest.approx(5 / 4)
    assert heterogeneity([0, 0]) == Undefined("no neuron has a link")


def test_hubs_by_hand():
    assert hubs([1, 4, 2, 3, 0]).tolist() == [False, True, False, False, False]
    assert hubs([1, 4, 2, 3, 0], 0.5).tolist() == [False, True, False, True, False]
    assert hubs([2, 2, 1], 0.1).tolist() == [True, True, False]  # a tie
    assert not hubs([0, 0]).any()


@pytest.mark.parametrize(("share", "n_hubs"), [(0.07, 7), (0.071, 8), (0.55, 55), (1e-12, 1)])
def test_the_share_of_hubs_is_rounded_up_as_it_is_written(share, n_hubs):
    assert hubs(np.arange(1, 101), share).sum() == n_hubs


@given(counts, st.floats(0.01, 1))
def test_hubs_have_more_links_than_the_others(data, share):
    chosen = hubs(data, share)
    linked = data > 0
    assert not (chosen & ~linked).any()
    assert chosen.sum() >= share * linked.sum() - 1e-9
    if chosen.any() and not chosen.all():
        assert data[chosen].min() > data[~chosen].max()


def test_bad_input_is_refused():
    with pytest.raises(TypeError, match="degrees are integers, got float64"):
        check_degrees([1.0, 2.0])
    for wrong in ([[1, 2]], np.zeros(0, dtype=int), [3, -1]):
        with pytest.raises(ValueError, match="none below 0"):
            check_degrees(wrong)
    with pytest.raises(ValueError, match="n_bootstrap is at least 1, got 0"):
        fit_power_law([1, 2, 3], n_bootstrap=0)
    for share in (0.0, 1.5):
        with pytest.raises(ValueError, match="the share of hubs lies in"):
            hubs([1, 2], share)
