"""bfloat16 on processors that have no fast way to multiply it."""

from __future__ import annotations

import warnings

import torch
from torch import nn


def multiplies_bfloat16() -> bool:
    """Whether torch has more than plain loops for dense bfloat16 on this CPU.

    Without AVX-512 or units for bfloat16 it has not: on a Zen 3 they are 25 to 50 times slower than
    products in float32 (docs/speed.md). True, too, where that cannot be asked.
    """
    if not torch.backends.mkldnn.is_available():
        return True
    return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


def tell_slow_bfloat16(model: nn.Module) -> None:
    """Warn of training dense layers in bfloat16 on a CPU that has no fast way to.

    Sparse layers work in float32 inside, and so does the output head there
    (:func:`hf_chts.training.head_loss.deferred_head`).

    Args:
        model: The model that is to be trained.
    """
    find = getattr(model, "get_output_embeddings", None)
    head = find() if callable(find) else None
    n_dense = sum(isinstance(x, nn.Linear) and x is not head for x in model.modules())
    if n_dense and not multiplies_bfloat16():
        warnings.warn(
            f"{n_dense} linear layers are dense, which this processor has no fast way to multiply "
            "in bfloat16: training takes several times as long as in float32; take "
            "training.precision=fp32, or bf16=False",
            stacklevel=3,
        )
