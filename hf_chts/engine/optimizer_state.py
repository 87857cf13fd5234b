"""Weights and optimizer state that follow the links of a layer when these move."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from hf_chts.layers.sparse_linear import SparseLinear

_SQUARES = ("exp_avg_sq", "square_avg", "variance")
"""Names of a link's mean squared gradient in the state of Adam and its kin, RMSprop, Adafactor."""


def _tensors(optimizer: torch.optim.Optimizer, values: nn.Parameter) -> list[tuple[str, Tensor]]:
    """The tensors an optimizer keeps for a parameter, scalars such as steps left out."""
    state: dict[str, Any] = optimizer.state.get(values, {})
    tensors = ((key, item) for key, item in state.items() if isinstance(item, Tensor))
    return [(key, item) for key, item in tensors if item.dim() > 0]


def refuse_foreign_state(
    optimizer: torch.optim.Optimizer, layers: Mapping[str, SparseLinear], *, squares: bool
) -> None:
    """Refuse an optimizer whose state, once it has taken a step, cannot follow the links.

    Args:
        optimizer: The optimizer.
        layers: The layers by name.
        squares: Whether mean squared gradients of trained links are needed.

    Raises:
        ValueError: If a state tensor has not one number a link, or there are no mean squares.
    """
    for name, layer in layers.items():
        if squares and layer.values.requires_grad:
            _mean_squares(optimizer, layer, name)
        for key, tensor in _tensors(optimizer, layer.values):
            if tensor.shape != layer.values.shape:
                raise ValueError(
                    f"{type(optimizer).__name__} keeps {key!r} of shape {tuple(tensor.shape)} for "
                    f"the {layer.nnz} links of {name}: links can move only with an optimizer whose "
                    "state has one number a link (SGD, Adam, AdamW, Adagrad, RMSprop, Adafactor)"
                )


def saliency(
    optimizer: torch.optim.Optimizer, layer: SparseLinear, name: str
) -> Float[Tensor, " n_links"]:
    """Squared weight times root mean squared gradient of each link; 0 if no loss reached the layer.

    Raises:
        ValueError: If the optimizer keeps no squared gradients.
    """
    squares = _mean_squares(optimizer, layer, name)
    values = layer.values.detach()
    return torch.zeros_like(values) if squares is None else values.square() * squares.sqrt()


def _mean_squares(
    optimizer: torch.optim.Optimizer, layer: SparseLinear, name: str
) -> Tensor | None:
    """The mean squared gradients of a layer's links; None if no loss reached it."""
    kept: dict[str, Tensor] = dict(_tensors(optimizer, layer.values))
    squares = next((kept[key] for key in _SQUARES if key in kept), None)
    reached = layer.values.grad is not None or optimizer.state.get(layer.values)
    if squares is None and (reached or not optimizer.state):  # plain SGD keeps nothing at all
        raise ValueError(
            "layer_density 'obd' takes an optimizer that keeps mean squared gradients (Adam, "
            f"AdamW, RMSprop, Adafactor), and {type(optimizer).__name__} keeps none for {name}: "
            "take one of these, or layer_density 'uniform'"
        )
    return squares


def move_links(
    layer: SparseLinear,
    positions: Int[Tensor, " n_links"],
    starts: Float[Tensor, " n_links"],
    optimizer: torch.optim.Optimizer,
    *,
    warm: bool = False,
) -> None:
    """Replace a layer's links: those that stay keep weight and state, new ones have state 0.

    Args:
        layer: The layer.
        positions: Sorted flat positions of the links it shall have.
        starts: Weights that they have if they are new.
        optimizer: The optimizer that trains it.
        warm: Whether, but for that, a new link's mean squared gradient starts at the mean over the
            links before, where the optimizer keeps one.
    """
    size = layer.out_features * layer.in_features
    place = torch.full((size,), -1, dtype=torch.int32, device=positions.device)
    place[layer.positions] = torch.arange(layer.nnz, dtype=torch.int32, device=positions.device)
    source = place[positions]
    stays = source >= 0
    source = source[stays]

    def carried(data: Tensor, moved: Tensor) -> Tensor:
        moved[stays] = data[source]
        return moved

    def new(key: str, data: Tensor) -> Tensor:
        zeros = data.new_zeros(positions.numel())
        return zeros + data.mean() if warm and key in _SQUARES and data.numel() else zeros

    state = {key: carried(data, new(key, data)) for key, data in _tensors(optimizer, layer.values)}
    layer.set_links(positions, carried(layer.values.detach(), starts.clone()))
    layer.values.grad = None  # it was that of the links before
    for key, data in state.items():
        optimizer.state[layer.values][key] = data
