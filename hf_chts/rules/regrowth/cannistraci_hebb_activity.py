"""Cannistraci-Hebb regrowth that also asks whether the two neurons fire together."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

from hf_chts.rules.links import Links
from hf_chts.rules.regrowth import regrowth
from hf_chts.rules.regrowth.cannistraci_hebb import ch2_l3n
from hf_chts.rules.regrowth.hebbian import hebbian


@regrowth.register(
    "ch2_l3n_hebbian",
    source="hf_chts, not from a paper; CH2-L3n of Zhang et al., CHTs, NeurIPS 2025, "
    "https://arxiv.org/abs/2501.19107",
    reads="correlation",
)
def ch2_l3n_hebbian(links: Links, share: float = 0.5) -> Float[Tensor, "out in"]:
    """Score a link by ``CH2-L3n ** share * |correlation| ** (1 - share)``.

    A geometric mean needs no common unit of the two.

    Source: hf_chts, not from a paper; :func:`ch2_l3n` and :func:`hebbian` name theirs.

    Args:
        links: The layer, with the correlation of its neurons' activations.
        share: How much the topology counts, in [0, 1]; 0 is ``hebbian``, 1 is ``ch2_l3n``.

    Returns:
        Scores, at least 0.

    Raises:
        ValueError: If ``share`` is out of range or the correlation is missing.
    """
    if not 0 <= share <= 1:
        raise ValueError(f"share must be in [0, 1]; got {share}")
    scores: Tensor = ch2_l3n(links) ** share * hebbian(links) ** (1 - share)
    return scores
