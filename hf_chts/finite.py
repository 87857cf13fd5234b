"""Numbers that went wrong, stopped before they reach a topology decision or a checkpoint."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from hf_chts.layers.sparse_linear import sparse_layers


@torch.no_grad()
def refuse_bad_gradients(model: nn.Module, loss: Tensor, step: int, *, complete: bool) -> None:
    """Stop at a loss or gradient that is no finite number, before the optimizer sees it.

    Args:
        model: The model after a backward.
        loss: The loss, a scalar.
        step: The optimizer step under way, for the message.
        complete: Whether the gradient is that of the whole step, which is then looked at, too.

    Raises:
        ValueError: Naming the step and the first parameter that is concerned.
    """
    named = [(name, p.grad) for name, p in model.named_parameters() if p.grad is not None]
    doubtful = loss.detach().float()
    if complete:
        norm = torch.nn.utils.get_total_norm([grad for _, grad in named])
        doubtful = doubtful + norm.to(doubtful.device)
    if not bool(doubtful.isfinite()):
        first = _first_bad(named)
        where = f", first at {first}" if first else ""
        raise ValueError(
            f"step {step}: the loss is {float(loss):.4g} and the gradient not finite{where}; "
            "nothing of this step was kept. Lower the learning rate, clip gradients or look at "
            "the data of this step, and go on from the last checkpoint"
        )


@torch.no_grad()
def refuse_bad_weights(model: nn.Module, step: int) -> None:
    """Stop at weights, or dense gradients kept for an update, that are not finite.

    Raises:
        ValueError: Naming the step and the first of them.
    """
    named: list[tuple[str, Tensor]] = list(model.named_parameters())
    for name, layer in sparse_layers(model).items():
        if layer.dense_grad is not None:
            named.append((f"the dense gradient of {name}", layer.dense_grad))
    if first := _first_bad(named):
        raise ValueError(
            f"after step {step}, {first} is not finite: no link was changed and no checkpoint "
            "written. Lower the learning rate, and go on from the last checkpoint"
        )


def _first_bad(named: Iterable[tuple[str, Tensor]]) -> str | None:
    """The first tensor with a number that is not finite; one wait for the device for all."""
    names, sound = [], []
    for name, tensor in named:
        names.append(name)
        sound.append(tensor.detach().isfinite().all())
    if not sound or bool(torch.stack(sound).all()):
        return None
    return names[torch.stack(sound).tolist().index(False)]
