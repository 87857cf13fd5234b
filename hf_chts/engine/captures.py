"""What rules read of an update's backwards: asked for before, completed over ranks after."""

from __future__ import annotations

from collections.abc import Collection, Mapping

import torch

from hf_chts.engine.ranks import sum_over_ranks
from hf_chts.layers.coactivation import CoActivation
from hf_chts.layers.sparse_linear import SparseLinear

Layers = Mapping[str, SparseLinear]


def ask(layers: Layers, reads: Collection[str]) -> None:
    """Let the coming forwards and backwards collect what rules read, and nothing else."""
    for layer in layers.values():
        layer.capture_dense_grad = "dense_grad" in reads
        layer.capture_coactivation = "correlation" in reads


def forget(layers: Layers) -> None:
    """Release what was collected."""
    for layer in layers.values():
        layer.dense_grad, layer.coactivation = None, None


def complete(layers: Layers, reads: Collection[str]) -> None:
    """Put together what all ranks have collected.

    A layer that no loss has reached has gradient 0 and correlation 0.

    Raises:
        ValueError: If a rule reads what was not asked for in time, or gradients that are gone.
    """
    _refuse_missing(layers, reads)
    for layer in layers.values():
        shape, device = (layer.out_features, layer.in_features), layer.values.device
        if "dense_grad" in reads:
            if layer.dense_grad is None:
                layer.dense_grad = torch.zeros(shape, device=device)
            sum_over_ranks(layer.dense_grad)
        if "correlation" in reads:
            if layer.coactivation is None:
                layer.coactivation = CoActivation(*shape, device)
            layer.coactivation.merge(sum_over_ranks)


def _refuse_missing(layers: Layers, reads: Collection[str]) -> None:
    trained = [layer.values for layer in layers.values() if layer.values.requires_grad]
    if "grad" in reads and trained and all(values.grad is None for values in trained):
        raise ValueError(
            "no link has the gradient that a rule reads: call topology.after_step(step) before "
            "optimizer.zero_grad()"
        )
    for kind, name in (("dense_grad", "dense_grad"), ("correlation", "coactivation")):
        asked = all(getattr(layer, f"capture_{name}") for layer in layers.values())
        found = any(getattr(layer, name) is not None for layer in layers.values())
        if kind in reads and not (asked and found):
            raise ValueError(
                f"nothing was collected for a rule that reads {kind!r}: call "
                "topology.before_backward(step) before the forward and backward of every step"
            )
