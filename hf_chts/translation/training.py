"""The trainer of translation: token batches, noam schedules, exact validation loss, BLEU."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch.utils.data import DataLoader
from transformers import TrainerCallback
from transformers.trainer_callback import ExportableState

from hf_chts.engine.budget import last_update
from hf_chts.rules.schedules import inoam, noam
from hf_chts.safe_saving import checkpoints, discard
from hf_chts.trainer import SparseSeq2SeqTrainer
from hf_chts.training.loss import LabelSmoothedLoss
from hf_chts.translation.batches import TokenBatchSampler, pack
from hf_chts.translation.bleu import score
from hf_chts.translation.data import ParallelText
from hf_chts.translation.decode import translate_by
from hf_chts.translation.encode import EncodedText
from hf_chts.translation.recipe import Recipe
from hf_chts.translation.tokenizer import TokenizerPair


class _SetEpoch(TrainerCallback):
    """Tells the sampler its epoch; on a resume with several processes nobody else does."""

    def __init__(self, trainer: TranslationTrainer) -> None:
        self.trainer = trainer

    def on_epoch_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Before the epoch's batches are drawn."""
        self.trainer.sampler.set_epoch(int(state.epoch or 0))


class TrainingClock(TrainerCallback, ExportableState):
    """Seconds of training that made the present weights, over all parts of a resumed run."""

    def __init__(self) -> None:
        self._before = 0.0
        self._start: float | None = None

    @property
    def seconds(self) -> float:
        """Wall time so far."""
        return self._before + (0.0 if self._start is None else time.perf_counter() - self._start)

    def state(self) -> dict[str, Any]:
        """What a checkpoint keeps, in the form that Transformers asks for."""
        running = self._start is not None
        return {"args": {}, "attributes": {"seconds": self.seconds if running else 0.0}}

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Go on from the checkpoint's time."""
        kept = state.stateful_callbacks.get(type(self).__name__, self.state())
        self._before, self._start = float(kept["attributes"]["seconds"]), time.perf_counter()

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Stop."""
        self._before, self._start = self.seconds, None


class TranslationTrainer(SparseSeq2SeqTrainer):
    """Trains one recipe; see :func:`hf_chts.translation.run.train`."""

    train_dataset: EncodedText
    eval_dataset: EncodedText
    lr_scheduler: Any
    control: Any

    def __init__(
        self,
        recipe: Recipe,
        tokenizers: TokenizerPair,
        validation_text: ParallelText,
        **kwargs: Any,
    ) -> None:
        self.recipe = recipe
        self.tokenizers = tokenizers
        self.validation_text = validation_text
        loss = LabelSmoothedLoss(recipe.training.label_smoothing)
        super().__init__(compute_loss_func=loss, **kwargs)
        self.clock = TrainingClock()
        self.add_callback(_SetEpoch(self))
        self.add_callback(self.clock)
        budget, seed = recipe.training.batch_tokens, recipe.training.seed
        lengths = self.train_dataset.lengths
        self.sampler = TokenBatchSampler(lengths, budget, seed, self.args.world_size)

    def _prepare_for_training(self, *args: Any, **kwargs: Any) -> Any:
        """Delete checkpoints of later steps, which a run that goes back writes again."""
        prepared = super()._prepare_for_training(*args, **kwargs)  # reads what it goes on from
        if self.args.should_save:
            for step, path in checkpoints(Path(self.args.output_dir)).items():
                if step > self.state.global_step:
                    discard(path)
        return prepared

    def get_train_dataloader(self) -> Any:
        """Batches under the token budget, a function of seed and epoch alone."""
        loader: Any = DataLoader(
            self.train_dataset, batch_sampler=self.sampler, collate_fn=self.data_collator
        )
        return self.accelerator.prepare(loader)

    def create_scheduler(self, num_training_steps: int, optimizer: Any = None) -> Any:
        """Noam and inoam; the other schedules are Transformers' own."""
        training = self.recipe.training
        if training.schedule not in ("noam", "inoam"):
            return super().create_scheduler(num_training_steps, optimizer)
        if self.lr_scheduler is None:
            self.lr_scheduler = torch.optim.lr_scheduler.LambdaLR(
                optimizer or self.optimizer, self._noam_factor
            )
            self._created_lr_scheduler = True
        return self.lr_scheduler

    def _noam_factor(self, steps_done: int) -> float:
        training, sparsity = self.recipe.training, self.recipe.sparsity
        config = self.model.config  # a model of two has its width in their own
        step, width = steps_done + 1, getattr(config, "decoder", config).hidden_size
        last = last_update(sparsity, training.max_steps)
        if training.schedule == "noam" or last == 0:
            return noam(step, training.warmup_steps, width)
        return inoam(step, training.warmup_steps, width, sparsity.update_interval, last_update=last)

    def evaluate(self, *args: Any, **kwargs: Any) -> dict[str, float]:
        """Validation loss per token, and BLEU where it chooses the best checkpoint."""
        metrics = {"eval_loss": self._validation_loss()}
        if self.recipe.training.best_by == "bleu":
            metrics["eval_bleu"] = self._validation_bleu()
        self.log(metrics)
        self.control = self.callback_handler.on_evaluate(
            self.args, self.state, self.control, metrics
        )
        return metrics

    def _batches(self, dataset: EncodedText) -> Iterator[dict[str, torch.Tensor]]:
        """This process's share of the validation batches, on its device."""
        order = sorted(range(len(dataset)), key=dataset.lengths.__getitem__)
        lengths = sorted(dataset.lengths)
        budget = max(self.recipe.evaluation.batch_tokens, lengths[-1])
        slices = pack(lengths, budget)
        for batch in slices[self.args.process_index :: self.args.world_size]:
            collated = self.data_collator([dataset[i] for i in order[batch]])
            yield {key: tensor.to(self.args.device) for key, tensor in collated.items()}

    @torch.no_grad()
    def _validation_loss(self) -> float:
        """Cross entropy per token over the whole set, without label smoothing."""
        plain, model = LabelSmoothedLoss(0.0), self.model
        training = model.training
        model.eval()
        sums = torch.zeros(2, dtype=torch.float64)
        for batch in self._batches(self.eval_dataset):
            labels = batch.pop("labels")
            with self.compute_loss_context_manager(), self.accelerator.autocast():
                outputs = model(**batch)
            sums[0] += plain(outputs, labels, 1).double().cpu()
            sums[1] += int((labels != -100).sum())
        model.train(training)
        if self.args.world_size > 1:
            on_device = sums.to(self.args.device)
            dist.all_reduce(on_device)
            sums = on_device.cpu()
        loss = float(sums[0] / sums[1])
        return loss if math.isfinite(loss) else math.inf

    def _validation_bleu(self) -> float:
        """BLEU of the validation set, its sentences shared out over processes."""
        text = self.validation_text
        hypotheses = translate_by(self.model, self.tokenizers, text.source, self.recipe.evaluation)
        return score(hypotheses, text.target, self.recipe.data.target_lang).bleu.value
