"""Label-smoothed cross entropy, normalised per token over the whole accumulated batch."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

IGNORED = -100
_CHUNK = 1 << 20
"""Logits that are upcast at a time: bounds the transient memory at a few MiB."""


class LabelSmoothedLoss:
    """Loss of a translation model for the Trainer's ``compute_loss_func``.

    The target distribution of a token is ``(1 - smoothing)`` on its label plus ``smoothing``
    spread evenly over the vocabulary. The sum over tokens is divided by ``num_items_in_batch``,
    the number of labels of all micro-batches and processes of an optimizer step: so every token
    counts alike, however a batch is cut up. Labels of -100 are padding and count for nothing.

    Attributes:
        smoothing: Share of the target spread evenly, in [0, 1).

    Raises:
        ValueError: If ``smoothing`` lies outside [0, 1).

    Source: Szegedy et al., "Rethinking the Inception Architecture", CVPR 2016, section 7;
        Vaswani et al., "Attention Is All You Need", NeurIPS 2017, section 5.4 (0.1).
    """

    def __init__(self, smoothing: float) -> None:
        if not 0 <= smoothing < 1:
            raise ValueError(f"smoothing must lie in [0, 1); got {smoothing}")
        self.smoothing = smoothing

    def __call__(
        self,
        outputs: Any,
        labels: Int[Tensor, "batch length"] | None,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Float[Tensor, ""]:
        """The loss of one micro-batch.

        Args:
            outputs: What the model returned; ``outputs["logits"]`` stands at the labels' positions.
            labels: Target token ids, -100 at padding.
            num_items_in_batch: Labels in the whole optimizer step; None: those of this batch.

        Returns:
            A float32 scalar (float64 for float64 logits).

        Raises:
            ValueError: If there are no labels, shapes differ, or the count is not one number.
        """
        if labels is None:
            raise ValueError("the loss takes labels; the collated batch has none")
        logits = outputs["logits"]
        if logits.shape[:-1] != labels.shape:
            raise ValueError(
                f"logits of shape {tuple(logits.shape)} do not fit labels of shape "
                f"{tuple(labels.shape)}; expected (batch, length, vocabulary) and (batch, length)"
            )
        if num_items_in_batch is None:
            num_items_in_batch = labels.ne(IGNORED).sum().clamp(min=1)
        elif isinstance(num_items_in_batch, Tensor) and num_items_in_batch.numel() != 1:
            raise ValueError(
                "num_items_in_batch must be one number; a Trainer that drives several GPUs from "
                "one process gives several: start one process per GPU with torchrun"
            )
        flat = logits.reshape(-1, logits.shape[-1])
        total: Tensor = _SmoothedCrossEntropy.apply(flat, labels.reshape(-1), self.smoothing)
        return total / num_items_in_batch


class _SmoothedCrossEntropy(torch.autograd.Function):
    """Sum over tokens of ``logsumexp(x) - (1 - s) x[label] - s mean(x)``.

    Autograd would keep the log-probabilities and build several buffers as large as the logits.
    Here the forward pass keeps one number per token, and the backward pass makes the gradient
    alone, both over a few rows at a time in float32 or wider.
    """

    @staticmethod
    def forward(
        ctx: Any,
        logits: Float[Tensor, "tokens vocab"],
        labels: Int[Tensor, " tokens"],
        smoothing: float,
    ) -> Float[Tensor, ""]:
        wide = torch.promote_types(logits.dtype, torch.float32)
        log_norm = logits.new_zeros(len(logits), dtype=wide)
        total = logits.new_zeros((), dtype=wide)
        for rows in _chunks(logits):
            x, y = logits[rows].to(wide), labels[rows]
            log_norm[rows] = torch.logsumexp(x, dim=-1)
            at_label = x.gather(-1, y.clamp(min=0)[:, None])[:, 0]
            losses = log_norm[rows] - (1 - smoothing) * at_label
            if smoothing > 0:
                losses = losses - smoothing * x.mean(dim=-1)
            total += losses.masked_fill(y == IGNORED, 0).sum()
        ctx.save_for_backward(logits, labels, log_norm)
        ctx.smoothing = smoothing
        return total

    @staticmethod
    def backward(
        ctx: Any, grad_total: Float[Tensor, ""]
    ) -> tuple[Float[Tensor, "tokens vocab"], None, None]:
        logits, labels, log_norm = ctx.saved_tensors
        grad = torch.empty_like(logits)
        for rows in _chunks(logits):
            y = labels[rows, None]
            g = (logits[rows].to(log_norm.dtype) - log_norm[rows, None]).exp_()
            g -= ctx.smoothing / logits.shape[-1]
            g.scatter_add_(-1, y.clamp(min=0), g.new_full(y.shape, ctx.smoothing - 1))
            grad[rows] = g.mul_(grad_total).masked_fill_(y == IGNORED, 0)
        return grad, None, None


def _chunks(logits: Float[Tensor, "tokens vocab"]) -> list[slice]:
    """Rows of the logits in runs of about ``_CHUNK`` numbers."""
    step = max(1, _CHUNK // logits.shape[-1])
    return [slice(start, start + step) for start in range(0, len(logits), step)]
