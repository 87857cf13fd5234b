"""Removal by weight and gradient."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

from hf_chts.rules.links import Links
from hf_chts.rules.removal import removal


@removal.register(
    "mest", source="Yuan et al., MEST, NeurIPS 2021, https://arxiv.org/abs/2110.14032", reads="grad"
)
def mest(links: Links, gradient_weight: float = 0.01) -> Float[Tensor, "out in"]:
    """Score a link by ``|weight| + gradient_weight * |gradient|``.

    Source: Yuan et al., MEST, NeurIPS 2021, arXiv 2110.14032 (lambda is
    ``gradient_weight``).

    Args:
        links: The layer, with the gradient at active links.
        gradient_weight: How much the gradient counts, in [0, inf).

    Returns:
        Scores, at least 0.

    Raises:
        ValueError: If the gradient is missing or ``gradient_weight`` is out of range.
    """
    if not 0 <= gradient_weight < float("inf"):
        raise ValueError(f"gradient_weight must be in [0, inf); got {gradient_weight}")
    if links.grad is None:
        raise ValueError("mest needs the gradient at active links; got Links without grad")
    return links.weight.abs() + gradient_weight * links.grad.abs()
