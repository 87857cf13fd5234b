"""What rules read of a backward, collected at a layer while it is asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from hf_chts.layers.coactivation import CoActivation

if TYPE_CHECKING:
    from hf_chts.layers.sparse_linear import SparseLinear

NEGLIGIBLE = 1e-5
"""The loss does not depend on a token whose gradient is below this share of the mean token's.
Padding's is exactly 0; that of a query which meets one key only, the first of a causal attention,
is rounding, up to 5e-6 in float32; those of other tokens of a translator were above 1e-4."""


class Capture(torch.autograd.Function):
    """Identity on ``y`` whose backward collects what the layer is to capture.

    Only tokens that the loss depends on count, each once: a forward without a backward, as in
    evaluation, leaves nothing, nor does a second one by gradient checkpointing, nor padding.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, y: Tensor, layer: SparseLinear) -> Tensor:
        """Hand ``y`` on, and keep what the backward will need."""
        ctx.save_for_backward(x, y if layer.capture_coactivation else None)
        ctx.layer = layer
        return y.clone()  # of a view autograd would refuse changes in place (nn.ReLU(inplace=True))

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[None, Tensor, None]:
        """Hand the gradient of ``y`` on, and collect."""
        x, y = ctx.saved_tensors
        layer: SparseLinear = ctx.layer
        rows, x = grads[0].reshape(-1, layer.out_features), x.reshape(-1, layer.in_features)
        if layer.capture_dense_grad:
            half = x.dtype == torch.float16  # sums of it may be beyond its range
            grad = rows.float().t() @ x.float() if half else (rows.t() @ x).float()
            layer.dense_grad = grad if layer.dense_grad is None else layer.dense_grad + grad
        if y is not None:
            if layer.coactivation is None:
                layer.coactivation = CoActivation(layer.out_features, layer.in_features, x.device)
            size = rows.abs().amax(1).float()
            counts = size > NEGLIGIBLE * size.mean()
            layer.coactivation.add(x[counts], y.reshape(-1, layer.out_features)[counts])
        return None, grads[0], None
