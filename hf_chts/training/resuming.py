"""What a run must find in a checkpoint to go on from it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import load_file
from torch import nn
from transformers.trainer import OPTIMIZER_NAME

from hf_chts.engine.layer_memory import recall
from hf_chts.layers.sparse_linear import SparseLinear
from hf_chts.safe_saving import refuse_damaged

MEMORY_FILE = "topology.safetensors"


@contextmanager
def reading(checkpoint: str | Path) -> Iterator[None]:
    """Turn whatever readers of a checkpoint's files raise into a ValueError that names it.

    Its files come from outside: their readers raise errors of a dozen classes.
    """
    try:
        yield
    except Exception as error:
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise ValueError(f"{checkpoint} cannot be read: {reason}") from error


def refuse_unfit(checkpoint: Path, layers: Mapping[str, nn.Module]) -> None:
    """Refuse a checkpoint that is damaged, without optimizer, or not of just these layers' links.

    Raises:
        ValueError: Saying what is wrong.
    """
    refuse_damaged(checkpoint)
    if not (checkpoint / OPTIMIZER_NAME).is_file():
        raise ValueError(
            f"{checkpoint} has no {OPTIMIZER_NAME}, as with save_only_model: training cannot go on "
            "from it; load its weights with from_pretrained and begin a new one"
        )
    saved: set[str] = set()
    with reading(checkpoint):
        for path in checkpoint.glob("*.safetensors"):
            if path.name != MEMORY_FILE:
                with safe_open(path, framework="pt") as tensors:
                    saved.update(tensors.keys())
    with_links = {key.rpartition(".")[0] for key in saved if key.endswith(".col_indices")}
    if extra := sorted(with_links - set(layers)):
        raise ValueError(
            f"{checkpoint} holds links of {len(extra)} layers that are not sparse here (first: "
            f"{extra[0]}): sparsify the model as it was when the checkpoint was written"
        )
    missing = [name for name in layers if name not in with_links]
    if missing:
        raise ValueError(
            f"{checkpoint} has no topology for {len(missing)} sparse layers (first: {missing[0]}): "
            "it was written by a dense run or by another model, and cannot be resumed"
        )


def refuse_bad_state(state: Any) -> None:
    """Refuse a trainer's state whose values are not of the kinds that its reader counts on.

    Raises:
        ValueError: Naming the field.
    """
    sound = {
        "global_step": isinstance(state.global_step, int) and state.global_step >= 0,
        "train_batch_size": isinstance(state.train_batch_size, int),
        "log_history": isinstance(state.log_history, list),
        "stateful_callbacks": isinstance(state.stateful_callbacks, dict),
    }
    for name in (name for name, fits in sound.items() if not fits):
        raise ValueError(f"{name} is {getattr(state, name)!r:.80}")


def recall_from(checkpoint: Path, layers: Mapping[str, SparseLinear]) -> None:
    """Give layers back what they remembered when the checkpoint was written.

    Raises:
        ValueError: If it cannot be read or does not fit them.
    """
    path = checkpoint / MEMORY_FILE
    if path.is_file():
        with reading(checkpoint):
            recall(layers, load_file(path))


def refuse_misfit_state(optimizer: torch.optim.Optimizer) -> None:
    """Refuse optimizer state whose tensors have not their weights' shapes.

    Raises:
        ValueError: If one has not. Rows and columns of a factored optimizer are left to it.
    """
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            for key, item in optimizer.state.get(parameter, {}).items():
                whole = isinstance(item, torch.Tensor) and item.dim() > 0
                factored = str(key).endswith(("_row", "_col"))
                if whole and not factored and item.shape != parameter.shape:
                    raise ValueError(
                        f"the checkpoint's {key} has shape {tuple(item.shape)} for a weight of "
                        f"shape {tuple(parameter.shape)}: it belongs to another model"
                    )
