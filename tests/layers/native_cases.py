"""Random sparse layers and their dense weights, for tests of the native kernel."""

from __future__ import annotations

import pytest
import torch

from hf_chts.layers.kernels import native

REASON = native.why_unavailable(torch.zeros(1))
needs_binary = pytest.mark.skipif(REASON is not None, reason=f"native kernel: {REASON}")
TOLERANCE = {torch.float32: 1e-5, torch.bfloat16: 1e-2, torch.float16: 2e-3}


class Layer:
    """Random links of a given density, their index, and the dense weight in float64."""

    def __init__(self, out: int, in_: int, density: float, seed: int = 0, wide: bool = False):
        generator = torch.Generator().manual_seed(seed)
        self.mask = torch.rand(out, in_, generator=generator) < density
        self.out, self.in_ = out, in_
        self.crow = torch.nn.functional.pad(self.mask.sum(1).cumsum(0), (1, 0)).int()
        self.col = self.mask.nonzero()[:, 1].to(torch.int32 if wide else torch.int16)
        self.index = native.build_index(self.crow, self.col, out, in_)
        self.values = torch.randn(self.col.numel(), generator=generator)
        self.bias = torch.randn(out, generator=generator)

    def dense(self) -> torch.Tensor:
        weight = torch.zeros(self.out, self.in_, dtype=torch.float64)
        weight[self.mask] = self.values.detach().double()
        return weight

    def __call__(self, x: torch.Tensor, bias: bool = True) -> torch.Tensor:
        chosen = self.bias if bias else None
        return native.linear(x, self.values, chosen, self.index, self.out, self.in_)

    def requires_grad(self) -> Layer:
        self.values.requires_grad_()
        self.bias.requires_grad_()
        return self


def assert_close(actual: torch.Tensor, expected: torch.Tensor, dtype: torch.dtype) -> None:
    assert actual.shape == expected.shape
    if expected.numel():
        scale = expected.abs().max().item() + 1e-3
        error = (actual.double() - expected).abs().max().item()
        assert error <= TOLERANCE[dtype] * scale
