"""Regrowth where the loss asks for it."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

from hf_chts.rules.links import Links
from hf_chts.rules.regrowth import regrowth


@regrowth.register(
    "gradient",
    source="Evci et al., RigL, ICML 2020, https://arxiv.org/abs/1911.11134",
    reads="dense_grad",
)
def gradient(links: Links) -> Float[Tensor, "out in"]:
    """Score a link by ``|gradient|``.

    Source: Evci et al., RigL, ICML 2020, arXiv 1911.11134, section 3.

    Raises:
        ValueError: If the dense gradient is missing.
    """
    if links.grad is None:
        raise ValueError("gradient needs the gradient at every link; got Links without grad")
    return links.grad.abs()
