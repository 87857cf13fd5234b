"""Discrete power laws: where the tail of a sample starts, draws from it, rival laws.

Exact and quick enough to be repeated a hundred times for a p-value. Degrees of sparse layers lie
far from 1 and their tails are steep, where closed-form estimates of the exponent fail.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from scipy.optimize import minimize
from scipy.special import log_ndtr, zeta

STEEPEST = 100.0  # exponents above it are no power laws, and underflow
_SMALLEST_TAIL = 10
_TABLE = 100_000
_SECTIONS = 40  # exponents to 1e-6
_GOLDEN = (math.sqrt(5) - 1) / 2


@dataclass(frozen=True)
class Tail:
    """A power law from ``x_min`` on: exponent, neurons in it, Kolmogorov-Smirnov distance."""

    gamma: float
    x_min: int
    n_tail: int
    distance: float


@dataclass(frozen=True)
class Alternative:
    """A power law against another law fitted to the same tail.

    Attributes:
        log_ratio: Log-likelihood of the power law minus that of the other law, in nats; positive
            where the power law is likelier.
        p_value: Chance of a ratio at least as large by noise alone, in [0, 1]; above 0.1 its sign
            says nothing.
    """

    log_ratio: float
    p_value: float


def log_zeta(
    gamma: Float[np.ndarray, "*shape"] | float, x: Int[np.ndarray, "*shape"] | int
) -> Float[np.ndarray, "*shape"]:
    """Logarithm of the sum of ``k ** -gamma`` over k >= x, for gamma in (1, 100] and x >= 1.

    Above ``x = 10 gamma``, where the sum may underflow, by the Euler-Maclaurin formula (error
    below 1e-9).
    """
    gammas, starts = np.broadcast_arrays(gamma, np.asarray(x, dtype=np.float64))
    far = np.maximum(starts, 10 * gammas)
    correction = 0.5 + gammas / (12 * far)
    correction -= gammas * (gammas + 1) * (gammas + 2) / (720 * far**3)
    result = np.asarray(np.log(far / (gammas - 1) + correction) - gammas * np.log(far))
    near = starts < far
    result[near] = np.log(zeta(gammas[near], starts[near]))
    return result


def find_tail(data: Int[np.ndarray, " n"]) -> Tail | None:
    """The tail that a power law describes best, or None where no candidate is left.

    Args:
        data: Numbers of at least 1, in any order.
    """
    values, counts = np.unique(data, return_counts=True)
    sizes = counts[::-1].cumsum()[::-1]
    starts = np.flatnonzero(sizes >= _SMALLEST_TAIL)[: max(values.size - 1, 0)]
    if starts.size == 0:
        return None
    log_sums = (counts * np.log(values))[::-1].cumsum()[::-1]
    x_min, means = values[starts], log_sums[starts] / sizes[starts]
    gamma = _exponents(x_min, means)
    distance = np.full(starts.size, np.inf)
    for j in np.flatnonzero(gamma < STEEPEST - 1e-3):
        seen = counts[starts[j] :].cumsum() / sizes[starts[j]]
        beyond = log_zeta(gamma[j], values[starts[j] :] + 1) - log_zeta(gamma[j], x_min[j])
        distance[j] = np.abs(-np.expm1(beyond) - seen).max()
    best = int(distance.argmin())
    if math.isinf(distance[best]):
        return None
    n_tail = int(sizes[starts[best]])
    return Tail(float(gamma[best]), int(x_min[best]), n_tail, float(distance[best]))


def _exponents(
    x_min: Int[np.ndarray, " n"], mean_logs: Float[np.ndarray, " n"]
) -> Float[np.ndarray, " n"]:
    """Exponents of largest likelihood, one a tail, by golden section: it has a single peak."""
    low, high = np.full(x_min.size, 1.0 + 1e-6), np.full(x_min.size, STEEPEST)
    for _ in range(_SECTIONS):
        left, right = high - _GOLDEN * (high - low), low + _GOLDEN * (high - low)
        loss_left = log_zeta(left, x_min) + left * mean_logs
        loss_right = log_zeta(right, x_min) + right * mean_logs
        high = np.where(loss_left < loss_right, right, high)
        low = np.where(loss_left < loss_right, low, left)
    return np.asarray((low + high) / 2)


def draw(tail: Tail, n: int, generator: np.random.Generator) -> Int[np.ndarray, " n"]:
    """Numbers from the tail's power law: exact for the first 100,000, continuous beyond."""
    steps = np.arange(tail.x_min, tail.x_min + _TABLE)
    above = log_zeta(tail.gamma, steps) - log_zeta(tail.gamma, tail.x_min)
    uniform = np.log1p(-generator.random(n))  # log of a number in (0, 1]
    found = np.searchsorted(-above, -uniform, side="right") - 1
    far = steps[-1] * np.exp(np.minimum((above[-1] - uniform) / (tail.gamma - 1), 30.0))
    return np.asarray(np.where(found < _TABLE - 1, steps[found], far.astype(np.int64)))


def exponential(data: Int[np.ndarray, " n"], tail: Tail) -> Alternative:
    """The tail's power law against a discrete exponential (geometric) law from ``x_min`` on."""
    above = data - tail.x_min
    rate = np.log1p(1 / above.mean())
    return _compare(data, tail, np.log(-np.expm1(-rate)) - rate * above)


def lognormal(data: Int[np.ndarray, " n"], tail: Tail) -> Alternative:
    """The tail's power law against a lognormal law rounded to integers, from ``x_min`` on.

    Args:
        data: The tail, in rising order.
        tail: Its power law.
    """
    values, counts = np.unique(data, return_counts=True)

    def log_likelihoods(parameters: Float[np.ndarray, " two"]) -> Float[np.ndarray, " values"]:
        location, scale = parameters[0], np.exp(parameters[1])
        low = (np.log(values - 0.5) - location) / scale
        high = (np.log(values + 0.5) - location) / scale
        # The difference of two probabilities, taken in the tail where they are small.
        near = log_ndtr(np.where(low > 0, -low, high))
        far = log_ndtr(np.where(low > 0, -high, low))
        inside = near + np.log(-np.expm1(np.minimum(far - near, -1e-15)))
        start = (np.log(tail.x_min - 0.5) - location) / scale
        return np.asarray(inside - log_ndtr(-start))

    logs = np.log(data)
    fitted = minimize(
        lambda parameters: -counts @ log_likelihoods(parameters),
        [logs.mean(), np.log(logs.std())],
        method="Nelder-Mead",
        bounds=[(-500.0, 20.0), (-10.0, 4.0)],
        options={"xatol": 1e-6, "fatol": 1e-6, "maxiter": 2000},
    )
    return _compare(data, tail, np.repeat(log_likelihoods(fitted.x), counts))


def _compare(
    data: Int[np.ndarray, " n"], tail: Tail, other: Float[np.ndarray, " n"]
) -> Alternative:
    """Vuong's test. ``data`` and ``other`` are compared in the same order.

    Source: Clauset, Shalizi and Newman, SIAM Review 51, 2009, section 5 and appendix C.
    """
    normaliser = log_zeta(tail.gamma, tail.x_min)
    difference = -tail.gamma * np.log(data) - normaliser - other
    ratio, spread = float(difference.sum()), float(difference.std())
    return Alternative(ratio, math.erfc(abs(ratio) / (spread * math.sqrt(2 * data.size))))
