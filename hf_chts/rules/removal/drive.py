"""Removal by what a link carries."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from hf_chts.rules.links import Links
from hf_chts.rules.removal import removal

OWN = "hf_chts, not from a paper; after Wanda, Sun et al., ICLR 2024, https://arxiv.org/abs/2306.11695"


@removal.register("drive", source=OWN, reads="correlation")
def drive(links: Links) -> Float[Tensor, "out in"]:
    """Score a link by ``|weight| * deviation of its input / deviation of its output``.

    That is the share of the output neuron's ups and downs that the link alone would make. A large
    weight on a neuron that hardly changes carries nothing, and what a quiet neuron depends on
    counts as much as what a loud one does. Local, and free of gradients. Deviations are standard
    deviations over the tokens that ``"hebbian"`` regrowth sees; links to a constant neuron score 0.

    Source: hf_chts, not from a paper. Wanda prunes trained models by ``|weight|`` times the norm of
    the input, within each output neuron; here inputs count from their mean, since a constant input
    is as good as a bias, and dividing by the output's deviation makes links of a whole layer
    comparable.

    Raises:
        ValueError: If the deviations are missing.
    """
    if links.deviations is None:
        raise ValueError("drive needs the deviations of neurons; got Links without them")
    inputs, outputs = links.deviations
    inverse = torch.where(outputs > 0, 1 / outputs, 0)
    return links.weight.abs() * inputs * inverse[:, None]
