"""From scores to exactly ``k`` links: the only place where links are chosen."""

from __future__ import annotations

import math

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor


def choose(
    scores: Float[Tensor, "*shape"],
    eligible: Bool[Tensor, "*shape"],
    k: int,
    generator: torch.Generator,
    exponent: float | None = None,
) -> Bool[Tensor, "*shape"]:
    """Choose exactly ``k`` of the eligible links, the higher the score the likelier.

    Ranked choice takes the highest scores; soft choice draws without replacement with odds
    ``score ** exponent``. Work and memory grow with the number of eligible links only.

    >>> scores, eligible = torch.tensor([[1.0, 4.0], [2.0, 3.0]]), torch.ones(2, 2).bool()
    >>> choose(scores, eligible, 2, torch.Generator())
    tensor([[False,  True],
            [False,  True]])

    Source: Kool et al., ICML 2019, arXiv 1903.06059: the ``k`` largest of log odds plus
    Gumbel noise are a sample without replacement. Logarithms in float64 keep apart odds whose
    powers would underflow. Where few are to be chosen, drawing one by one, and again where a link
    was drawn before, is a sample of the same law, and much cheaper; what is still to be chosen
    after some draws is chosen of the others by the first way.

    Args:
        scores: One score per link; those of links that are not eligible are ignored.
        eligible: True at the links that may be chosen.
        k: How many links to choose, in [0, number of eligible links].
        generator: Source of the random draw and of breaking ties, on the device of ``scores``.
        exponent: None for ranked choice, equal scores in random order. In [0, inf) for soft
            choice: 0 gives the same odds to all positive scores, large values tend to ranked.
            Links of score 0 follow when no positive one is left, in random order.

    Returns:
        A mask with exactly ``k`` True entries, all of them eligible.

    Raises:
        ValueError: If ``k`` or ``exponent`` is out of range, or an eligible score is NaN or
            infinite, or negative where the choice is soft.
    """
    n_eligible = int(eligible.count_nonzero())
    if not 0 <= k <= n_eligible:
        raise ValueError(f"cannot choose {k} links: k must be in [0, {n_eligible}], the eligible")
    drawn = torch.zeros_like(eligible)
    if exponent is not None and 4 * k < n_eligible:
        odds = torch.where(eligible, scores, 0).flatten()
        _check(odds, exponent)
        drawn = _draw_few(odds.double(), k, generator, exponent).view_as(eligible)
        k -= int(drawn.count_nonzero())
        if k == 0:
            return drawn
        eligible = eligible & ~drawn
    keys = scores.masked_select(eligible)
    _check(keys, exponent)
    chosen = torch.zeros_like(eligible)
    if k > 0:
        if exponent is not None:
            keys = _perturbed(keys.to(torch.float64, copy=True), exponent, generator)
        chosen.masked_scatter_(eligible, _top_k(keys, k, generator))
    return drawn | chosen


def draw_rows(
    log_odds: Float[Tensor, "rows columns"],
    degrees: Int[Tensor, " rows"],
    generator: torch.Generator,
) -> Bool[Tensor, "rows columns"]:
    """Draw ``degrees[row]`` columns in each row, without replacement, with the given odds.

    Args:
        log_odds: Logarithm of the odds, finite.
        degrees: How many columns to draw in each row, in [0, number of columns].
        generator: Source of randomness, on the device of ``log_odds``.

    Returns:
        A mask with exactly ``degrees[row]`` True entries in each row.
    """
    keys = log_odds.double() + _gumbel(log_odds.shape, generator)
    most = int(degrees.max())
    columns = keys.topk(most, dim=1).indices
    wanted = torch.arange(most, device=degrees.device) < degrees[:, None]
    return torch.zeros_like(keys, dtype=torch.bool).scatter_(1, columns, wanted)


def _check(keys: Float[Tensor, " n"], exponent: float | None) -> None:
    if len(keys) == 0:
        return
    low, high = keys.aminmax()  # NaN if one is NaN
    if not bool(low.isfinite() & high.isfinite()):
        raise ValueError("scores of eligible links must be finite; got NaN or infinity")
    if exponent is None:
        return
    if not (math.isfinite(exponent) and exponent >= 0):
        raise ValueError(f"exponent must be None (ranked) or in [0, inf) (soft); got {exponent}")
    if bool(low < 0):
        raise ValueError("soft choice needs scores >= 0; got a negative one (use ranked choice)")


def _draw_few(
    odds: Float[Tensor, " n"], k: int, generator: torch.Generator, exponent: float
) -> Bool[Tensor, " n"]:
    """Draw half as many times again as ``k``: ``k`` different links, or fewer if these repeat.

    Scores of 0 are never drawn.
    """
    if exponent != 1:
        odds = (odds / odds.max()).pow_(exponent).masked_fill_(odds == 0, 0)
    ends = odds.cumsum(0)
    drawn = torch.rand(k + k // 2 + 8, generator=generator, device=odds.device, dtype=odds.dtype)
    links = torch.searchsorted(ends, drawn.mul_(ends[-1]), right=True)
    links = links[links < len(odds)]  # it is the last end where that is 0, or by rounding
    order = torch.arange(len(links), dtype=torch.int32, device=odds.device)
    first = order.new_full(odds.shape, len(links))
    first.scatter_reduce_(0, links, order, "amin")
    different = links[first[links] == order][:k]
    chosen = torch.zeros(odds.shape, dtype=torch.bool, device=odds.device)
    return chosen.index_fill_(0, different, True)


def _perturbed(
    scores: Float[Tensor, " n"], exponent: float, generator: torch.Generator
) -> Float[Tensor, " n"]:
    none = scores == 0
    keys = scores.log_().mul_(exponent).add_(_gumbel(scores.shape, generator))
    return keys.masked_fill_(none, -torch.inf)


def _gumbel(shape: torch.Size, generator: torch.Generator) -> Float[Tensor, "..."]:
    uniform = torch.rand(shape, generator=generator, device=generator.device, dtype=torch.float64)
    tiny = torch.finfo(torch.float64).tiny
    return uniform.clamp_min_(tiny).log_().neg_().log_().neg_()


def _top_k(keys: Float[Tensor, " n"], k: int, generator: torch.Generator) -> Bool[Tensor, " n"]:
    threshold = keys.kthvalue(len(keys) - k + 1).values
    top = keys >= threshold
    if int(top.count_nonzero()) > k:
        top, tied = keys > threshold, (keys == threshold).nonzero().squeeze(1)
        order = torch.randperm(len(tied), generator=generator, device=tied.device)
        top[tied[order[: k - int(top.count_nonzero())]]] = True
    return top
