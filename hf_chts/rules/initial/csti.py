"""Links between correlated input features."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from hf_chts.rules.initial import initial
from hf_chts.rules.links import Site
from hf_chts.rules.select import choose


@initial.register(
    "csti", source="Zhang et al., CHT, ICLR 2024, https://openreview.net/forum?id=iayEcORsGd"
)
def csti(site: Site) -> Bool[Tensor, "out in"]:
    """Correlated sparse topological initialisation, for layers that see the data.

    Output neurons stand for input features, and the ``n_links`` links of largest absolute Pearson
    correlation of both features become active. Constant features correlate with nothing. Outputs
    beyond ``in_features`` are further copies of the features; fewer outputs stand for features
    at even distances.

    Source: Zhang et al., CHT, ICLR 2024, section on CSTI. Deviation: copies after the first see
    a bootstrap sample of the calibration set, where the paper adds Gaussian noise to it.

    Raises:
        ValueError: If ``site.inputs`` is missing, has fewer than two samples or another width.
    """
    inputs = site.inputs
    if inputs is None:
        raise ValueError(
            "csti needs input features over a calibration set; got a Site without inputs"
        )
    if inputs.shape[1:] != (site.in_features,) or len(inputs) < 2:
        raise ValueError(
            f"csti needs inputs of shape (samples >= 2, {site.in_features}); "
            f"got {tuple(inputs.shape)}"
        )
    copies, n = [], len(inputs)
    samples = torch.arange(n, device=inputs.device)
    for start in range(0, site.out_features, site.in_features):
        count = min(site.in_features, site.out_features - start)
        features = torch.arange(count, device=inputs.device) * site.in_features // count
        copies.append(_correlations(inputs[samples], features))
        samples = torch.randint(n, (n,), generator=site.generator, device=inputs.device)
    scores = torch.cat(copies)
    return choose(scores, torch.ones_like(scores, dtype=torch.bool), site.n_links, site.generator)


def _correlations(
    inputs: Float[Tensor, "samples in"], features: Tensor
) -> Float[Tensor, "features in"]:
    centred = inputs.double() - inputs.double().mean(0)
    norm = centred.norm(dim=0)
    unit = torch.where(norm > 0, centred / norm, 0.0)
    return (unit[:, features].T @ unit).abs()
