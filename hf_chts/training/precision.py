"""A number type that a processor has no fast way to multiply, told before training."""

from __future__ import annotations

import warnings

import torch


def tell_slow_bfloat16() -> None:
    """Warn of training in bfloat16 on a CPU where it takes several times as long as in float32.

    Without AVX-512 or units for bfloat16 torch multiplies dense matrices of that type in plain
    loops: on a Zen 3, 25 to 50 times more slowly than in float32 (docs/speed.md).
    """
    if not _multiplies_bfloat16():
        warnings.warn(
            "this processor has no fast way to multiply dense matrices in bfloat16: training takes "
            "several times as long as in float32; take training.precision=fp32, or bf16=False",
            stacklevel=3,
        )


def _multiplies_bfloat16() -> bool:
    """Whether torch has more than plain loops for it here, as far as can be asked."""
    if not torch.backends.mkldnn.is_available():
        return True
    return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
