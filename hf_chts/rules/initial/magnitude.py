"""The strongest links of the dense layer that stood here."""

from __future__ import annotations

import torch
from jaxtyping import Bool
from torch import Tensor

from hf_chts.rules.initial import initial
from hf_chts.rules.links import Site
from hf_chts.rules.select import choose


@initial.register("magnitude", source="Zhu and Gupta 2017, https://arxiv.org/abs/1710.01878")
def magnitude(site: Site) -> Bool[Tensor, "out in"]:
    """Keep the ``n_links`` links of largest ``|weight|``.

    Source: Zhu and Gupta 2017, arXiv 1710.01878 (pruning by magnitude, here at once).

    Raises:
        ValueError: If there is no dense weight.
    """
    if site.weight is None:
        raise ValueError("magnitude needs the weight of a dense layer; take er or brf without one")
    everywhere = torch.ones_like(site.weight, dtype=torch.bool)
    return choose(site.weight.abs(), everywhere, site.n_links, site.generator)
