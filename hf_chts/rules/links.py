"""What a rule may see: one linear layer as a bipartite network.

Everywhere in this package ``mask[o, i]`` is True when the link from input neuron ``i`` to output
neuron ``o`` is active; shapes follow ``torch.nn.Linear``.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor


@dataclass(frozen=True)
class Links:
    """The links of one layer at one topology update. Rules read it and never write to it.

    Attributes:
        weight: Link weights, 0 at inactive links.
        mask: True at active links.
        generator: Source of all randomness of this layer at this update.
        grad: Gradient of the loss by the weight. At active links only (0 elsewhere) for a rule
            that reads ``"grad"``, at every link for one that reads ``"dense_grad"``; None for a
            rule that reads neither.
        correlation: Pearson correlation, in [-1, 1], of the activations of each output neuron and
            each input neuron, over the tokens of the optimizer step that the update follows; 0
            where one of them is constant. None for a rule that does not read
            ``"correlation"``.
    """

    weight: Float[Tensor, "out in"]
    mask: Bool[Tensor, "out in"]
    generator: torch.Generator
    grad: Float[Tensor, "out in"] | None = None
    correlation: Float[Tensor, "out in"] | None = None

    def of(self, rows: slice) -> Links:
        """The sub-network of some output neurons, such as those of one attention head."""
        return dataclasses.replace(
            self,
            weight=self.weight[rows],
            mask=self.mask[rows],
            grad=None if self.grad is None else self.grad[rows],
            correlation=None if self.correlation is None else self.correlation[rows],
        )


@dataclass(frozen=True)
class Site:
    """A layer before it has links: what an initial topology may see.

    Attributes:
        out_features: Number of output neurons.
        in_features: Number of input neurons.
        n_links: How many links to place, in [1, out_features * in_features].
        generator: Source of all randomness.
        weight: Weights of the dense layer that stood here, where there was one.
        inputs: Input features of the layer over a calibration set, one row a sample, where given.

    Raises:
        ValueError: If ``n_links`` is out of range.
    """

    out_features: int
    in_features: int
    n_links: int
    generator: torch.Generator
    weight: Float[Tensor, "out in"] | None = None
    inputs: Float[Tensor, "samples in"] | None = None

    def __post_init__(self) -> None:
        size = self.out_features * self.in_features
        if not 1 <= self.n_links <= size:
            raise ValueError(
                f"a layer of {self.out_features} x {self.in_features} takes n_links in "
                f"[1, {size}]; got {self.n_links}"
            )
