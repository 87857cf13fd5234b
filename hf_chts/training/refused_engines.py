"""Ways to spread a model over devices under which links cannot move, refused before training."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from hf_chts.layers.sparse_linear import SparseLinear

_INSTEAD = (
    "start one process a device with torchrun or accelerate as for plain data parallelism, where "
    "every process holds all links, or, in a plain loop, shard the dense part alone with torch's "
    "fully_shard and the link weights as its ignored_params"
)


def refuse_engine(args: Any, accelerator: Any) -> None:
    """Refuse what a trainer was told to train with, if links cannot move under it.

    Args:
        args: ``transformers.TrainingArguments``.
        accelerator: The trainer's ``accelerate.Accelerator``, which hears of ``accelerate launch``.

    Raises:
        ValueError: Naming the engine, and what to use instead.
    """
    state = accelerator.state
    used = {
        "DeepSpeed": args.deepspeed or getattr(state, "deepspeed_plugin", None),
        "FSDP": args.fsdp or getattr(state, "fsdp_plugin", None),
        "DataParallel (one process for several devices)": args.n_gpu > 1,
    }
    for engine in (engine for engine, found in used.items() if found):
        raise ValueError(f"sparse layers do not train with {engine}: {_INSTEAD}")


def refuse_sharded(layers: Mapping[str, SparseLinear], optimizer: torch.optim.Optimizer) -> None:
    """Refuse layers of whose links this process holds only a part, or the optimizer other ones.

    Raises:
        ValueError: Naming the layer, and what to do instead.
    """
    trained = {id(weight) for group in optimizer.param_groups for weight in group["params"]}
    for name, layer in layers.items():
        whole = type(layer.values) is nn.Parameter and layer.values.shape == layer.col_indices.shape
        if not whole:
            raise ValueError(
                f"the links of {name} are cut up over processes (FSDP or DeepSpeed), where they "
                f"cannot move: {_INSTEAD}"
            )
        if layer.values.requires_grad and id(layer.values) not in trained:
            raise ValueError(
                f"the optimizer does not train the links of {name}: make it from the model's "
                "parameters after sparsify(), and with one of torch's or the like, not of an "
                f"engine that cuts weights up (DeepSpeed): {_INSTEAD}"
            )
