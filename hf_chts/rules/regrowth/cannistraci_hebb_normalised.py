"""Cannistraci-Hebb regrowth that does not pile links onto hubs."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

from hf_chts.rules.links import Links
from hf_chts.rules.regrowth import regrowth
from hf_chts.rules.regrowth.cannistraci_hebb import ch2_l3n


@regrowth.register(
    "ch2_l3n_normalised",
    source="hf_chts, not from a paper; CH2-L3n of Zhang et al., CHTs, NeurIPS 2025, "
    "https://arxiv.org/abs/2501.19107",
)
def ch2_l3n_normalised(links: Links, power: float = 0.5) -> Float[Tensor, "out in"]:
    """Score a link by ``CH2-L3n / (degree_out * degree_in) ** power``.

    CH2-L3n sums over the neighbours of both neurons, so it grows with their degrees; the power
    says how much of that is taken back.

    Source: hf_chts, not from a paper; :func:`ch2_l3n` names its own.

    Args:
        links: The layer; degrees are counted on its mask.
        power: How much degrees count, in [0, inf); 0 is ``ch2_l3n``.

    Returns:
        Scores, at least 0; 0 at neurons without links.

    Raises:
        ValueError: If ``power`` is out of range.
    """
    if not 0 <= power < float("inf"):
        raise ValueError(f"power must be in [0, inf); got {power}")
    scores = ch2_l3n(links)
    of_outputs = links.mask.sum(1, keepdim=True).clamp_min(1).to(scores.dtype)
    of_inputs = links.mask.sum(0).clamp_min(1).to(scores.dtype)
    return scores * of_outputs**-power * of_inputs**-power
