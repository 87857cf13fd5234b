"""Regrowth without preference."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from hf_chts.rules.links import Links
from hf_chts.rules.regrowth import regrowth


@regrowth.register("random", source="Mocanu et al., SET, Nature Communications 2018")
def random(links: Links) -> Float[Tensor, "out in"]:
    """Score every link 1: equal odds in soft choice, and ties, broken at random, in ranked.

    Source: Mocanu et al., SET, Nature Communications 2018, doi 10.1038/s41467-018-04316-3.
    """
    return torch.ones_like(links.weight)
