"""What makes a training step faster beside sparse layers."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn

from hf_chts.layers.attention import faster_attention
from hf_chts.layers.dropout import faster_dropout
from hf_chts.training.head_loss import deferred_head
from hf_chts.training.tiny_numbers import tiny_is_zero


@contextmanager
def faster_functions() -> Iterator[None]:
    """A context of quicker dropout and attention, for any model that is not compiled."""
    with faster_dropout(), faster_attention():
        yield


@contextmanager
def faster_step(model: nn.Module) -> Iterator[None]:
    """A context for forward pass, loss and backward pass of a model that trains in a plain loop.

    Dropout on CPUs draws its numbers in the native kernel
    (:func:`hf_chts.layers.dropout.faster_dropout`), attention in bfloat16 computes in float32
    (:func:`hf_chts.layers.attention.faster_attention`), and the output head leaves its logits to
    :class:`hf_chts.training.loss.LabelSmoothedLoss`, which makes them a few tokens at a time
    (:func:`hf_chts.training.head_loss.deferred_head`), in float32 where a CPU has no fast way to
    multiply bfloat16. Numbers below 1.2e-38 count as 0
    (:func:`hf_chts.training.tiny_numbers.tiny_is_zero`). Trainers do all of it themselves. Dense
    models gain, too.

    Args:
        model: A model of Transformers, called without labels.

    Raises:
        TypeError: If that is no ``torch.nn.Module``.
    """
    if not isinstance(model, nn.Module):
        raise TypeError(f"faster_step takes the model that trains; got {type(model).__name__}")
    with faster_functions(), deferred_head(model), tiny_is_zero():
        yield
