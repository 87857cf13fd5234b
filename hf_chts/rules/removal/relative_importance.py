"""Removal of links that matter least to their own neurons."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

from hf_chts.rules.links import Links
from hf_chts.rules.removal import removal


@removal.register(
    "relative_importance",
    source="Zhang et al., Plug-and-Play, ICLR 2024, https://openreview.net/forum?id=Tr0lPx9woF",
)
def relative_importance(links: Links, alpha: float = 0.0) -> Float[Tensor, "out in"]:
    """Score a link by its share of the absolute weight at both of its neurons.

    ``alpha * |W[o, i]| + (1 - alpha) * RI[o, i]`` with
    ``RI[o, i] = |W[o, i]| / sum_o' |W[o', i]| + |W[o, i]| / sum_i' |W[o, i']|``; a share of nothing
    counts as 0.

    Source: Zhang et al., Plug-and-Play, ICLR 2024 (RI); Zhang et al., CHTs, NeurIPS
    2025, arXiv 2501.19107 (the mixture). Deviation: the authors' code adds 1e-5 to the
    sums, here they are exact.

    Args:
        links: The layer; inactive weights are 0.
        alpha: Share of plain magnitude, in [0, 1].

    Returns:
        Scores, at least 0.

    Raises:
        ValueError: If ``alpha`` is out of range.
    """
    if not 0 <= alpha <= 1:
        raise ValueError(f"alpha must be in [0, 1]; got {alpha}")
    weight = links.weight.abs()
    shares = _share(weight, dim=0) + _share(weight, dim=1)
    return alpha * weight + (1 - alpha) * shares


def _share(weight: Float[Tensor, "out in"], dim: int) -> Float[Tensor, "out in"]:
    total = weight.sum(dim, keepdim=True)
    return weight / total.masked_fill(total == 0, 1)
