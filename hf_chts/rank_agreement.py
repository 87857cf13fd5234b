"""What keeps sparse layers of several processes the same: rank 0's links, and mean gradients."""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.distributed as dist

from hf_chts.layers.sparse_linear import SparseLinear
from hf_chts.ranks import world_size


@torch.no_grad()
def broadcast_layers(layers: Mapping[str, SparseLinear]) -> None:
    """Rank 0's links and weights on every rank."""
    for layer in layers.values():
        for tensor in (layer.values.data, layer.crow_indices, layer.col_indices):
            wide = tensor.int() if tensor.dtype == torch.int16 else tensor
            dist.broadcast(wide, 0)
            tensor.copy_(wide)
        layer.rebuild_index()


@torch.no_grad()
def average_gradients(layers: Mapping[str, SparseLinear]) -> None:
    """One all-reduce of all link gradients, about a tenth of the dense traffic."""
    values = [layer.values for layer in layers.values() if layer.values.requires_grad]
    if not values:
        return
    grads = [torch.zeros_like(v) if v.grad is None else v.grad for v in values]
    flat = torch.cat([grad.float() for grad in grads])
    dist.all_reduce(flat)
    flat /= world_size()
    for value, grad in zip(values, flat.split([v.numel() for v in values]), strict=True):
        value.grad = grad.to(value.dtype)
