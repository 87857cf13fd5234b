"""Removal of the weakest links."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

from hf_chts.rules.links import Links
from hf_chts.rules.removal import removal


@removal.register("magnitude", source="Mocanu et al., SET, Nature Communications 2018")
def magnitude(links: Links) -> Float[Tensor, "out in"]:
    """Score a link by ``|weight|``.

    Source: Mocanu et al., SET, Nature Communications 2018, doi 10.1038/s41467-018-04316-3.
    Deviation: SET removes shares of the smallest positive and of the largest negative weights;
    here both signs are ranked together, as in RigL and CHTs.
    """
    return links.weight.abs()
