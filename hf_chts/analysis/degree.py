"""Degrees: how many links the neurons of a layer have, and whether a few have most of them."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Int
from numpy.typing import ArrayLike

from hf_chts.analysis.network import Undefined, check_mask
from hf_chts.analysis.power_law_tail import (
    Alternative,
    Tail,
    draw,
    exponential,
    find_tail,
    lognormal,
)


@dataclass(frozen=True)
class Degrees:
    """Links per neuron of a layer, isolated neurons included.

    Attributes:
        inputs: Active links of each input neuron, in [0, out].
        outputs: Active links of each output neuron, in [0, in].
    """

    inputs: Int[np.ndarray, " in"]
    outputs: Int[np.ndarray, " out"]


@dataclass(frozen=True)
class PowerLaw:
    """A power law fitted to the tail of a degree distribution.

    Attributes:
        gamma: Exponent, in (1, 100): the share of neurons of degree k is proportional to
            ``k ** -gamma``. Scale-free networks have gamma in [2, 3]; the tails of random layers
            pass for steep power laws, often with a high p-value, so read the three together.
        x_min: Smallest degree of the tail.
        n_tail: Neurons in the tail.
        distance: Largest gap between the fitted and the measured distribution, in [0, 1].
        p_value: Share of networks drawn from the fitted law that lie as far from their own fit,
            in [0, 1]. Below 0.1 the power law is ruled out.
        n_bootstrap: How many were drawn; the p-value is a multiple of 1 / n_bootstrap.
        alternatives: Comparison with an ``"exponential"`` and a ``"lognormal"`` tail.
    """

    gamma: float
    x_min: int
    n_tail: int
    distance: float
    p_value: float
    n_bootstrap: int
    alternatives: dict[str, Alternative]


def degrees(mask: ArrayLike) -> Degrees:
    """Degrees of both sides of a layer.

    Args:
        mask: Active links, boolean, shape (out, in).
    """
    links = check_mask(mask)
    return Degrees(inputs=links.sum(axis=0), outputs=links.sum(axis=1))


def check_degrees(degrees: ArrayLike) -> Int[np.ndarray, " neurons"]:
    """Degrees as a numpy array.

    Raises:
        TypeError: If they are not integers.
        ValueError: If they are not one list of numbers of at least 0.
    """
    array = np.asarray(degrees)
    if not np.issubdtype(array.dtype, np.integer):
        raise TypeError(f"degrees are integers, got {array.dtype}")
    if array.ndim != 1 or array.size == 0 or array.min() < 0:
        raise ValueError(
            f"degrees are a list of at least one number, none below 0, got shape {array.shape}"
        )
    return array.astype(np.int64)


def fit_power_law(
    degrees: ArrayLike, *, n_bootstrap: int = 100, seed: int = 0
) -> PowerLaw | Undefined:
    """Fit a power law to the tail of a degree distribution and test whether it is one.

    The exponent is the maximum of the discrete likelihood, ``x_min`` the degree above which
    data and law are closest (Kolmogorov-Smirnov distance over the observed degrees). The p-value
    comes from the semi-parametric bootstrap: as many degrees are drawn, from the fitted law with
    the tail's share and from the degrees below the tail otherwise, and fitted in the same way.

    Source: Clauset, Shalizi and Newman, SIAM Review 51, 2009, sections 3 and 4.
    Deviations: isolated neurons are left out, tails of fewer than ten neurons and exponents above
    100 are not considered, and the law has no cut-off although a degree cannot exceed the size of
    the other side.

    Args:
        degrees: Links per neuron: one side of a layer, or both sides together.
        n_bootstrap: Draws for the p-value; 2,500 give it to about 0.01, 100 to about 0.05.
        seed: Of the draws.

    Returns:
        The fit, or why there is none.

    Raises:
        TypeError: If the degrees are not integers.
        ValueError: If a degree is negative or ``n_bootstrap`` is below 1.
    """
    data = check_degrees(degrees)
    if n_bootstrap < 1:
        raise ValueError(f"n_bootstrap is at least 1, got {n_bootstrap}")
    data = data[data > 0]
    tail = find_tail(data)
    if tail is None:
        return Undefined("no ten linked neurons have degrees that a power law could follow")
    body, generator = data[data < tail.x_min], np.random.default_rng(seed)
    in_tail = generator.binomial(data.size, tail.n_tail / data.size, size=n_bootstrap)
    drawn = draw(tail, int(in_tail.sum()), generator)
    further = 0
    for part in np.split(drawn, in_tail.cumsum()[:-1]):
        rest = data.size - part.size
        again = find_tail(np.concatenate([part, generator.choice(body, rest)]) if rest else part)
        further += again is None or again.distance >= tail.distance
    return _power_law(data, tail, further / n_bootstrap, n_bootstrap)


def _power_law(
    data: Int[np.ndarray, " neurons"], tail: Tail, p_value: float, n_bootstrap: int
) -> PowerLaw:
    in_tail = np.sort(data[data >= tail.x_min])
    return PowerLaw(
        gamma=tail.gamma,
        x_min=tail.x_min,
        n_tail=tail.n_tail,
        distance=tail.distance,
        p_value=p_value,
        n_bootstrap=n_bootstrap,
        alternatives={
            "exponential": exponential(in_tail, tail),
            "lognormal": lognormal(in_tail, tail),
        },
    )


def heterogeneity(degrees: ArrayLike) -> float | Undefined:
    """How unequal degrees are: ``<k^2> / <k>^2``, in [1, infinity).

    1 when all neurons have the same degree; the variance over the squared mean, plus one.
    Isolated neurons count with degree 0.

    Source: degree heterogeneity H of Lü and Zhou, Physica A 390, 2011.
    """
    data = check_degrees(degrees).astype(np.float64)
    if not data.any():
        return Undefined("no neuron has a link")
    return float(np.mean(data**2) / np.mean(data) ** 2)


def hubs(degrees: ArrayLike, share: float = 0.1) -> Bool[np.ndarray, " neurons"]:
    """The neurons with the most links.

    Neurons that tie with the last hub are hubs too, so that the answer never depends on the order
    of neurons; where all have the same degree, all are hubs. Isolated neurons are never hubs.

    Args:
        degrees: Links per neuron.
        share: Hubs among the linked neurons, in (0, 1], rounded up.

    Returns:
        True where a neuron is a hub.

    Raises:
        ValueError: If ``share`` is outside (0, 1].
    """
    data = check_degrees(degrees)
    if not 0 < share <= 1:
        raise ValueError(f"the share of hubs lies in (0, 1], got {share}")
    linked = np.sort(data[data > 0])
    if linked.size == 0:
        return np.zeros(data.size, dtype=bool)
    n_hubs = max(math.ceil(round(share * linked.size, 9)), 1)  # 0.07 * 100 is a little above 7
    return np.asarray(data >= linked[-n_hubs])
