"""Numbers that went wrong, stopped before they reach a topology decision or a checkpoint."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, nn

from hf_chts.layers.sparse_linear import SparseLinear


class NotFiniteError(ValueError):
    """A loss, gradient, weight or statistic is infinite or not a number: training diverged."""


@torch.no_grad()
def refuse_bad_number(model: nn.Module, what: str, number: Tensor, step: int) -> None:
    """Stop at a loss, or a norm of the gradient, that is not finite, before the optimizer sees it.

    Args:
        model: The model after a backward.
        what: What the number is, for the message.
        number: The number, a scalar.
        step: The optimizer step under way, for the message.

    Raises:
        NotFiniteError: Naming the step, and the first parameter whose gradient is not finite.
    """
    if not bool(number.isfinite()):
        grads = ((name, p.grad) for name, p in model.named_parameters() if p.grad is not None)
        first = _first_bad(grads)
        where = f" and the gradient not finite, first at {first}" if first else ""
        raise NotFiniteError(
            f"step {step}: {what} is {float(number):.4g}{where}; nothing of this step was kept. "
            "Lower the learning rate, clip gradients or look at the data of this step, and go on "
            "from the last checkpoint"
        )


@torch.no_grad()
def refuse_bad_weights(model: nn.Module, step: int) -> None:
    """Stop at a weight that is not finite, before it is saved.

    Raises:
        NotFiniteError: Naming the step and the first of them.
    """
    if first := _first_bad(model.named_parameters()):
        raise NotFiniteError(
            f"after step {step}, {first} is not finite: no checkpoint was written. Lower the "
            "learning rate, and go on from the last checkpoint"
        )


@torch.no_grad()
def refuse_bad_links(
    layers: Mapping[str, SparseLinear], optimizer: torch.optim.Optimizer, step: int
) -> None:
    """Stop at a link's weight, gradient, co-activation or optimizer state that is not finite.

    Raises:
        NotFiniteError: Naming the step and the first of them.
    """
    if first := _first_bad(_of_links(layers, optimizer)):
        raise NotFiniteError(
            f"after step {step}, {first} is not finite: no link was changed. Lower the learning "
            "rate or clip gradients, and go on from the last checkpoint; where a GradScaler "
            "skipped the step, call after_step(step, skipped=True)"
        )


def _of_links(
    layers: Mapping[str, SparseLinear], optimizer: torch.optim.Optimizer
) -> Iterable[tuple[str, Tensor]]:
    """All numbers that belong to links, by name."""
    for name, layer in layers.items():
        yield f"{name}.values", layer.values
        if layer.values.grad is not None:
            yield f"the gradient of {name}.values", layer.values.grad
        if layer.dense_grad is not None:
            yield f"the dense gradient of {name}", layer.dense_grad
        if layer.coactivation is not None:
            yield f"the co-activations of {name}", layer.coactivation.products
        for key, item in optimizer.state.get(layer.values, {}).items():
            if isinstance(item, Tensor):
                yield f"the optimizer's {key} of {name}.values", item


def _first_bad(named: Iterable[tuple[str, Tensor]]) -> str | None:
    """The first tensor with a number that is not finite; one wait for the device for all."""
    names, sound = [], []
    for name, tensor in named:
        names.append(name)
        sound.append(tensor.detach().isfinite().all())
    if not sound:
        return None
    together = torch.stack([each.to(sound[0].device) for each in sound]).tolist()
    return None if all(together) else names[together.index(False)]
