import numpy as np
import pytest
from scipy.special import zeta

from hf_chts.analysis.power_law_tail import Tail, draw, exponential, find_tail, log_zeta, lognormal


@pytest.mark.parametrize(("gamma", "x"), [(2.0, 1), (2.5, 30), (30.0, 299), (30.0, 301), (90.0, 5)])
def test_log_zeta_where_the_sum_does_not_underflow(gamma, x):
    assert log_zeta(gamma, x) == pytest.approx(np.log(zeta(gamma, x)), abs=1e-8)


def test_log_zeta_where_it_does():
    k = np.arange(5000, 15000)
    expected = np.log(np.sum((k / 5000.0) ** -95)) - 95 * np.log(5000)
    assert log_zeta(95.0, 5000) == pytest.approx(expected, abs=1e-8)


def test_log_zeta_of_two_is_known():
    assert np.exp(log_zeta(2.0, 1)) == pytest.approx(np.pi**2 / 6)


def test_exponents_have_the_largest_likelihood():
    data = np.random.default_rng(0).zipf(2.2, 2000)
    tail = find_tail(data)
    logs = np.log(data[data >= tail.x_min]).mean()

    def loss(gamma):
        return log_zeta(gamma, tail.x_min) + gamma * logs

    assert loss(tail.gamma) <= min(loss(tail.gamma - 1e-3), loss(tail.gamma + 1e-3))
    assert tail.n_tail == (data >= tail.x_min).sum()


def test_distance_by_hand():
    # All degrees are 1 or 2, ten of the first and five of the second: one candidate, x_min = 1.
    tail = find_tail(np.array([1] * 10 + [2] * 5))
    share = 1 / zeta(tail.gamma, 1)
    beyond = zeta(tail.gamma, 3) / zeta(tail.gamma, 1)
    assert (tail.x_min, tail.n_tail) == (1, 15)
    assert tail.distance == pytest.approx(max(abs(share - 2 / 3), beyond))


@pytest.mark.parametrize("data", [[], [3] * 20, [1, 2, 3, 4]])
def test_no_tail(data):
    assert find_tail(np.array(data, dtype=int)) is None


def test_tails_steeper_than_the_steepest_exponent_are_none():
    assert find_tail(np.array([9000] * 5000 + [9001])) is None


def test_draws_follow_the_law():
    tail = Tail(gamma=2.5, x_min=3, n_tail=0, distance=0.0)
    drawn = draw(tail, 50_000, np.random.default_rng(0))
    assert drawn.min() == 3
    for x in (3, 4, 10):
        expected = x**-2.5 / zeta(2.5, 3)
        assert np.mean(drawn == x) == pytest.approx(expected, abs=4 * np.sqrt(expected / 50_000))


def test_draws_reach_beyond_the_table():
    tail = Tail(gamma=1.2, x_min=1, n_tail=0, distance=0.0)
    drawn = draw(tail, 50_000, np.random.default_rng(0))
    for x in (10**5, 10**7, 10**9):
        assert np.mean(drawn >= x) == pytest.approx(zeta(1.2, x) / zeta(1.2, 1), abs=0.01)


def test_rivals_win_on_their_own_data():
    generator = np.random.default_rng(0)
    geometric = np.sort(generator.geometric(0.1, 2000) + 9)
    tail = Tail(*_fixed(geometric), distance=0.0)
    assert exponential(geometric, tail).log_ratio < -50
    assert exponential(geometric, tail).p_value < 1e-3
    rounded = np.sort(np.maximum(np.rint(generator.lognormal(4, 0.5, 2000)), 5).astype(int))
    tail = Tail(*_fixed(rounded), distance=0.0)
    assert lognormal(rounded, tail).log_ratio < -50
    assert lognormal(rounded, tail).p_value < 1e-3


def test_a_power_law_beats_the_exponential_and_ties_with_the_lognormal():
    data = np.sort(np.random.default_rng(0).zipf(2.2, 2000))
    tail = Tail(*_fixed(data), distance=0.0)
    assert exponential(data, tail).log_ratio > 100
    assert lognormal(data, tail).p_value > 0.01


def _fixed(data):
    """The power law of largest likelihood with its tail at the smallest number."""
    gammas = np.linspace(1.1, 6, 4901)
    x_min = int(data.min())
    losses = log_zeta(gammas, np.full(gammas.size, x_min)) + gammas * np.log(data).mean()
    return float(gammas[losses.argmin()]), x_min, data.size
