"""The same layer at two times, or many: shared links, and links explored."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from numpy.typing import ArrayLike

from hf_chts.analysis.network import Undefined, check_mask


@dataclass(frozen=True)
class Overlap:
    """Links that two masks share, beside what chance would give.

    Chance is one mask redrawn at random with as many links, every position alike: the number of
    shared links then follows the hypergeometric distribution. Between layers, numbers, expected
    values and variances add up (:func:`total`).

    Attributes:
        shared: Links active in both.
        united: Links active in either.
        expected: Mean of ``shared`` by chance.
        variance: Variance of ``shared`` by chance.
    """

    shared: int
    united: int
    expected: float
    variance: float

    @property
    def jaccard(self) -> float | Undefined:
        """Shared links over links active in either, in [0, 1]; by chance d / (2 - d) at density d.

        Source: P. Jaccard, New Phytologist 11, 1912.
        """
        return self.shared / self.united if self.united else Undefined("neither mask has a link")

    @property
    def ratio(self) -> float | Undefined:
        """Shared links over those expected by chance, at least 0; 1 means no more than chance."""
        return self.shared / self.expected if self.expected else Undefined("a mask has no link")

    @property
    def z_score(self) -> float | Undefined:
        """Shared links above the expected ones, in standard deviations of chance."""
        if not self.variance:
            return Undefined("chance leaves no choice: a mask has no link, or all of them")
        return (self.shared - self.expected) / math.sqrt(self.variance)


@dataclass(frozen=True)
class Explored:
    """Shares of links that were active at some time so far (ITOP rates).

    Attributes:
        layers: Shares by layer, one for each time, in [0, 1], never falling.
        overall: Likewise over the positions of all layers.
    """

    layers: dict[str, Float[np.ndarray, " times"]]
    overall: Float[np.ndarray, " times"]


def overlap(mask_a: ArrayLike, mask_b: ArrayLike) -> Overlap:
    """Compare the links of two masks of one layer: start and end, or two seeds.

    Links are compared by position. Between two seeds that says something only where neuron i means
    the same in both: hidden neurons of independent runs come in no common order.

    Args:
        mask_a: Active links, boolean, shape (out, in).
        mask_b: Another mask of that shape.

    Raises:
        TypeError: If a mask is not boolean.
        ValueError: If a mask is not two-dimensional, or their shapes differ.
    """
    a, b = check_mask(mask_a), check_mask(mask_b)
    if a.shape != b.shape:
        raise ValueError(f"masks of one layer have one shape; got {a.shape} and {b.shape}")
    n, n_a, n_b = a.size, int(np.count_nonzero(a)), int(np.count_nonzero(b))
    shared = int(np.count_nonzero(a & b))
    expected = n_a * n_b / n
    variance = n_a * n_b * (n - n_a) * (n - n_b) / (n * n * (n - 1)) if n > 1 else 0.0
    return Overlap(shared, n_a + n_b - shared, expected, variance)


def overlaps(
    masks_a: Mapping[str, ArrayLike], masks_b: Mapping[str, ArrayLike]
) -> dict[str, Overlap]:
    """Compare the links of two networks layer by layer; see :func:`overlap`.

    Raises:
        TypeError: If a mask is not boolean.
        ValueError: If they have different layers, or a layer has different shapes.
    """
    _same_layers(masks_a, masks_b)
    return {name: overlap(mask, masks_b[name]) for name, mask in masks_a.items()}


def total(layers: Iterable[Overlap]) -> Overlap:
    """The overlap of several layers together, whose chances are independent."""
    rows = list(layers)
    return Overlap(
        sum(row.shared for row in rows),
        sum(row.united for row in rows),
        math.fsum(row.expected for row in rows),
        math.fsum(row.variance for row in rows),
    )


def itop(history: Iterable[Mapping[str, ArrayLike]]) -> Explored:
    """The share of links that were active at some time up to each of a run's times.

    Source: Liu et al., *Do we actually need dense over-parameterization? In-time
    over-parameterization in sparse training*, ICML 2021 (the rate R_s). From snapshots it is a
    lower bound: links that came and went between two of them are not seen. A run's topology log
    holds the exact rate.

    Args:
        history: Masks by layer name, one mapping for each time, in order; may be an iterator.

    Raises:
        TypeError: If a mask is not boolean.
        ValueError: If there is no time or no layer, or layers or shapes change over time.
    """
    seen: dict[str, np.ndarray] = {}
    counts: dict[str, list[int]] = {}
    for time, masks in enumerate(history):
        if time:
            _same_layers(seen, masks)
        for name, given in masks.items():
            mask = check_mask(given)
            union = seen.setdefault(name, np.zeros_like(mask))
            if union.shape != mask.shape:
                raise ValueError(f"{name} changes its shape: {union.shape}, then {mask.shape}")
            union |= mask
            counts.setdefault(name, []).append(int(np.count_nonzero(union)))
    if not seen:
        raise ValueError("there is nothing to follow: give the masks of at least one layer")
    layers = {name: np.array(row) / seen[name].size for name, row in counts.items()}
    sizes = sum(union.size for union in seen.values())
    return Explored(layers, np.array(list(counts.values())).sum(0) / sizes)


def _same_layers(a: Mapping[str, object], b: Mapping[str, object]) -> None:
    if differing := sorted(a.keys() ^ b.keys()):
        raise ValueError(f"the networks differ in {len(differing)} layers (first: {differing[0]})")
