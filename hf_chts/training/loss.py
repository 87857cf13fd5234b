"""Label-smoothed cross entropy, normalised per token over the whole accumulated batch."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.autograd.function import once_differentiable

from hf_chts.training.head_loss import DeferredLogits, project

IGNORED = -100
_CHUNK = 1 << 20
"""Logits that are upcast at a time: bounds the transient memory at a few MiB."""

_ROWS = 128
"""Tokens whose logits are made at a time: few stay in the cache, many make quick products."""


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
                Where :func:`hf_chts.training.head_loss.deferred_head` left them to the loss, logits
                and their gradient are made a few tokens at a time, in the forward pass.
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
        return _total(logits, labels.reshape(-1), self.smoothing) / num_items_in_batch


def translates(model: Any) -> bool:
    """Whether a model has an encoder, a decoder, and a head over the vocabulary behind it."""
    encodes = getattr(getattr(model, "config", None), "is_encoder_decoder", False)
    head = getattr(model, "get_output_embeddings", lambda: None)
    return bool(encodes and head() is not None)


def shifted(model: Any, labels: Int[Tensor, "batch length"]) -> Int[Tensor, "batch length"]:
    """Labels moved right by one, behind the token that starts the decoder."""
    shift = getattr(model, "prepare_decoder_input_ids_from_labels", None)
    if shift is not None:
        made: Tensor = shift(labels=labels)
        return made
    moved = labels.roll(1, dims=-1)  # M2M100, NLLB and Blenderbot have no such method
    moved[..., 0] = model.config.decoder_start_token_id
    return moved.masked_fill(moved == IGNORED, model.config.pad_token_id)


def _total(
    logits: Tensor | DeferredLogits, labels: Int[Tensor, " tokens"], smoothing: float
) -> Float[Tensor, ""]:
    """The sum over tokens of ``logsumexp(x) - (1 - s) x[label] - s mean(x)``."""
    total: Tensor
    if isinstance(logits, DeferredLogits) and not logits.is_made:
        hidden = logits.hidden.reshape(-1, logits.hidden.shape[-1])
        head = (logits.weight, logits.bias, logits.added, logits.product_type)
        grad = torch.is_grad_enabled()
        total = _ProjectedCrossEntropy.apply(hidden, *head, labels, smoothing, grad)
    else:
        flat = logits.reshape(-1, logits.shape[-1])
        total = _SmoothedCrossEntropy.apply(flat, labels, smoothing)
    return total


def _losses(
    x: Float[Tensor, "rows vocab"], y: Int[Tensor, " rows"], smoothing: float
) -> tuple[Float[Tensor, ""], Float[Tensor, "rows vocab"]]:
    """The sum of a few tokens' losses, and their softmax."""
    softmax = torch.softmax(x, dim=-1)
    log_norm = x.amax(dim=-1) - softmax.amax(dim=-1).log()
    losses = log_norm - (1 - smoothing) * x.gather(-1, y.clamp(min=0)[:, None])[:, 0]
    if smoothing > 0:
        losses = losses - smoothing * x.mean(dim=-1)
    return losses.masked_fill(y == IGNORED, 0).sum(), softmax


def _gradient(
    softmax: Float[Tensor, "rows vocab"], y: Int[Tensor, " rows"], smoothing: float
) -> Float[Tensor, "rows vocab"]:
    """The gradient of that sum with respect to the logits, in place of the softmax."""
    if smoothing > 0:
        softmax -= smoothing / softmax.shape[-1]
    at_label = softmax.new_full((len(y), 1), smoothing - 1)
    return softmax.scatter_add_(-1, y.clamp(min=0)[:, None], at_label)


