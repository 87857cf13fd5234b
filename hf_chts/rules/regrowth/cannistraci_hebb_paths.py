"""Path-based Cannistraci-Hebb regrowth: every path of length three counts.

For a non-link (u, v), the path u - z1 - z2 - v adds ``f(z1, v) * f(z2, u)``, where ``f(z, w)``
depends on the neighbours ``di`` that z and w share and on the ``de`` others that z has. Paths are
never listed. For one z2, all of its paths to all u are one matrix product over its own
neighbours V2: ``scores[u, V2] += f(z2, u) * (A[u, V2] @ F[V2, V2])``. With U output neurons that
costs ``U * degree(z2) ** 2`` multiplications, a density's share of the direct product over u.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from hf_chts.rules.links import Links
from hf_chts.rules.regrowth import regrowth

CHT = "Zhang et al., CHT, ICLR 2024, https://openreview.net/forum?id=iayEcORsGd"

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


def _scores(links: Links, factor: Factor) -> Float[Tensor, "out in"]:
    dtype = torch.promote_types(links.weight.dtype, torch.float32)
    if _cost(links.mask.T) < _cost(links.mask):  # the scores do not depend on the side
        return _sum_over_paths(links.mask.T, factor, dtype).T
    return _sum_over_paths(links.mask, factor, dtype)


def _cost(mask: Bool[Tensor, "u v"]) -> float:
    u, v = mask.shape
    return u * float(mask.sum(1).double().square().sum()) + float(u) * v * v


def _sum_over_paths(
    mask: Bool[Tensor, "u v"], factor: Factor, dtype: torch.dtype
) -> Float[Tensor, "u v"]:
    """Sum over z2 on the side of u.

    Memory: two matrices of the layer's size, up to four of size v x v before the sum starts, and
    three of degree(z2) x u during it; 4096 x 4096 takes half a GB. There are no blocks to choose.
    """
    links_of_v = mask.T.to(dtype).contiguous()
    degree_v, degree_u = links_of_v.sum(1), links_of_v.sum(0)
    shared = links_of_v @ links_of_v.T
    f_v = factor(shared, (degree_v[:, None] - 1 - shared).clamp_min_(0))
    scores = torch.zeros_like(links_of_v)
    neighbours = torch.split(mask.nonzero()[:, 1], mask.sum(1).tolist())
    for z2, v2 in enumerate(neighbours):
        rows = links_of_v[v2]
        shared = rows.sum(0)
        f_u = factor(shared, (degree_u[z2] - 1 - shared).clamp_min_(0))
        scores[v2] += (f_v[v2][:, v2].T @ rows) * f_u
    return scores.T
