"""Bipartite small world."""

from __future__ import annotations

import torch
from jaxtyping import Bool
from torch import Tensor

from hf_chts.rules.initial import initial
from hf_chts.rules.links import Site
from hf_chts.rules.select import choose


@initial.register(
    "bsw", source="Zhang et al., CHT, ICLR 2024, https://openreview.net/forum?id=iayEcORsGd"
)
def bsw(site: Site, beta: float = 0.25) -> Bool[Tensor, "out in"]:
    """Link neurons to their nearest on the other side, then rewire a share of links at random.

    Both sides lie evenly on one ring; the ``n_links`` shortest links are taken, so neurons of
    both sides are linked to their nearest.

    Source: Zhang et al., CHT, ICLR 2024, appendix, after Watts and Strogatz, Nature 1998.
    Deviation: a rewired link may move both of its ends, and ``beta = 1`` is exactly ``er``.

    Args:
        site: The layer.
        beta: Share of links rewired, in [0, 1].

    Returns:
        A mask with exactly ``n_links`` links.

    Raises:
        ValueError: If ``beta`` is out of range.
    """
    if not 0 <= beta <= 1:
        raise ValueError(f"beta must be in [0, 1]; got {beta}")
    device, ring = site.generator.device, site.out_features * site.in_features
    # Positions in whole units of 1 / (out * in) of the ring, so that equal distances are equal.
    outputs = torch.arange(site.out_features, device=device) * site.in_features
    inputs = torch.arange(site.in_features, device=device) * site.out_features
    apart = (outputs[:, None] - inputs).abs_()
    near = -torch.minimum(apart, ring - apart).double()
    everywhere = torch.ones_like(near, dtype=torch.bool)
    lattice = choose(near, everywhere, site.n_links, site.generator)
    n_rewired = round(beta * site.n_links)
    even = torch.ones_like(near)
    kept = lattice & ~choose(even, lattice, n_rewired, site.generator)
    return kept | choose(even, ~kept, n_rewired, site.generator)
