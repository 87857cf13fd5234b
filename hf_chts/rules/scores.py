"""Rules on any bipartite network, without a model around it."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from hf_chts.rules.initial import initial
from hf_chts.rules.links import Links, Site
from hf_chts.rules.regrowth import regrowth


def link_scores(mask: Bool[Tensor, "out in"], rule: str = "ch2_l3n") -> Float[Tensor, "out in"]:
    """Score the non-links of a bipartite network by a regrowth rule.

    Args:
        mask: True at active links.
        rule: Name of a regrowth rule that needs nothing but the mask.

    Returns:
        Scores in float32, the higher the likelier to grow; NaN at active links.

    Raises:
        TypeError: If ``mask`` is not a tensor of bool.
        ValueError: If ``mask`` has not two dimensions, or the rule is unknown or reads more
            than the mask.
    """
    if not isinstance(mask, Tensor) or mask.dtype != torch.bool:
        got = mask.dtype if isinstance(mask, Tensor) else type(mask).__name__
        raise TypeError(f"mask must be a tensor of bool, True at active links; got {got}")
    if mask.ndim != 2 or 0 in mask.shape:
        raise ValueError(
            f"mask must have shape (out, in), at least one neuron a side; got {tuple(mask.shape)}"
        )
    chosen = regrowth.make(rule)
    if chosen.reads != "weight":
        known = ", ".join(sorted(name for name, one in regrowth.items() if one.reads == "weight"))
        raise ValueError(
            f"rule {rule!r} reads {chosen.reads}, which a mask has not; take one of: {known}"
        )
    generator = torch.Generator(mask.device).manual_seed(0)
    scores = chosen.function(Links(mask.float(), mask, generator))
    return scores.float().masked_fill(mask, torch.nan)


def initial_mask(
    rule: str,
    out_features: int,
    in_features: int,
    density: float,
    seed: int = 0,
    **params: Any,
) -> Bool[Tensor, "out in"]:
    """Draw an initial topology.

    >>> initial_mask("brf", 2, 4, density=0.5, r=0.0).sum(1)
    tensor([2, 2])

    Args:
        rule: Name of an initial rule that needs no data, for example ``"er"`` or ``"brf"``.
        out_features: Number of output neurons, at least 1.
        in_features: Number of input neurons, at least 1.
        density: Active links over all, in (0, 1].
        seed: The same seed gives the same mask.
        **params: Parameters of the rule.

    Returns:
        The mask, True at exactly ``round(density * out_features * in_features)`` links.

    Raises:
        ValueError: If a size or the density is out of range, no link would be left, or the rule
            is unknown, does not take a parameter or needs data.
    """
    if min(out_features, in_features) < 1:
        raise ValueError(
            f"a layer has at least one neuron a side; got {out_features} x {in_features}"
        )
    if not 0 < density <= 1:
        raise ValueError(f"density must be in (0, 1]; got {density}")
    n_links = round(density * out_features * in_features)
    if n_links < 1:
        raise ValueError(
            f"density {density} leaves no link in {out_features} x {in_features}; "
            f"take at least {1 / (out_features * in_features):.3g}"
        )
    draw = initial.make({"rule": rule, **params}).function
    with torch.device("cpu"):  # rules draw where the generator is, whatever the default device is
        mask: Tensor = draw(
            Site(out_features, in_features, n_links, torch.Generator().manual_seed(seed))
        )
    return mask
