"""What a rule sees of a layer, and the links chosen by what it says."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from hf_chts.layers.sparse_linear import SparseLinear
from hf_chts.rules.links import Links
from hf_chts.rules.registry import Rule
from hf_chts.rules.select import choose

Mask = Bool[Tensor, "out in"]


def links_of(
    layer: SparseLinear,
    turned: Callable[[Tensor], Tensor],
    mask: Mask,
    rule: Rule,
    generator: torch.Generator,
) -> Links:
    """One layer as a rule sees it, with what the rule reads.

    Args:
        layer: The layer.
        turned: Makes a matrix of the layer one of the layer that ``mask`` belongs to.
        mask: The links.
        rule: The rule.
        generator: Source of the rule's randomness.
    """
    grad = correlation = None
    if rule.reads == "grad":
        reached = layer.values.grad  # None where no loss has reached the layer
        grad = layer.scatter(torch.zeros_like(layer.values) if reached is None else reached)
    elif rule.reads == "dense_grad":
        grad = layer.dense_grad
    elif layer.coactivation is not None and rule.reads == "correlation":
        correlation = layer.coactivation.correlation()
    weight = turned(layer.to_dense()) * mask
    grad, correlation = (None if x is None else turned(x) for x in (grad, correlation))
    return Links(weight, mask, generator, grad, correlation)


def choose_links(
    rule: Rule,
    tied: Sequence[Links],
    parts: Sequence[slice],
    counts: Sequence[int],
    exponent: float | None,
    *,
    active: bool = True,
) -> Mask:
    """Choose links by a rule in each part of a layer, among the active or the inactive.

    Args:
        rule: What scores them.
        tied: The layer, and those that share its links: their scores count together.
        parts: Its sub-networks.
        counts: How many links to choose in each of them.
        exponent: None for ranked choice, a number for soft choice.
        active: Whether to choose among the active links.

    Raises:
        ValueError: If the rule's scores are no scores, naming it.
    """
    first = tied[0]
    chosen = torch.zeros_like(first.mask)
    for rows, count in zip(parts, counts, strict=True):
        eligible = first.mask[rows] if active else ~first.mask[rows]
        scores = _together([rule.function(links.of(rows)) for links in tied], eligible)
        try:
            chosen[rows] = choose(scores, eligible, count, first.generator, exponent)
        except ValueError as error:
            raise ValueError(f"rule {rule.name!r}: {error}") from error
    return chosen


def _together(scores: Sequence[Float[Tensor, "out in"]], eligible: Mask) -> Float[Tensor, "out in"]:
    """The sum of the scores of tied layers, each over its mean, so that none outweighs another."""
    if len(scores) == 1:
        return scores[0]
    shares = []
    for one in scores:
        mean = one[eligible].double().mean()
        shares.append(one / mean if mean > 0 else one)
    return torch.stack(shares).sum(0)
