"""The activation between two feed-forward layers, where it can be told for sure."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from hf_chts.layers.sparse_linear import SparseLinear
from hf_chts.network.linears import LINEAR_CLASSES

NAMES = ("activation_fn", "act", "act_fn", "activation", "intermediate_act_fn")
"""Under which Transformers' families and torch keep their activations."""

RESIDUAL_NORMS = {
    *("self_attn_layer_norm", "encoder_attn_layer_norm", "final_layer_norm"),  # BART and its kin
    *("norm1", "norm2", "norm3"),  # torch.nn.Transformer
}
"""Norms of the residual stream that stand beside feed-forward layers."""


def find_activation(holders: Sequence[nn.Module]) -> Callable[[Tensor], Tensor] | str:
    """The activation of a feed-forward layer, or why it cannot be told.

    Args:
        holders: The modules that hold the layer: its parent, and theirs.
    """
    found = {
        id(getattr(holder, name)): getattr(holder, name)
        for holder in holders
        for name in NAMES
        if callable(getattr(holder, name, None))
    }
    if len(found) != 1:
        return "its activation was not found" if not found else "it has several activations"
    (activation,) = found.values()
    if isinstance(activation, nn.Module) and any(True for _ in activation.parameters()):
        return "its activation has weights"
    if not _is_elementwise(activation):
        return "its activation mixes neurons"
    for holder in holders:
        for name, child in holder.named_children():
            if child is not activation and not _stands_aside(name, child):
                return f"{name} may stand between its layers"
    return activation  # type: ignore[no-any-return]


def _is_elementwise(activation: Callable[[Tensor], Tensor]) -> bool:
    """Whether each output depends on the input at its place alone, as far as it can be tried."""
    x = torch.linspace(-2, 2, 8, device="cpu")
    try:
        y, rolled = activation(x), activation(x.roll(1))
        halves = torch.cat([activation(x[:4]), activation(x[4:])])
    except (RuntimeError, ValueError, IndexError, TypeError):
        # it asks for so many neurons, for dimensions, or for more than one input
        return False
    return y.shape == x.shape and torch.allclose(y.roll(1), rolled) and torch.allclose(y, halves)


def _stands_aside(name: str, child: nn.Module) -> bool:
    """Whether a module next to feed-forward layers is no step between them."""
    if isinstance(child, nn.Dropout):
        return True
    if any(isinstance(inner, (SparseLinear, *LINEAR_CLASSES)) for inner in child.modules()):
        return True
    return name in RESIDUAL_NORMS
