"""Path-based Cannistraci-Hebb regrowth: every path of length three counts.

For a non-link (u, v), the path u - z1 - z2 - v adds ``f(z1, v) * f(z2, u)``, where ``f(z, w)``
depends on the neighbours ``di`` that z and w share and on the ``de`` others that z has. Paths are
never listed. Those that end in one link (z2, v) are one row times the mask,
``f(z2, u) * sum over z1 of A[z2, z1] f(z1, v) A[u, z1]``, and such rows add up over the links of v.
With n links that costs n ** 2 multiplications, since inactive links are skipped.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from hf_chts.rules.links import Links
from hf_chts.rules.products import times_transposed
from hf_chts.rules.regrowth import regrowth

CHT = "Zhang et al., CHT, ICLR 2024, https://openreview.net/forum?id=iayEcORsGd"

BLOCK_ELEMENTS = 2**18
"""Entries of a block, which a processor's cache should hold."""

Factor = Callable[[Tensor, Tensor], Tensor]


@regrowth.register("ch3_l3p", source=CHT)
def ch3_l3p(links: Links) -> Float[Tensor, "out in"]:
    """CH3-L3p, the sum over paths of ``1 / sqrt((1 + de_z1) * (1 + de_z2))``.

    Source: Zhang et al., CHT, ICLR 2024, equation of CH3-L3.
    """
    return _scores(links, lambda di, de: (1 + de).rsqrt_())


@regrowth.register("ch2_l3p", source=CHT)
def ch2_l3p(links: Links) -> Float[Tensor, "out in"]:
    """CH2-L3p, that sum with each neuron's term times ``sqrt(1 + di)``.

    Source: Zhang et al., CHT, ICLR 2024, appendix, and the authors' published code.
    """
    return _scores(links, lambda di, de: ((1 + di) / (1 + de)).sqrt_())


def _scores(links: Links, factor: Factor) -> Float[Tensor, "u v"]:
    """Sum over the links (z2, v), a block at a time.

    Memory: two matrices of the layer's size, three of the size u x u or v x v, and a few blocks;
    4096 x 4096 takes half a GB. Block size changes results by rounding only.
    """
    adjacency = links.mask.to(torch.promote_types(links.weight.dtype, torch.float32))
    f_u = _factors(adjacency, factor)
    f_v = _factors(adjacency.T, factor).T.contiguous()
    times_transpose = times_transposed(links.mask, adjacency.dtype)
    scores = torch.zeros_like(adjacency.T, memory_format=torch.contiguous_format)
    block = max(1, BLOCK_ELEMENTS // max(adjacency.shape))
    for ends in links.mask.T.nonzero().split(block):
        v, z2 = ends.unbind(1)
        paths = times_transpose(adjacency[z2].mul_(f_v[v])).mul_(f_u[z2])
        scores.index_add_(0, v, paths)
    return scores.T


def _factors(adjacency: Float[Tensor, "z w"], factor: Factor) -> Float[Tensor, "z z"]:
    """``f(z, w)`` of all pairs of neurons on one side."""
    shared = adjacency @ adjacency.T
    others = (adjacency.sum(1, keepdim=True) - 1 - shared).clamp_min_(0)
    return factor(shared, others)
