"""Bipartite receptive fields."""

from __future__ import annotations

import math

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from hf_chts.rules.initial import initial
from hf_chts.rules.links import Site
from hf_chts.rules.select import draw_rows

_BLOCK_ELEMENTS = 2**22  # links drawn at a time: 32 MiB each intermediate
_SMALLEST_R = 1e-12  # stands for r = 0: distance outweighs any noise, and ties stay random


@initial.register(
    "brf", source="Zhang et al., CHTs, NeurIPS 2025, https://arxiv.org/abs/2501.19107"
)
def brf(site: Site, r: float = 0.25, degrees: str = "fixed") -> Bool[Tensor, "out in"]:
    """Let each output neuron draw its inputs from a receptive field around its own position.

    Inputs are drawn without replacement with odds ``(1 + d) ** (-(1 - r) / r)``, where d is the
    distance on the ring of inputs between the input and the output neuron's position, scaled to
    the input side.

    Source: Zhang et al., CHTs, NeurIPS 2025, arXiv 2501.19107, bipartite receptive field.

    Args:
        site: The layer.
        r: Randomness, in [0, 1]: 0 takes the nearest inputs, 1 any with equal odds.
        degrees: Links of an output neuron: ``fixed`` (all equal, up to the remainder) or
            ``uniform`` (spread uniformly about their mean, at least 1 wherever links suffice).

    Returns:
        A mask with exactly ``n_links`` links.

    Raises:
        ValueError: If ``r`` or ``degrees`` is out of range.
    """
    if not 0 <= r <= 1:
        raise ValueError(f"r must be in [0, 1]; got {r}")
    if degrees not in ("fixed", "uniform"):
        raise ValueError(f"degrees must be 'fixed' or 'uniform'; got {degrees!r}")
    uniform = degrees == "uniform" and site.n_links > site.out_features
    degree = _uniform_degrees(site) if uniform else _even_degrees(site)
    r = max(r, _SMALLEST_R)
    outputs = torch.arange(site.out_features, device=degree.device)
    block = math.ceil(_BLOCK_ELEMENTS / site.in_features)
    return torch.cat(
        [
            draw_rows(-(1 - r) / r * _distances(site, rows).log1p(), degree[rows], site.generator)
            for rows in torch.split(outputs, block)
        ]
    )


def _distances(site: Site, outputs: Int[Tensor, " rows"]) -> Float[Tensor, "rows in"]:
    position = outputs.double() * site.in_features / site.out_features
    apart = (torch.arange(site.in_features, device=outputs.device) - position[:, None]).abs()
    return torch.minimum(apart, site.in_features - apart)


def _even_degrees(site: Site) -> Int[Tensor, " out"]:
    least, rest = divmod(site.n_links, site.out_features)
    order = torch.randperm(
        site.out_features, generator=site.generator, device=site.generator.device
    )
    return least + (order < rest).long()


def _uniform_degrees(site: Site) -> Int[Tensor, " out"]:
    """Draw degrees about their mean, as widely as [1, in] allows, then settle the exact total."""
    device, mean = site.generator.device, site.n_links / site.out_features
    spread = min(mean - 1, site.in_features - mean)
    drawn = torch.rand(
        site.out_features, generator=site.generator, device=device, dtype=torch.float64
    )
    degree = (mean + spread * (2 * drawn - 1)).round().long()
    while missing := site.n_links - int(degree.sum()):
        step = 1 if missing > 0 else -1
        free = ((degree + step >= 1) & (degree + step <= site.in_features)).nonzero().squeeze(1)
        order = torch.randperm(len(free), generator=site.generator, device=device)
        degree[free[order[: abs(missing)]]] += step
    return degree
