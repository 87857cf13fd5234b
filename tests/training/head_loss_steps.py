"""A training step with and without a deferred head."""

from __future__ import annotations

import contextlib

import torch
from families import batch

from hf_chts.training.head_loss import deferred_head
from hf_chts.training.loss import LabelSmoothedLoss, shifted


def step(model, inputs, labels, context, wrapped=None):
    """Gradients of one step, its loss, and what the model returned."""
    torch.manual_seed(3)  # for dropout
    model.zero_grad()
    with context(wrapped or model):
        outputs = (wrapped or model)(**inputs)
        loss = LabelSmoothedLoss(0.1)(outputs, labels)
    loss.backward()
    return {k: w.grad for k, w in model.named_parameters() if w.grad is not None}, loss, outputs


def plain(model):
    return contextlib.nullcontext()


def inputs_of(model, name):
    inputs = batch(name)
    labels = inputs.pop("labels")
    labels[0, 5:] = -100
    inputs["decoder_input_ids"] = shifted(model, labels)
    return inputs, labels


def returns_logits(model, inputs):
    with deferred_head(model):
        return isinstance(model(**inputs).logits, torch.Tensor)
