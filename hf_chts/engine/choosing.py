"""What a rule sees of a layer, and the links chosen by what it says."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Bool
from torch import Tensor

from hf_chts.layers.sparse_linear import SparseLinear
from hf_chts.rules.links import Links
from hf_chts.rules.registry import Rule
from hf_chts.rules.select import choose

Mask = Bool[Tensor, "out in"]


def links_of(layer: SparseLinear, mask: Mask, rule: Rule, generator: torch.Generator) -> Links:
    """One layer as a rule sees it, with what the rule reads."""
    grad = correlation = None
    if rule.reads == "grad":
        reached = layer.values.grad  # None where no loss has reached the layer
        grad = layer.scatter(torch.zeros_like(layer.values) if reached is None else reached)
    elif rule.reads == "dense_grad":
        grad = layer.dense_grad
    elif layer.coactivation is not None and rule.reads == "correlation":
        correlation = layer.coactivation.correlation()
    return Links(layer.to_dense() * mask, mask, generator, grad, correlation)


def choose_links(
    rule: Rule,
    links: Links,
    parts: Sequence[slice],
    counts: Sequence[int],
    exponent: float | None,
    *,
    active: bool = True,
) -> Mask:
    """Choose links by a rule in each part of a layer, among the active or the inactive.

    Raises:
        ValueError: If the rule's scores are no scores, naming it.
    """
    chosen = torch.zeros_like(links.mask)
    for rows, count in zip(parts, counts, strict=True):
        part = links.of(rows)
        eligible = part.mask if active else ~part.mask
        scores = rule.function(part)
        try:
            chosen[rows] = choose(scores, eligible, count, links.generator, exponent)
        except ValueError as error:
            raise ValueError(f"rule {rule.name!r}: {error}") from error
    return chosen