class _SmoothedCrossEntropy(torch.autograd.Function):
    """Of logits: autograd would build several buffers as large as these.

    Here the forward pass keeps nothing, and the backward pass makes the gradient alone, both over
    a few rows at a time in float32 or wider.
    """

    @staticmethod
    def forward(
        ctx: Any,
        logits: Float[Tensor, "tokens vocab"],
        labels: Int[Tensor, " tokens"],
        smoothing: float,
    ) -> Float[Tensor, ""]:
        wide = torch.promote_types(logits.dtype, torch.float32)
        total = logits.new_zeros((), dtype=wide)
        for rows in _chunks(logits):
            total += _losses(logits[rows].to(wide), labels[rows], smoothing)[0]
        ctx.save_for_backward(logits, labels)
        ctx.smoothing = smoothing
        return total

    @staticmethod
    @once_differentiable
    def backward(
        ctx: Any, grad_total: Float[Tensor, ""]
    ) -> tuple[Float[Tensor, "tokens vocab"], None, None]:
        logits, labels = ctx.saved_tensors
        grad = torch.empty_like(logits)
        for rows in _chunks(logits):
            y = labels[rows]
            g = _gradient(torch.softmax(logits[rows].to(grad_total.dtype), -1), y, ctx.smoothing)
            grad[rows] = g.mul_(grad_total).masked_fill_((y == IGNORED)[:, None], 0)
        return grad, None, None


class _ProjectedCrossEntropy(torch.autograd.Function):
    """Of hidden states: the forward pass makes logits, loss and gradients of a few tokens at once.

    Tokens without a label are left out. Sums are float32 or wider, products of the type asked for.
    """

    @staticmethod
    def forward(
        ctx: Any,
        hidden: Float[Tensor, "tokens neurons"],
        weight: Float[Tensor, "vocab neurons"],
        bias: Float[Tensor, " vocab"] | None,
        added: Float[Tensor, " vocab"] | None,
        dtype: torch.dtype,
        labels: Int[Tensor, " tokens"],
        smoothing: float,
        grad: bool,
    ) -> Float[Tensor, ""]:
        wide = torch.promote_types(dtype, torch.float32)
        kept = labels != IGNORED
        h, y, w = hidden[kept].to(dtype), labels[kept], weight.to(dtype)
        needed = [grad and needs for needs in ctx.needs_input_grad[:3]]
        likes = (h, weight, bias)
        sums = [
            torch.zeros_like(like, dtype=wide) if needs and like is not None else None
            for like, needs in zip(likes, needed, strict=True)
        ]
        total = hidden.new_zeros((), dtype=wide)
        with torch.autocast(hidden.device.type, enabled=False):
            for rows in (slice(i, i + _ROWS) for i in range(0, len(h), _ROWS)):
                x = project(h[rows], w, bias, dtype).to(wide)
                x = x if added is None else x.add_(added)
                loss, softmax = _losses(x, y[rows], smoothing)
                total += loss
                if any(needed):
                    _add_gradients(_gradient(softmax, y[rows], smoothing), rows, h, w, sums)
        ctx.save_for_backward(kept, *sums)
        ctx.types = [None if like is None else like.dtype for like in (hidden, weight, bias)]
        return total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_total: Float[Tensor, ""]) -> tuple[Any, ...]:
        kept, *sums = ctx.saved_tensors
        grads = [
            None if found is None else (found * grad_total).to(dtype)
            for found, dtype in zip(sums, ctx.types, strict=True)
        ]
        if grads[0] is not None:
            of_kept = grads[0]
            grads[0] = of_kept.new_zeros(len(kept), of_kept.shape[-1])
            grads[0][kept] = of_kept
        return (*grads, None, None, None, None, None)


def _add_gradients(
    grad: Float[Tensor, "rows vocab"],
    rows: slice,
    hidden: Float[Tensor, "tokens neurons"],
    weight: Float[Tensor, "vocab neurons"],
    sums: list[Tensor | None],
) -> None:
    """Add what the gradient of a few logits makes of hidden states, weight and bias."""
    of_hidden, of_weight, of_bias = sums
    if of_bias is not None:
        of_bias += grad.sum(dim=0)
    grad = grad.to(hidden.dtype)
    if of_hidden is not None:
        of_hidden[rows] = grad @ weight
    if of_weight is not None and of_weight.dtype == grad.dtype:
        of_weight.addmm_(grad.t(), hidden[rows])
    elif of_weight is not None:
        of_weight += grad.t() @ hidden[rows]


def _chunks(logits: Float[Tensor, "tokens vocab"]) -> list[slice]:
    """Rows of the logits in runs of about ``_CHUNK`` numbers."""
    step = max(1, _CHUNK // logits.shape[-1])
    return [slice(start, start + step) for start in range(0, len(logits), step)]
