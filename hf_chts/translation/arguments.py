"""A recipe's training section in the words of Transformers."""

from __future__ import annotations

import os
import warnings
from typing import Any

import torch
from transformers import Seq2SeqTrainingArguments
from transformers.integrations import get_reporting_integration_callbacks

from hf_chts.translation.recipe import Recipe

# the name that does not warn: Transformers changed it and keeps the older one for a while
_CHECKPOINTING = (
    "activation_checkpointing"
    if hasattr(Seq2SeqTrainingArguments, "activation_checkpointing")
    else "gradient_checkpointing"
)


def training_arguments(recipe: Recipe) -> Any:
    """The arguments of a recipe's trainer.

    ``output_dir`` is to be set before the training: Transformers makes that folder together with
    the trainer, when a run may not have begun yet.

    Raises:
        ValueError: If ``training.report_to`` names what Transformers does not know.
        ImportError: If a package that it names is not installed.
    """
    training = recipe.training
    by_bleu = training.best_by == "bleu"
    averages = training.average_last > 0
    args = Seq2SeqTrainingArguments(
        output_dir=os.curdir,
        max_steps=training.max_steps,
        gradient_accumulation_steps=training.accumulation,
        learning_rate=training.learning_rate,
        lr_scheduler_type="constant" if "noam" in training.schedule else training.schedule,
        warmup_steps=training.warmup_steps,
        adam_beta1=training.betas[0],
        adam_beta2=training.betas[1],
        adam_epsilon=training.epsilon,
        weight_decay=training.weight_decay,
        max_grad_norm=training.clip,
        bf16=training.precision == "bf16",
        **{_CHECKPOINTING: training.gradient_checkpointing},
        eval_strategy="steps",
        eval_steps=training.evaluate_every,
        save_strategy="steps",
        save_steps=training.evaluate_every,
        save_total_limit=max(2, training.average_last),
        load_best_model_at_end=not averages,
        # without one no checkpoint is the best, which would be kept in place of one of the last
        metric_for_best_model=None if averages else "eval_bleu" if by_bleu else "eval_loss",
        greater_is_better=by_bleu,
        logging_steps=_log_every(training.evaluate_every),
        seed=training.seed,
        disable_tqdm=True,
        report_to=list(training.report_to),
        use_cpu=not torch.cuda.is_available(),
        remove_unused_columns=False,
    )
    _refuse_reports(args.report_to)
    return args


def tell_long_warmup(recipe: Recipe) -> None:
    """Warn where training ends before the learning rate has reached its peak."""
    warmup, steps = recipe.training.warmup_steps, recipe.training.max_steps
    if warmup > steps:
        warnings.warn(
            f"training.warmup_steps={warmup} goes beyond max_steps={steps}: the learning rate ends "
            f"at {steps / warmup:.0%} of its peak; lower warmup_steps, or train for longer",
            stacklevel=3,
        )


def _refuse_reports(names: list[str]) -> None:
    """Refuse receivers of logs that cannot be made."""
    try:
        for callback in get_reporting_integration_callbacks(names):
            callback()
    except ValueError as error:
        raise ValueError(f"training.report_to: {error}") from None
    except (ImportError, RuntimeError) as error:
        raise ImportError(f"training.report_to: {error}") from None


def _log_every(evaluate_every: int) -> int:
    """At most 100 steps, and no mean over steps on both sides of a checkpoint."""
    most = max(1, min(100, evaluate_every // 5))
    return max(n for n in range(1, most + 1) if evaluate_every % n == 0)
