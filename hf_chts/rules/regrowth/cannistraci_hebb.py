"""Node-based Cannistraci-Hebb regrowth: every common neighbour at the path's middle counts once.

For a non-link (u, v), a path of length three runs u - z1 - z2 - v. Neuron z2, on the side of u,
shares ``di`` neighbours with u (its internal local-community links) and has ``de`` others beside
v (its external ones); it adds ``e(di, de)`` to the score. So does z1, on the side of v, which
shares neighbours with v. The rules differ in ``e``.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from hf_chts.rules.links import Links
from hf_chts.rules.products import times_transposed
from hf_chts.rules.regrowth import regrowth

CHTS = "Zhang et al., CHTs, NeurIPS 2025, https://arxiv.org/abs/2501.19107"
BLOCK_ELEMENTS = 2**22
"""Entries of the largest intermediate: rows are scored in blocks of about this size, 16 MiB each
in float32. Block size changes results by rounding only."""

Neighbour = Callable[[Tensor, Tensor], Tensor]
Product = Callable[[Tensor], Tensor]


@regrowth.register("ch2_l3n", source=CHTS)
def ch2_l3n(links: Links) -> Float[Tensor, "out in"]:
    """CH2-L3n, with ``e = (di + 1) / (de + 1)``.

    Source: Zhang et al., CHTs, NeurIPS 2025, arXiv 2501.19107, matrix form of CH2-L3n.
    """
    return _scores(links, lambda di, de: (di + 1) / (de + 1))


@regrowth.register("ch3_l3n", source=CHTS)
def ch3_l3n(links: Links) -> Float[Tensor, "out in"]:
    """CH3-L3n, with ``e = 1 / (de + 1)``.

    Source: Zhang et al., CHTs, NeurIPS 2025, arXiv 2501.19107, matrix form of CH3-L3n.
    """
    return _scores(links, lambda di, de: 1 / (de + 1))


@regrowth.register("ch3_1_l3n", source=CHTS)
def ch3_1_l3n(links: Links) -> Float[Tensor, "out in"]:
    """CH3.1-L3n, with ``e = (di + 1) / (de + 1) ** (1 + de / (1 + de))``.

    Source: Zhang et al., CHTs, NeurIPS 2025, arXiv 2501.19107, and the authors' published code.
    """
    return _scores(links, lambda di, de: (di + 1) / (de + 1) ** (1 + de / (1 + de)))


def _scores(links: Links, e: Neighbour) -> Float[Tensor, "out in"]:
    dtype = torch.promote_types(links.weight.dtype, torch.float32)
    times_adjacency = times_transposed(links.mask.T, dtype)
    times_its_transpose = times_transposed(links.mask, dtype)
    adjacency = links.mask.to(dtype)
    of_outputs = _one_side(adjacency, times_its_transpose, times_adjacency, e)
    of_inputs = _one_side(adjacency.T.contiguous(), times_adjacency, times_its_transpose, e)
    return of_outputs + of_inputs.T


def _one_side(
    adjacency: Float[Tensor, "u v"], times_its_transpose: Product, times_it: Product, e: Neighbour
) -> Float[Tensor, "u v"]:
    """Sum ``e`` over the neighbours z of v, on the side of u, that share a neighbour with u."""
    degree = adjacency.sum(1)
    block = max(1, BLOCK_ELEMENTS // len(adjacency))
    parts = []
    for rows in torch.split(adjacency, block):
        shared = times_its_transpose(rows)
        external = (degree - 1 - shared).clamp_min_(0)  # negative where v cannot be a non-link
        parts.append(times_it(e(shared, external).mul_(shared > 0)))
    return torch.cat(parts)
