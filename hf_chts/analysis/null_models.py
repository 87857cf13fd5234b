"""Random layers to compare with, and the comparison."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from hf_chts.analysis.network import Mask, Undefined, check_mask

ScalarMeasure = Callable[[Mask, int], "float | Undefined"]


@dataclass(frozen=True)
class Comparison:
    """A measure of a layer beside the same measure of random layers.

    Attributes:
        value: Of the layer.
        null_mean: Mean over the random layers.
        null_std: Their sample standard deviation.
        z_score: ``(value - null_mean) / null_std``.
    """

    value: float | Undefined
    null_mean: float | Undefined
    null_std: float | Undefined
    z_score: float | Undefined


def er(mask: ArrayLike, seed: int = 0) -> Mask:
    """A random layer of the same shape and number of links, all such layers equally likely.

    Source: Erdős, Rényi, Publicationes Mathematicae 6:290, 1959, for bipartite networks.
    """
    links = check_mask(mask)
    rng = np.random.default_rng(seed)
    drawn = np.zeros(links.size, dtype=bool)
    drawn[rng.choice(links.size, int(links.sum()), replace=False, shuffle=False)] = True
    return drawn.reshape(links.shape)


def rewired(mask: ArrayLike, seed: int = 0, *, n_trades: int = 20) -> Mask:
    """A random layer in which every neuron keeps its degree, all such layers equally likely.

    Global curveball trades: neurons of one side are paired at random, and each pair shuffles
    the links that only one of the two has. The layer is reached from the given one by
    ``n_trades`` rounds, each neuron in one trade a round.

    Source: Strona et al., Nature Communications 5:4114, 2014 (trades); Carstens, Berger, Strona,
    arXiv:1609.05137 (global trades).

    Args:
        mask: Links to start from.
        seed: Of the trades.
        n_trades: Rounds, at least 1. The law is exactly uniform in the limit of many.

    Raises:
        ValueError: If ``n_trades`` is not positive.
    """
    if n_trades < 1:
        raise ValueError(f"n_trades must be at least 1, got {n_trades}")
    links = check_mask(mask)
    # Trades are between the neurons of the smaller side: fewer, larger steps.
    rows = links.copy() if links.shape[0] <= links.shape[1] else links.T.copy()
    rng = np.random.default_rng(seed)
    for _ in range(n_trades):
        order = rng.permutation(len(rows))
        for a, b in zip(order[0::2], order[1::2], strict=False):
            contested = np.flatnonzero(rows[a] != rows[b])
            of_a = int(rows[a, contested].sum())
            rng.shuffle(contested)
            rows[a, contested[:of_a]], rows[b, contested[:of_a]] = True, False
            rows[a, contested[of_a:]], rows[b, contested[of_a:]] = False, True
    return rows if links.shape[0] <= links.shape[1] else np.ascontiguousarray(rows.T)


NULL_MODELS: dict[str, Callable[[ArrayLike, int], Mask]] = {"er": er, "rewired": rewired}


def compare(
    measure: ScalarMeasure, mask: ArrayLike, *, null: str = "rewired", n: int = 10, seed: int = 0
) -> Comparison:
    """Compare a measure of a layer with that of random layers.

    Args:
        measure: From mask and seed to a number or :class:`Undefined`.
        mask: The layer.
        null: ``"rewired"`` (every neuron keeps its degree) or ``"er"`` (only the number of
            links stays).
        n: Number of random layers, at least 2.
        seed: Of the measure; the random layers have the seeds ``seed``, ``seed + 1`` and so on.

    Raises:
        ValueError: If ``null`` is unknown or ``n`` below 2.
    """
    check_null(null, n)
    links = check_mask(mask)
    values = [measure(NULL_MODELS[null](links, seed + k), seed) for k in range(n)]
    return beside(measure(links, seed), values)


def check_null(null: str, n: int) -> None:
    """Refuse an unknown null model or too few draws, before anything is computed.

    Raises:
        ValueError: If ``null`` is unknown or ``n`` below 2.
    """
    if null not in NULL_MODELS:
        raise ValueError(f"unknown null model {null!r}; take one of: {', '.join(NULL_MODELS)}")
    if n < 2:
        raise ValueError(f"a standard deviation needs 2 random layers or more, got n={n}")


def beside(value: float | Undefined, null_values: Sequence[float | Undefined]) -> Comparison:
    """The comparison of a value with those of the random layers, where it exists."""
    defined = [one for one in null_values if not isinstance(one, Undefined)]
    if len(defined) < len(null_values):
        gap = Undefined(
            f"undefined in {len(null_values) - len(defined)} of {len(null_values)} random layers"
        )
        return Comparison(value, gap, gap, gap)
    mean, std = float(np.mean(defined)), float(np.std(defined, ddof=1))
    z_score: float | Undefined
    if isinstance(value, Undefined):
        z_score = value
    elif std <= 1e-12 * max(abs(mean), abs(value)):
        z_score = Undefined("the measure is the same in all random layers")
    else:
        z_score = (value - mean) / std
    return Comparison(value, mean, std, z_score)
