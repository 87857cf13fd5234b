"""Uniformly random links."""

from __future__ import annotations

import torch
from jaxtyping import Bool
from torch import Tensor

from hf_chts.rules.initial import initial
from hf_chts.rules.links import Site
from hf_chts.rules.select import choose


@initial.register("er", source="Mocanu et al., SET, Nature Communications 2018")
def er(site: Site) -> Bool[Tensor, "out in"]:
    """Erdős-Rényi: every set of ``n_links`` links is equally likely.

    Source: Mocanu et al., SET, Nature Communications 2018, doi 10.1038/s41467-018-04316-3.
    Deviation: the number of links is exact, not only its mean.
    """
    everywhere = torch.ones(
        site.out_features, site.in_features, dtype=torch.bool, device=site.generator.device
    )
    return choose(everywhere.float(), everywhere, site.n_links, site.generator)
