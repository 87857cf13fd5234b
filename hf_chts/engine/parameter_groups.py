"""Learning rates of link weights: their own parameter groups, scaled within each step.

In a dense baseline the weights of the layers that another method would make sparse take their
place, so that a comparison can tune their rate, too.

Parameterisation is part of the method. A link weight of a layer with a tenth of the links moves
its neuron's output a tenth as far per Adam step; SmuPar (Dey et al., NeurIPS 2024,
arXiv:2405.15743) multiplies the rate by base density / density, so that one learning rate fits
all densities. There densities are fixed; here the rate follows them as they fall.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Literal

import torch
from torch import nn

from hf_chts.layers.sparse_linear import SparseLinear

Scale = float | Literal["smupar"]

_HOOKS = "_hf_chts_learning_rates"
"""Where an optimizer keeps the handles of the hooks that scale its rates."""


def separate_sparse_groups(
    optimizer: torch.optim.Optimizer, layers: Mapping[str, nn.Module]
) -> None:
    """Give link weights parameter groups of their own, one for each layer shape, in place.

    Layers of one shape start with one density, whatever the layer-wise distribution. Options of a
    group (learning rate, weight decay) are inherited. One that is separate already stays as it is.

    Raises:
        ValueError: If a learning-rate scheduler watches the optimizer already.
    """
    shapes = {id(_links(layer)): _shape(layer) for layer in layers.values()}
    for group in list(optimizer.param_groups):
        by_shape: dict[tuple[int, ...] | None, list[nn.Parameter]] = {}
        for parameter in group["params"]:
            by_shape.setdefault(shapes.get(id(parameter)), []).append(parameter)
        if len(by_shape) < 2:
            continue
        if "initial_lr" in group:
            raise ValueError(
                "a learning-rate scheduler is attached already, and link weights are to get "
                "parameter groups: make hf_chts.Topology before the scheduler, or give a trainer "
                "the optimizer alone: optimizers=(optimizer, None)"
            )
        options = {key: x for key, x in group.items() if key not in ("params", "param_names")}
        names = dict(zip(map(id, group["params"]), group.get("param_names", ()), strict=False))
        first = by_shape.pop(None, None) or by_shape.pop(next(iter(by_shape)))
        group["params"] = first
        if names:  # the optimizer was made from named_parameters()
            group["param_names"] = [names[id(parameter)] for parameter in first]
        for parameters in by_shape.values():
            named = [(names[id(p)], p) for p in parameters] if names else parameters
            optimizer.add_param_group({**options, "params": named})


class LearningRates:
    """Multiplies the learning rates of link weights within each step of the optimizer.

    Outside of it rates are plain, so schedulers work unchanged, whenever they step; parameter
    groups may be loaded anew. Of several for one optimizer, the last one counts.

    Raises:
        ValueError: If a learning-rate scheduler watches the optimizer already and link weights
            share its groups, or the optimizer has no learning rate of its own.
    """

    def __init__(
        self,
        optimizer: torch.optim.Optimizer,
        layers: Mapping[str, nn.Module],
        scale: Scale,
        base_density: float = 1.0,
    ) -> None:
        self.factor = scale
        self.base_density = base_density
        self._layers = {id(_links(layer)): layer for layer in layers.values()}
        self._plain: list[tuple[dict[str, Any], Any]] = []
        if scale != 1.0:
            if any(group["lr"] is None for group in optimizer.param_groups):
                raise ValueError(
                    f"learning_rate_scale={scale!r} takes an optimizer with a learning rate; "
                    f"{type(optimizer).__name__} has none: give it lr, or set the scale to 1"
                )
            separate_sparse_groups(optimizer, layers)
        for hook in vars(optimizer).pop(_HOOKS, ()):
            hook.remove()
        if scale != 1.0:
            before = optimizer.register_step_pre_hook(self._scale)
            vars(optimizer)[_HOOKS] = before, optimizer.register_step_post_hook(self._restore)

    def _scale(self, optimizer: torch.optim.Optimizer, *_: Any) -> None:
        if self._plain:  # the last step was broken off
            self._restore()
        for group in optimizer.param_groups:
            ids = map(id, group["params"])
            if members := [self._layers[i] for i in ids if i in self._layers]:
                self._plain.append((group, group["lr"]))
                group["lr"] = group["lr"] * self._factor_of(members)

    def _restore(self, *_: Any) -> None:
        for group, rate in self._plain:
            group["lr"] = rate
        self._plain.clear()

    def _factor_of(self, layers: list[nn.Module]) -> float:
        if isinstance(self.factor, str):
            total = sum(math.prod(_shape(layer)) for layer in layers)
            return self.base_density * total / sum(_links(layer).numel() for layer in layers)
        return self.factor


def innermost(optimizer: Any) -> Any:
    """The torch optimizer inside accelerate's wrappers."""
    while hasattr(optimizer, "optimizer"):
        optimizer = optimizer.optimizer
    return optimizer


def _links(layer: nn.Module) -> nn.Parameter:
    """The weights of a sparse layer's links, or of all links of a dense one."""
    links: nn.Parameter = layer.values if isinstance(layer, SparseLinear) else layer.weight  # type: ignore[assignment]
    return links


def _shape(layer: nn.Module) -> tuple[int, ...]:
    if isinstance(layer, SparseLinear):
        return layer.out_features, layer.in_features
    return tuple(_links(layer).shape)
