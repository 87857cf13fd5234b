from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.functional import cross_entropy
from transformers import (
    MarianConfig,
    MarianMTModel,
    Seq2SeqTrainer,
    Seq2SeqTrainingArguments,
    TrainerCallback,
)

import hf_chts.training.loss as loss_module
from hf_chts.training.loss import LabelSmoothedLoss
from hf_chts.translation.batches import Collator

TOLERANCE = {torch.float64: 1e-12, torch.float32: 1e-5, torch.bfloat16: 1e-2}


def example(
    dtype: torch.dtype = torch.float64, vocab: int = 11
) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    logits = 3 * torch.randn(4, 6, vocab, generator=generator, dtype=torch.float64)
    labels = torch.randint(vocab, (4, 6), generator=generator)
    labels[1, 3:] = labels[3, 1:] = -100
    return logits.to(dtype).requires_grad_(), labels


@pytest.mark.parametrize("chunk", [1, 30, 1 << 22])
@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.9])
@pytest.mark.parametrize("dtype", TOLERANCE)
def test_equals_cross_entropy(monkeypatch, dtype, smoothing: float, chunk: int) -> None:
    monkeypatch.setattr(loss_module, "_CHUNK", chunk)
    logits, labels = example(dtype)
    loss = LabelSmoothedLoss(smoothing)({"logits": logits}, labels)
    (3 * loss).backward()
    wide = logits.detach().to(loss.dtype).requires_grad_()
    expected = cross_entropy(
        wide.flatten(0, 1), labels.flatten(), ignore_index=-100, label_smoothing=smoothing
    )
    (3 * expected).backward()
    assert loss.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    torch.testing.assert_close(loss, expected, rtol=1e-5, atol=1e-6)
    assert logits.grad.dtype == dtype
    tolerance = TOLERANCE[dtype]
    torch.testing.assert_close(logits.grad.to(wide.dtype), wide.grad, rtol=tolerance, atol=1e-8)
    assert (logits.grad[labels == -100] == 0).all()


def test_gradient_by_finite_differences() -> None:
    logits, labels = example()
    loss = LabelSmoothedLoss(0.2)
    assert torch.autograd.gradcheck(lambda x: loss({"logits": x}, labels, 7), logits)


def test_worked_by_hand() -> None:
    # uniform over four words: log 4 whatever the smoothing
    logits = torch.zeros(1, 2, 4)
    labels = torch.tensor([[2, -100]])
    assert LabelSmoothedLoss(0.3)({"logits": logits}, labels).item() == pytest.approx(1.3862944)


@settings(max_examples=25)
@given(cut=st.integers(1, 3), smoothing=st.sampled_from([0.0, 0.1]))
def test_parts_add_up_to_the_whole(cut: int, smoothing: float) -> None:
    logits, labels = example()
    loss, n = LabelSmoothedLoss(smoothing), (labels != -100).sum()
    whole = loss({"logits": logits}, labels, n)
    parts = [loss({"logits": logits[p]}, labels[p], n) for p in (slice(cut), slice(cut, None))]
    torch.testing.assert_close(sum(parts), whole)


def test_all_padding_is_zero_and_not_nan() -> None:
    logits, labels = example()
    loss = LabelSmoothedLoss(0.1)({"logits": logits}, torch.full_like(labels, -100))
    loss.backward()
    assert loss.item() == 0
    assert (logits.grad == 0).all()


@pytest.mark.parametrize("smoothing", [-0.1, 1.0, float("nan")])
def test_smoothing_out_of_range(smoothing: float) -> None:
    with pytest.raises(ValueError, match=r"smoothing must lie in \[0, 1\)"):
        LabelSmoothedLoss(smoothing)


def test_bad_inputs() -> None:
    logits, labels = example()
    loss = LabelSmoothedLoss(0.1)
    with pytest.raises(ValueError, match="takes labels"):
        loss({"logits": logits}, None)
    with pytest.raises(ValueError, match=r"\(4, 6, 11\) do not fit labels of shape \(4, 5\)"):
        loss({"logits": logits}, labels[:, 1:])
    with pytest.raises(ValueError, match="one process per GPU"):
        loss({"logits": logits}, labels, torch.tensor([[3], [3]]))


def test_keeps_no_copy_of_the_logits() -> None:
    logits, labels = example()
    sizes = []
    with torch.autograd.graph.saved_tensors_hooks(
        lambda t: sizes.append((t.data_ptr(), t.numel())) or t, lambda t: t
    ):
        LabelSmoothedLoss(0.1)({"logits": logits}, labels)
    copies = [n for pointer, n in sizes if n >= logits.numel() and pointer != logits.data_ptr()]
    assert copies == []


class GradientNorm(TrainerCallback):
    """Takes down gradient norm and loss of each step."""

    def __init__(self) -> None:
        self.seen: list[tuple[float, float]] = []

    def on_log(self, args, state, control, logs=None, **kwargs) -> None:
        if "grad_norm" in logs:
            self.seen.append((float(logs["grad_norm"]), logs["loss"]))


def run(tmp_path, batch: int, accumulation: int, smoothing: float) -> SimpleNamespace:
    """Two optimizer steps of a tiny Marian model on eight pairs of very different lengths."""
    torch.manual_seed(0)
    config = MarianConfig(
        vocab_size=20,
        d_model=16,
        encoder_layers=1,
        decoder_layers=1,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        encoder_ffn_dim=16,
        decoder_ffn_dim=16,
        max_position_embeddings=32,
        pad_token_id=0,
        eos_token_id=1,
        decoder_start_token_id=0,
        dropout=0.0,
    )
    model = MarianMTModel(config)
    draw = torch.Generator().manual_seed(1)
    pairs = []
    for n in (2, 3, 20, 5, 9, 14, 4, 7):
        ids = torch.randint(2, 20, (2 * n,), generator=draw).tolist()
        pairs.append({"input_ids": ids[:n], "labels": [*ids[n:], 1]})
    norms = GradientNorm()
    trainer = Seq2SeqTrainer(
        model=model,
        args=Seq2SeqTrainingArguments(
            output_dir=str(tmp_path),
            per_device_train_batch_size=batch,
            gradient_accumulation_steps=accumulation,
            num_train_epochs=2,
            logging_steps=1,
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
            use_cpu=True,
            train_sampling_strategy="sequential",
            learning_rate=1e-3,
        ),
        train_dataset=pairs,
        data_collator=Collator(0, 0, 0),
        compute_loss_func=LabelSmoothedLoss(smoothing),
        callbacks=[norms],
    )
    trainer.train()
    weights = torch.cat([p.detach().flatten() for p in model.parameters()])
    return SimpleNamespace(seen=norms.seen, weights=weights)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_accumulation_changes_nothing(tmp_path, smoothing: float) -> None:
    whole = run(tmp_path, 8, 1, smoothing)
    assert len(whole.seen) == 2
    for batch, accumulation in ((4, 2), (2, 4)):
        parts = run(tmp_path, batch, accumulation, smoothing)
        for (norm, loss), (norm_whole, loss_whole) in zip(parts.seen, whole.seen, strict=True):
            assert norm == pytest.approx(norm_whole, rel=1e-4)
            assert loss == pytest.approx(loss_whole, rel=1e-4)
        torch.testing.assert_close(parts.weights, whole.weights, rtol=1e-3, atol=1e-5)
