"""Tiny models, text and trainers, for tests."""

from __future__ import annotations

import torch
from transformers import (
    MarianConfig,
    MarianMTModel,
    Seq2SeqTrainingArguments,
    TrainerCallback,
    TrainingArguments,
)

from hf_chts import (
    SparseSeq2SeqTrainer,
    SparseTrainer,
    SparsityConfig,
    sparsify,
)

SEQ2SEQ = {
    "vocab_size": 40, "d_model": 16, "encoder_layers": 1, "decoder_layers": 1,
    "encoder_attention_heads": 2, "decoder_attention_heads": 2, "encoder_ffn_dim": 24,
    "decoder_ffn_dim": 24, "pad_token_id": 0, "eos_token_id": 1, "decoder_start_token_id": 0,
    "forced_eos_token_id": 1, "bos_token_id": None, "dropout": 0.0, "max_position_embeddings": 32,
}  # fmt: skip


def sparse(model, **config):
    chosen = {"method": "chts", "sparsity": 0.7, "update_interval": 2, "stop_fraction": 1.0}
    sparsify(model, SparsityConfig(**{**chosen, **config}))
    return model


def marian(**config):
    torch.manual_seed(0)
    return sparse(MarianMTModel(MarianConfig(**SEQ2SEQ)), **config)


def pairs(n=32):
    """Pairs of different lengths, so that micro-batches hold different numbers of tokens."""
    generator = torch.Generator().manual_seed(1)
    draw = lambda n, top=40: torch.randint(3, top, (n,), generator=generator).tolist()  # noqa: E731
    lengths = torch.randint(3, 12, (n,), generator=generator).tolist()
    return [{"input_ids": draw(n), "labels": draw(n, 8)} for n in lengths]


def collate(rows):
    length = max(len(row["input_ids"]) for row in rows)
    fill = lambda key, value: torch.tensor(  # noqa: E731
        [row[key] + [value] * (length - len(row[key])) for row in rows]
    )
    ids = fill("input_ids", 0)
    return {"input_ids": ids, "attention_mask": (ids != 0).long(), "labels": fill("labels", -100)}


def causal(rows):
    batch = collate(rows)
    batch["labels"] = batch["input_ids"].masked_fill(batch["input_ids"] == 0, -100)
    return batch


class Watch(TrainerCallback):
    """What a run reports."""

    def __init__(self) -> None:
        self.logs: list[dict] = []

    def on_log(self, args, state, control, logs=None, **kwargs) -> None:
        self.logs.append(dict(logs))


def trainer_of(model, folder, **options):
    encodes = model.config.is_encoder_decoder
    kinds = (SparseSeq2SeqTrainer, Seq2SeqTrainingArguments)
    kind, arguments = kinds if encodes else (SparseTrainer, TrainingArguments)
    defaults = {
        "max_steps": 6, "per_device_train_batch_size": 8, "learning_rate": 1e-2, "report_to": [],
        "save_strategy": "no", "logging_steps": 1, "disable_tqdm": True, "use_cpu": True,
        "dataloader_pin_memory": False,
    }  # fmt: skip
    extra = {k: options.pop(k) for k in ("callbacks", "optimizers") if k in options}
    args = arguments(str(folder), **{**defaults, **options})
    collator = collate if encodes else causal
    data = pairs()
    return kind(
        model=model, args=args, train_dataset=data, eval_dataset=data[:8], data_collator=collator,
        **extra,
    )  # fmt: skip


def run(model, folder, **options):
    watch = Watch()
    trainer = trainer_of(model, folder, callbacks=[watch], **options)
    trainer.train()
    steps = [log for log in watch.logs if "grad_norm" in log]
    return trainer, steps
