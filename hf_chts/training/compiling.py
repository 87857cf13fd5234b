"""What ``torch.compile`` has to know of layers whose links move."""

from __future__ import annotations

import contextlib
import sys
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import nn


def let_sizes_vary() -> None:
    """Have compiled models take the number of links for a variable, now that it changes.

    Sizes of parameters count as constants: the model would be compiled anew after every update,
    and after a few of them no more.
    """
    if dynamo := _dynamo():
        dynamo.config.force_parameter_static_shapes = False


def uncompiled() -> AbstractContextManager[Any]:
    """Run compiled models as they were written.

    For the few steps of which rules read something at each layer, where the graph would break.
    """
    return torch.compiler.set_stance("force_eager") if _dynamo() else contextlib.nullcontext()


def is_compiled(model: nn.Module) -> bool:
    """Whether the model or a part of it runs compiled."""
    dynamo = _dynamo()
    return dynamo is not None and any(
        isinstance(module, dynamo.OptimizedModule) or module._compiled_call_impl is not None
        for module in model.modules()
    )


def _dynamo() -> Any:
    """The compiler, if anyone has compiled anything; to import it takes seconds."""
    return sys.modules.get("torch._dynamo")
