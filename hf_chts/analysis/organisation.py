"""How links are organised: among hubs, by degree, predictably, in local communities."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from numpy.typing import ArrayLike

from hf_chts.analysis.degree import degrees, hubs
from hf_chts.analysis.network import Mask, Undefined, check_mask


@dataclass(frozen=True)
class StructuralConsistency:
    """How well a layer's links are foretold by the rest of its links.

    Attributes:
        mean: Share of hidden links that are found again, mean over repetitions, in [0, 1].
        std: Standard deviation over repetitions.
        repetitions: How often links were hidden.
        sampled: Neurons drawn per side and repetition; None where the layer was taken whole.
            Values at different sizes are not comparable.
    """

    mean: float
    std: float
    repetitions: int
    sampled: int | None


def rich_club(mask: ArrayLike, share: float = 0.1) -> float | Undefined:
    """Density of links between input hubs and output hubs, in [0, 1].

    Hubs have many links to everyone: divide by the value of rewired masks of the same degrees to
    see a rich club (above 1).

    Source: Colizza et al., Nature Physics 2, 2006.
    Deviations: hubs of the two sides, and hubs by share, since the sides' degrees differ.

    Args:
        mask: Active links, boolean, shape (out, in).
        share: Hubs among the linked neurons of each side, in (0, 1]; see :func:`.degree.hubs`.
    """
    links = check_mask(mask)
    counts = degrees(links)
    rich = links[hubs(counts.outputs, share)][:, hubs(counts.inputs, share)]
    if rich.size == 0:
        return Undefined("the layer has no link")
    return float(rich.mean())


def assortativity(mask: ArrayLike) -> float | Undefined:
    """Correlation over links of the degrees at their two ends, in [-1, 1].

    Positive where inputs with many links reach outputs with many links, negative where they reach
    outputs with few.

    Source: Newman, Physical Review Letters 89, 2002.
    Deviation: each link counts once, from input to output, so that different mean degrees of the
    two sides do not appear as assortativity.
    """
    links = check_mask(mask)
    counts = degrees(links)
    out_ends, in_ends = np.nonzero(links)
    if out_ends.size < 2:
        return Undefined("the layer has fewer than two links")
    return _correlation(counts.inputs[in_ends], counts.outputs[out_ends], "degree at one end")


def lcp_correlation(mask: ArrayLike) -> float | Undefined:
    """Local-community-paradigm correlation (LCP-corr), in [-1, 1].

    For each link (i, o), the paths of three links from i to o that do not use it: CN is the
    number of different neurons inside these paths, LCL the number of links between them, which
    is the number of paths. LCP-corr is the Pearson correlation of CN and LCL over the links with
    CN > 1. High values speak of local communities.

    Source: Cannistraci, Alanis-Lobato and Ravasi, Scientific Reports 3:1613, 2013; two-mode
    common neighbours and local community links of Daminelli et al., New Journal of Physics 17,
    113037, 2015. LCL enters as it is; its square root appears in plots only.
    """
    links = check_mask(mask)
    values = links.astype(np.float32)
    by_output, by_input = values @ values.T, values.T @ values
    n_out, n_in = np.diag(by_output).copy(), np.diag(by_input).copy()
    out_ends, in_ends = np.nonzero(links)
    paths = (by_output @ values)[links].astype(np.float64)
    lcl = paths - n_out[out_ends] - n_in[in_ends] + 1
    # A neighbour of one end is inside a path if it shares one more neuron with the other end.
    for shared in (by_output, by_input):
        np.greater_equal(shared, 2, out=shared)
        np.fill_diagonal(shared, 0)
    common = (by_output @ values + values @ by_input)[links]
    inside = common > 1
    if inside.sum() < 2:
        return Undefined("fewer than two links have more than one common neighbour")
    return _correlation(
        common[inside], lcl[inside], "number of common neighbours, or of links between them"
    )


def _correlation(first: np.ndarray, second: np.ndarray, what: str) -> float | Undefined:
    if np.ptp(first) == 0 or np.ptp(second) == 0:
        return Undefined(f"all links have the same {what}")
    return float(np.corrcoef(first, second, dtype=np.float64)[0, 1])


def structural_consistency(
    mask: ArrayLike,
    *,
    hidden_share: float = 0.1,
    repetitions: int = 10,
    max_neurons: int = 1024,
    seed: int = 0,
) -> StructuralConsistency | Undefined:
    """Structural consistency: are hidden links foretold by the spectrum of the others?

    A share of the links is hidden. First-order perturbation theory says how hidden links shift the
    singular values of the rest, the vectors held fixed. Of all pairs without a link, as many as
    were hidden with the largest values in the shifted matrix are taken for links; the share that
    is right is the structural consistency. Guesses are right for the share of hidden links among
    those pairs, and a random layer lies little above it: compare with null models.

    Source: Lü, Pan, Zhou, Zhang and Stanley, PNAS 112, 2015.
    Deviations: singular vectors of the mask, which for two-mode networks is the same as
    eigenvectors of the adjacency matrix; sides of more than ``max_neurons`` linked neurons are
    measured on random parts, since the spectrum of a layer of 4,096 takes minutes.

    Args:
        mask: Active links, boolean, shape (out, in).
        hidden_share: Links to hide, in (0, 1), rounded, at least one.
        repetitions: How often, each time others.
        max_neurons: Largest side measured whole.
        seed: Of what is hidden and drawn.

    Raises:
        ValueError: If ``hidden_share`` is outside (0, 1), or a number is below 1.
    """
    links = check_mask(mask)
    if not 0 < hidden_share < 1:
        raise ValueError(f"hidden_share lies in (0, 1), got {hidden_share}")
    if repetitions < 1 or max_neurons < 1:
        raise ValueError(
            f"repetitions and max_neurons are at least 1, got {repetitions} and {max_neurons}"
        )
    links = links[links.any(axis=1)][:, links.any(axis=0)]
    if links.sum() < 2:
        return Undefined("the layer has fewer than two links, one to hide and one to learn from")
    if links.all():
        return Undefined("no pair of linked neurons is without a link")
    found = []
    for stream in np.random.default_rng(seed).spawn(repetitions):
        part = _random_part(links, max_neurons, stream)
        if part.sum() >= 2:
            found.append(_found_again(part, hidden_share, stream))
    if not found:
        return Undefined(f"random parts of {max_neurons} neurons a side have hardly a link")
    sampled = max_neurons if max(links.shape) > max_neurons else None
    return StructuralConsistency(float(np.mean(found)), float(np.std(found)), len(found), sampled)


def _random_part(links: Mask, size: int, generator: np.random.Generator) -> Mask:
    """The links between at most ``size`` random neurons of each side."""
    rows, columns = (
        np.sort(generator.choice(n, size, replace=False)) if n > size else np.arange(n)
        for n in links.shape
    )
    return links[np.ix_(rows, columns)]


def _found_again(links: Mask, hidden_share: float, generator: np.random.Generator) -> float:
    """Share of randomly hidden links among the pairs that the shifted matrix ranks highest."""
    ends = np.argwhere(links)
    n_hidden = min(max(round(hidden_share * len(ends)), 1), len(ends) - 1)
    chosen = ends[generator.choice(len(ends), n_hidden, replace=False)]
    hidden = np.zeros_like(links)
    hidden[tuple(chosen.T)] = True
    unknown = ~(links & ~hidden)
    scores = perturbed(links & ~hidden, hidden)[unknown]
    # Equal scores are ranked at random, not by the neurons' order.
    order = np.lexsort((generator.random(scores.size), -scores))
    return float(hidden[unknown][order[:n_hidden]].mean())


def perturbed(kept: Mask, hidden: Mask) -> Float[np.ndarray, "out in"]:
    """The matrix of the kept links with its singular values shifted by the hidden ones.

    ``sum of (s_k + u_k' H v_k) u_k v_k'`` over the singular triplets of the kept links, H being
    the hidden ones. Vectors of equal singular values are not unique; what is computed for them,
    as in degenerate perturbation theory, does not depend on the choice.

    Source: Lü et al., PNAS 112, 2015.

    Args:
        kept: Links that are known, boolean, shape (out, in), at least one.
        hidden: Links that are not, of the same shape.
    """
    matrix, change = kept.astype(np.float64), hidden.astype(np.float64)
    left, values, right = np.linalg.svd(matrix, full_matrices=False)
    tolerance = 1e-9 * values[0]
    rank = int(np.count_nonzero(values > tolerance))
    left, values, right = left[:, :rank], values[:rank], right[:rank]
    shift = left.T @ change @ right.T
    equal = np.abs(values[:, None] - values) <= tolerance
    shift = np.where(equal, (shift + shift.T) / 2, 0)
    rest = change - left @ (left.T @ change)
    rest -= (rest @ right.T) @ right
    return np.asarray(matrix + left @ shift @ right + rest)
