"""Regrowth at the ends of strong paths."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from hf_chts.rules.links import Links
from hf_chts.rules.regrowth import regrowth


@regrowth.register("weighted_paths", source="hf_chts, not from a paper")
def weighted_paths(links: Links, normalised: bool = False) -> Float[Tensor, "out in"]:
    """Score a link by the strength of all paths of length three between its two neurons.

    A path is as strong as the product of its links' absolute weights, so the scores are
    ``|W| |W|^T |W|``. Links that have just grown have weight 0 and carry no path yet.

    Source: hf_chts, not from a paper.

    Args:
        links: The layer; inactive weights are 0.
        normalised: Whether each weight first counts in proportion to those of its neurons,
            ``|W[o, i]| / sqrt(sum_i' |W[o, i']| * sum_o' |W[o', i]|)``, so that strong neurons do
            not take everything.

    Returns:
        Scores, at least 0.
    """
    weight = links.weight.abs().to(torch.promote_types(links.weight.dtype, torch.float32))
    if normalised:
        of_outputs, of_inputs = weight.sum(1, keepdim=True), weight.sum(0)
        weight = weight / (of_outputs * of_inputs).sqrt().masked_fill_(weight == 0, 1)
    scores: Tensor = torch.linalg.multi_dot([weight, weight.T, weight])  # in the cheaper order
    return scores
