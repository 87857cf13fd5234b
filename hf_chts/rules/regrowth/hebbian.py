"""Regrowth between neurons that fire together."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

from hf_chts.rules.links import Links
from hf_chts.rules.regrowth import regrowth

HEBB = "hf_chts, not from a paper; after Hebb, The Organization of Behavior, 1949"


@regrowth.register("hebbian", source=HEBB, reads="correlation")
def hebbian(links: Links) -> Float[Tensor, "out in"]:
    """Score a link by ``|Pearson correlation|`` of its two neurons' activations.

    Local, and free of gradients but for telling which tokens matter. Activations are those of the
    layer itself: its inputs, and its outputs before any activation function, which a layer does
    not know. They are taken over all tokens of the optimizer step that the update follows, all
    micro-batches and processes; tokens that the loss does not depend on, such as padding, do not
    count. A neuron that is constant, as one without links, scores 0.

    Source: hf_chts, not from a paper; the principle is that of Hebb, The Organization of
    Behavior, 1949.

    Raises:
        ValueError: If the correlation is missing.
    """
    if links.correlation is None:
        raise ValueError("hebbian needs the correlation of neurons; got Links without it")
    return links.correlation.abs()
