"""Bipartite scale-free network."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from hf_chts.rules.initial import initial
from hf_chts.rules.links import Site
from hf_chts.rules.select import choose, draw_rows


@initial.register(
    "bsf", source="Zhang et al., CHT, ICLR 2024, https://openreview.net/forum?id=iayEcORsGd"
)
def bsf(site: Site) -> Bool[Tensor, "out in"]:
    """Grow a Barabási-Albert graph, deal its neurons to both sides and keep their degrees.

    Links across the sides stay. Links within the output side are paired with links within the
    input side and exchange ends, which keeps every degree. Where one side has more of them, or
    two links fall together, links drawn with odds ``degree * degree`` take their place.

    Source: Zhang et al., CHT, ICLR 2024, appendix, after Barabási and Albert, Science 1999.
    Deviation: neurons touched by those last links keep their degrees in mean only.

    Returns:
        A mask with exactly ``n_links`` links; degrees of either side follow a power law.
    """
    generator, shape = site.generator, (site.out_features, site.in_features)
    first, second = _preferential_attachment(sum(shape), site.n_links, generator)
    order = torch.randperm(sum(shape), generator=generator, device=generator.device)
    first, second = order[first], order[second]  # labels below out_features are output neurons
    degree = torch.bincount(torch.cat([first, second]), minlength=sum(shape)).double()
    first, second = torch.minimum(first, second), torch.maximum(first, second)

    within_out = (second < site.out_features).nonzero().squeeze(1)
    within_in = (first >= site.out_features).nonzero().squeeze(1)
    pairs = min(len(within_out), len(within_in))
    across = (first < site.out_features) & (second >= site.out_features)
    o, i = within_out[:pairs], within_in[:pairs]
    outputs = torch.cat([first[across], first[o], second[o]])
    inputs = torch.cat([second[across], first[i], second[i]]) - site.out_features

    mask = torch.zeros(shape, dtype=torch.bool, device=generator.device)
    mask[outputs, inputs] = True
    odds = degree[: site.out_features, None] * degree[site.out_features :]
    missing = site.n_links - int(mask.sum())
    return mask | choose(odds, ~mask, missing, generator, exponent=1.0)


def _preferential_attachment(
    n: int, n_links: int, generator: torch.Generator
) -> tuple[Int[Tensor, " links"], Int[Tensor, " links"]]:
    """Grow a graph of ``n`` neurons; newcomers link to old ones with odds of their degrees."""
    targets = _links_of_newcomers(n, n_links)
    degree = torch.zeros(n, dtype=torch.float64, device=generator.device)
    grown = []
    for newcomer, m in enumerate(targets.tolist(), start=1):
        log_odds = degree[:newcomer].clamp_min(1).log()[None]
        count = torch.tensor([m], device=degree.device)
        old = draw_rows(log_odds, count, generator)[0].nonzero().squeeze(1)
        degree[old] += 1
        degree[newcomer] = m
        grown.append(old)
    newcomers = torch.arange(1, n).repeat_interleave(targets).to(degree.device)
    return newcomers, torch.cat(grown)


def _links_of_newcomers(n: int, n_links: int) -> Int[Tensor, " newcomers"]:
    """Give every newcomer the same number of links, as far as there are old neurons to link to."""
    room = torch.arange(1, n)
    m = next(m for m in range(1, n) if int(room.clamp_max(m).sum()) >= n_links)
    targets = room.clamp_max(m)
    surplus = int(targets.sum()) - n_links
    latest = (targets == m).nonzero().squeeze(1)
    targets[latest[len(latest) - surplus :]] -= 1
    return targets
