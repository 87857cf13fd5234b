"""Logits that are not worked out before the loss asks for them, a few tokens at a time.

The logits of a batch are by far the largest tensor of a training step of a translation model. Where
the loss knows how to take :class:`DeferredLogits`, they never exist as a whole.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import linear
from torch.nn.parallel import DistributedDataParallel
from torch.utils._pytree import tree_map

from hf_chts.training.compiling import is_compiled
from hf_chts.training.precision import multiplies_bfloat16


@contextmanager
def deferred_head(model: nn.Module) -> Iterator[None]:
    """Have a model that trains return :class:`DeferredLogits`, for ``LabelSmoothedLoss`` to take.

    Nothing changes where the model has no output head, the head is not a plain ``nn.Linear`` or
    has hooks, the model is not in training mode, is compiled, or is cut up over processes.

    Args:
        model: A model of Transformers, called without labels, or ``DistributedDataParallel`` of it.
    """
    head = _plain_head(model)
    if head is None:
        yield
        return
    vars(head)["forward"] = partial(_defer, head)
    try:
        yield
    finally:
        del vars(head)["forward"]


@dataclass(frozen=True, eq=False)
class DeferredLogits:
    """What an output head would make of hidden states, not yet worked out.

    A bias may be added and the type widened; whatever else is done to it, the logits are worked
    out, and it is these from then on. A dataclass of tensors: so ``DistributedDataParallel`` finds
    which parameters are used.

    Attributes:
        hidden: Input of the head.
        weight: Weight of the head.
        bias: Bias of the head.
        added: A number for each word that the model adds to the logits; it takes no gradient.
        product_type: Type in which the head multiplies: as autocast wants it, or float32 in place
            of bfloat16 that the processor has no fast way to multiply.
        dtype: Type of the logits.
    """

    hidden: Float[Tensor, "*tokens neurons"]
    weight: Float[Tensor, "vocab neurons"]
    bias: Float[Tensor, " vocab"] | None
    added: Float[Tensor, " vocab"] | None
    product_type: torch.dtype
    dtype: torch.dtype

    @property
    def shape(self) -> torch.Size:
        """Shape of the logits."""
        return torch.Size((*self.hidden.shape[:-1], len(self.weight)))

    @property
    def device(self) -> torch.device:
        """Where they would be."""
        return self.hidden.device

    @property
    def is_made(self) -> bool:
        """Whether someone has asked for the logits themselves, and may have changed them."""
        return "logits" in vars(self)

    @cached_property
    def logits(self) -> Float[Tensor, "*tokens vocab"]:
        """The logits themselves."""
        with torch.enable_grad(), torch.autocast(self.device.type, enabled=False):
            made = project(self.hidden, self.weight, self.bias, self.product_type)
            if self.added is not None:
                made = made + self.added
            return made.to(self.dtype)

    def float(self) -> Any:
        """As ``Tensor.float``."""
        if self.is_made or self.dtype == torch.float64:
            return self.logits.float()
        return replace(self, dtype=torch.float32)

    def __add__(self, other: Any) -> Any:
        fits = (
            isinstance(other, Tensor)
            and not other.requires_grad
            and other.shape[-1:] == self.shape[-1:]
            and other.numel() == self.shape[-1]
            and other.dim() <= len(self.shape)
        )
        if not fits or self.is_made or self.added is not None:
            return self.logits + other
        wide = torch.promote_types(self.dtype, other.dtype)
        return replace(self, added=other.reshape(-1), dtype=wide)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.logits, name)

    @classmethod
    def __torch_function__(
        cls, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        args, kwargs = tree_map(
            lambda x: x.logits if isinstance(x, cls) else x, (args, kwargs or {})
        )
        return func(*args, **kwargs)


def _forward_operators() -> None:
    """Let the logits answer operators too, which Python looks up past ``__getattr__``."""

    def forwarded(name: str) -> Any:
        return lambda self, *args: getattr(self.logits, name)(*args)

    arithmetic = ("add", "sub", "mul", "truediv", "pow", "matmul")
    compared = ("lt", "le", "gt", "ge", "eq", "ne")
    for name in (
        *(f"__{operator}__" for operator in arithmetic[1:]),
        *(f"__r{operator}__" for operator in arithmetic),
        *(f"__{operator}__" for operator in compared),
        *("__neg__", "__abs__", "__getitem__", "__setitem__", "__len__", "__iter__"),
    ):
        setattr(DeferredLogits, name, forwarded(name))


_forward_operators()


def project(
    hidden: Float[Tensor, "*tokens neurons"],
    weight: Float[Tensor, "vocab neurons"],
    bias: Float[Tensor, " vocab"] | None,
    dtype: torch.dtype,
) -> Float[Tensor, "*tokens vocab"]:
    """A linear layer that multiplies in ``dtype``."""
    return linear(hidden.to(dtype), weight.to(dtype), None if bias is None else bias.to(dtype))


def _defer(head: nn.Linear, hidden: Tensor) -> Any:
    """Stands in for the forward of the head."""
    device, dtype = hidden.device.type, hidden.dtype
    if torch.is_autocast_enabled(device) and dtype != torch.float64:
        dtype = torch.get_autocast_dtype(device)
    elif head.weight.dtype != dtype:
        return nn.Linear.forward(head, hidden)
    if not torch.is_grad_enabled():
        return nn.Linear.forward(head, hidden)
    # views are in the graph, where DistributedDataParallel looks for parameters; leaves are not
    weight = head.weight.view_as(head.weight)
    bias = None if head.bias is None else head.bias.view_as(head.bias)
    is_slow = device == "cpu" and dtype == torch.bfloat16 and not multiplies_bfloat16()
    product_type = torch.float32 if is_slow else dtype
    return DeferredLogits(hidden, weight, bias, None, product_type, dtype)


def _plain_head(model: nn.Module) -> nn.Linear | None:
    """The output head, if its projection can be left to the loss."""
    if torch.compiler.is_compiling() or not model.training:
        return None
    if isinstance(model, DistributedDataParallel):
        if model.static_graph:  # counts how often what a forward returns is used
            return None
        model = model.module
    find = getattr(model, "get_output_embeddings", None)
    head = find() if callable(find) else None
    if type(head) is not nn.Linear or "forward" in vars(head):
        return None
    whole = (head.out_features, head.in_features)
    if type(head.weight) is not nn.Parameter or head.weight.shape != whole:
        return None
    hooked = head._forward_hooks or head._forward_pre_hooks
    hooked_back = head._backward_hooks or head._backward_pre_hooks
    return None if hooked or hooked_back or is_compiled(model) else head
