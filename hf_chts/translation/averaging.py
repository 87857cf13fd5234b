"""Averaging the last checkpoints of a run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from hf_chts.engine.budget import last_update
from hf_chts.safe_saving import checkpoints, refuse_damaged
from hf_chts.translation.recipe import Recipe


def refuse_moving_links(recipe: Recipe) -> None:
    """Refuse to average checkpoints whose links differ: their average would not be as sparse.

    Raises:
        ValueError: If ``training.average_last`` reaches back before the last topology update.
    """
    training = recipe.training
    if not training.average_last:
        return
    every, last = training.evaluate_every, training.max_steps
    first = (-(-last // every) - training.average_last + 1) * every  # the last step saves, too
    moving = last_update(recipe.sparsity, training.max_steps)
    if first < moving:
        raise ValueError(
            f"training.average_last={training.average_last} reaches back to step {first}, but "
            f"links move until step {moving}: average fewer checkpoints, evaluate more often, or "
            "lower sparsity.stop_fraction"
        )


@torch.no_grad()
def average_checkpoints(model: Any, folder: Path, count: int) -> None:
    """Put the mean of the last ``count`` checkpoints into the model; they share one topology.

    Raises:
        ValueError: If there are fewer, one of them is damaged, or they have different links.
    """
    paths = list(checkpoints(folder).values())[-count:]
    if len(paths) < count:
        raise ValueError(f"the last {count} checkpoints of {folder}: there are {len(paths)}")
    for path in paths:
        refuse_damaged(path)
    states = [load_file(path / "model.safetensors") for path in paths]
    _refuse_other_links(paths, states)
    mean = {}
    for key, last in states[-1].items():
        if last.is_floating_point():
            total = torch.stack([state[key].double() for state in states]).mean(0)
            mean[key] = total.to(last.dtype)
        else:
            mean[key] = last
    model.load_state_dict(mean, strict=False)


def _refuse_other_links(paths: list[Path], states: list[dict[str, Tensor]]) -> None:
    last = states[-1]
    indices = [key for key, tensor in last.items() if not tensor.is_floating_point()]
    for path, state in zip(paths, states, strict=True):
        if not all(torch.equal(state[key], last[key]) for key in indices):
            raise ValueError(
                f"the links in {path} are not those in {paths[-1].name}: an average would pair "
                "weights of different links; average fewer checkpoints"
            )
