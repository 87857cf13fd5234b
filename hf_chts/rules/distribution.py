"""How one overall density is shared out among layers."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import torch
from jaxtyping import Float
from torch import Tensor

Shapes = Mapping[str, tuple[int, int]]


def densities(shapes: Shapes, density: float, how: str) -> dict[str, float]:
    """Density of every layer, such that the total number of links is that of ``density``.

    The sum over layers of density times size equals ``density`` times the sum of sizes; each
    layer then rounds to whole links, so totals agree to half a link per layer.

    Source: ``er`` Mocanu et al., SET, Nature Communications 2018; ``erk`` Evci et al., RigL, ICML
    2020, arXiv 1911.11134, section 3: density in proportion to ``(in + out) / (in * out)``. The
    two differ by kernel sizes of convolutions only, so for linear layers they are the same.

    Args:
        shapes: (out, in) of every layer by name.
        density: Overall density, in (0, 1].
        how: ``uniform`` (the same density everywhere), ``er``, ``erk``, or ``obd``: uniform as
            long as no weight is trained; see :func:`obd_counts` for what follows.

    Returns:
        Density of every layer by name, in (0, 1]. Layers whose share would exceed 1 become dense
        and the others take up what is left.

    Raises:
        ValueError: If ``density`` is out of range, ``how`` is unknown, or a layer would get no
            link.
    """
    if not 0 < density <= 1:
        raise ValueError(f"density must be in (0, 1]; got {density}")
    if how not in DISTRIBUTIONS:
        raise ValueError(f"no distribution {how!r}; known: {', '.join(sorted(DISTRIBUTIONS))}")
    result = DISTRIBUTIONS[how](shapes, density)
    for name, (out_features, in_features) in shapes.items():
        if round(result[name] * out_features * in_features) < 1:
            raise ValueError(
                f"layer {name!r} ({out_features} x {in_features}) would get no link at density "
                f"{density} with {how!r}; raise the density or leave this layer dense"
            )
    return result


def _uniform(shapes: Shapes, density: float) -> dict[str, float]:
    return dict.fromkeys(shapes, density)


def _erdos_renyi(shapes: Shapes, density: float) -> dict[str, float]:
    size = {name: out * inp for name, (out, inp) in shapes.items()}
    width = {name: sum(shape) for name, shape in shapes.items()}
    links = density * sum(size.values())
    dense: set[str] = set()
    while True:
        rest = size.keys() - dense
        left = links - sum(size[name] for name in dense)
        scale = left / max(1, sum(width[name] for name in rest))
        saturated = {name for name in rest if scale * width[name] > size[name]}
        if not saturated:
            break
        dense |= saturated
    return {name: 1.0 if name in dense else scale * width[name] / size[name] for name in shapes}


DISTRIBUTIONS: Mapping[str, Callable[[Shapes, float], dict[str, float]]] = {
    "uniform": _uniform,
    "er": _erdos_renyi,
    "erk": _erdos_renyi,
    "obd": _uniform,
}
"""Ways of sharing out by name; each takes the shapes and the overall density."""


LEAST = 0.3
"""Share of its uniform number of links that a layer keeps wherever others need more."""


def obd_counts(
    saliencies: Mapping[str, Float[Tensor, " n_links"]], uniform: Mapping[str, int]
) -> dict[str, int]:
    """How many links each layer keeps, by how much the loss would rise without them.

    The highest saliencies of all layers stay, and in each layer at least ``LEAST`` of its uniform
    number of links. Saliencies are comparable over layers, as magnitudes are not: they tell a
    large weight that hardly matters from a small one that does.

    Source: Optimal Brain Damage, LeCun et al., NIPS 1989, equation 5: the saliency of a link is
    ``weight ** 2`` times the second derivative of the loss. Deviations: root mean squared gradients
    stand for second derivatives, as where Adam divides by them; saliencies decide how many links
    each layer keeps, and the rule of the falling density which ones.

    Args:
        saliencies: Of the active links of every layer by name, at least 0.
        uniform: How many links each layer would have at one density; their sum is kept. No more
            than there are active ones.

    Returns:
        Number of links of every layer by name.
    """
    if not saliencies:
        return {}
    scores = []
    for name, saliency in saliencies.items():
        kept = saliency.argsort(descending=True, stable=True)[: math.ceil(LEAST * uniform[name])]
        scores.append(saliency.double().index_fill(0, kept, torch.inf))
    owner = torch.cat([torch.full_like(score, n) for n, score in enumerate(scores)])
    best = torch.cat(scores).argsort(descending=True, stable=True)[: sum(uniform.values())]
    counts = owner[best].long().bincount(minlength=len(scores)).tolist()
    return dict(zip(saliencies, counts, strict=True))
