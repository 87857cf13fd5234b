"""How the neurons on the two sides of a layer vary together."""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Bool, Float
from torch import Tensor

RESOLUTION = 1e-6
"""A neuron whose standard deviation is below this share of its mean is constant: what float32
still sees of it is rounding."""


class CoActivation:
    """Variances and covariances of a layer's inputs and outputs, over all tokens added so far.

    Sums are of deviations from the mean, in float32, so that a mean far from 0 costs no digits.
    ``mean`` and ``squares`` hold the input neurons first, then the output neurons.

    Attributes:
        n_tokens: Tokens (or samples) so far.
        mean: Mean activations, shape (in + out,).
        squares: Sums of squared deviations, shape (in + out,).
        products: Sums of products of deviations, shape (out, in).
    """

    def __init__(self, out_features: int, in_features: int, device: torch.device) -> None:
        self.n_tokens = 0
        self.mean = torch.zeros(in_features + out_features, device=device)
        self.squares = torch.zeros_like(self.mean)
        self.products = torch.zeros(out_features, in_features, device=device)

    @torch.no_grad()
    def add(self, x: Float[Tensor, "tokens in"], y: Float[Tensor, "tokens out"]) -> None:
        """Count some tokens' inputs ``x`` and outputs ``y``."""
        if len(x) == 0:
            return
        with torch.autocast(x.device.type, enabled=False):
            both = torch.cat([x.float(), y.float()], 1)
            total = self.n_tokens + len(both)
            self._centre(self.mean + (both.mean(0) - self.mean) * (len(both) / total))
            both -= self.mean
            self.squares += both.square().sum(0)
            n_in = self.products.shape[1]
            self.products.addmm_(both[:, n_in:].T, both[:, :n_in])
        self.n_tokens = total

    @torch.no_grad()
    def merge(self, add_up: Callable[[Tensor], None]) -> None:
        """Make one of the co-activations of several processes.

        Args:
            add_up: Sums a tensor over the processes, in place.
        """
        sums = torch.cat([self.mean * self.n_tokens, self.mean.new_tensor([self.n_tokens])])
        add_up(sums)
        self._centre(sums[:-1] / sums[-1].clamp_min(1))
        add_up(self.squares)
        add_up(self.products)
        self.n_tokens = int(sums[-1])

    def correlation(self) -> Float[Tensor, "out in"]:
        """Pearson correlation of each output neuron with each input neuron, in [-1, 1].

        It is 0 where one of the two is constant (see ``RESOLUTION``), or no token was added.
        """
        scale = torch.where(self._varies(), self.squares.rsqrt(), 0.0)
        n_in = self.products.shape[1]
        return (self.products * scale[n_in:, None] * scale[:n_in]).clamp_(-1, 1)

    def _varies(self) -> Bool[Tensor, " neurons"]:
        variance = self.squares / max(1, self.n_tokens)
        return variance > (RESOLUTION * self.mean).square()

    def _centre(self, mean: Float[Tensor, " neurons"]) -> None:
        """Turn sums of deviations from one mean into those from another."""
        n_in, shift = self.products.shape[1], mean - self.mean
        self.squares += self.n_tokens * shift.square()
        self.products.addr_(shift[n_in:], shift[:n_in], alpha=self.n_tokens)
        self.mean = mean
