"""Transformers' trainers, made to evolve the links of a sparse model."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor
from torch.nn.utils import clip_grads_with_norm_, get_total_norm
from transformers import Seq2SeqTrainer, Trainer, TrainerState

from hf_chts.engine.budget import density_settles
from hf_chts.engine.layer_memory import memories
from hf_chts.engine.parameter_groups import innermost, separate_sparse_groups
from hf_chts.engine.ranks import average_gradients, broadcast_layers, keep_from_ddp, world_size
from hf_chts.engine.telemetry import LayerUpdate, summary
from hf_chts.layers.sparse_linear import sparse_layers
from hf_chts.network.linears import scaled_layers
from hf_chts.patching import rewrite_settings
from hf_chts.safe_saving import (
    UNFINISHED,
    checkpoints,
    put_in_place,
    refuse_damaged,
    rotate,
    seal,
    staging,
    sweep,
    writing,
)
from hf_chts.topology import Topology
from hf_chts.training.compiling import is_compiled, uncompiled
from hf_chts.training.evolving import EvolveTopology
from hf_chts.training.faster_step import faster_functions
from hf_chts.training.finite import refuse_bad_number, refuse_bad_weights
from hf_chts.training.head_loss import deferred_head
from hf_chts.training.loss import LabelSmoothedLoss, shifted, translates
from hf_chts.training.precision import tell_slow_bfloat16
from hf_chts.training.refused_engines import refuse_engine
from hf_chts.training.resuming import (
    MEMORY_FILE,
    reading,
    recall_from,
    refuse_bad_state,
    refuse_misfit_state,
    refuse_unfit,
)
from hf_chts.training.tiny_numbers import tiny_is_zero
from hf_chts.training.topology_log import LOG_FILE, append, forget_after

STATE_FILE = "trainer_state.json"


class _SparseTraining:
    """What both trainers add; mixed in before the Transformers class.

    Link weights get parameter groups and gradient reduction of their own, links change after
    optimizer steps, checkpoints carry what layers remember, and resuming without links is refused.
    """

    model: Any
    args: Any
    state: Any
    control: Any
    optimizer: Any
    accelerator: Any
    topology: Topology
    compute_loss_func: Any
    label_smoother: Any
    callback_handler: Any

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if getattr(self.model, "sparsity_config", None) is None:
            raise ValueError("the model is not sparse: call hf_chts.sparsify(model, config) first")
        rewrite_settings(self.model)
        refuse_engine(self.args, self.accelerator)
        if self.args.bf16 and self.args.device.type == "cpu":
            tell_slow_bfloat16(self.model)
        keep_from_ddp(self.model)
        self._updates: list[list[LayerUpdate]] = []
        self._saves_to: Path | None = None  # the folder of an unfinished checkpoint
        smooths = self.args.label_smoothing_factor > 0
        if translates(self.model) and not smooths and self.compute_loss_func is None:
            # these models average over each micro-batch: gradients would grow with accumulation
            self.compute_loss_func = LabelSmoothedLoss(0.0)
        self.add_callback(EvolveTopology(self))

    def compute_loss(
        self, model: Any, inputs: Any, return_outputs: bool = False, *args: Any, **kwargs: Any
    ) -> Any:
        """Add the decoder's inputs where the labels are kept from the model."""
        kept = self.compute_loss_func is not None or self.label_smoother is not None
        given = "labels" not in inputs or "decoder_input_ids" in inputs
        if kept and not given and translates(self.model):
            inputs["decoder_input_ids"] = shifted(self.model, inputs["labels"])
        ours = isinstance(self.compute_loss_func, LabelSmoothedLoss) and not return_outputs
        with deferred_head(model) if ours else contextlib.nullcontext():
            return super().compute_loss(model, inputs, return_outputs, *args, **kwargs)

    def create_optimizer(self, *args: Any, **kwargs: Any) -> Any:
        """The usual optimizer, with link weights in groups of their own."""
        fresh, config = self.optimizer is None, self.model.sparsity_config
        optimizer = super().create_optimizer(*args, **kwargs)
        if fresh or (self.lr_scheduler is None and config.learning_rate_scale != 1):
            separate_sparse_groups(innermost(optimizer), scaled_layers(self.model, config))
        return optimizer

    def _prepare_for_training(self, max_steps: int, *args: Any, **kwargs: Any) -> Any:
        prepared = super()._prepare_for_training(max_steps, *args, **kwargs)
        if world_size() > 1:
            broadcast_layers(sparse_layers(self.model))
        self.topology = Topology(self.model, self.optimizer, total_steps=max_steps)
        self._updates.clear()
        if self.args.should_save:
            sweep(Path(self.args.output_dir))
            forget_after(Path(self.args.output_dir) / LOG_FILE, self.state.global_step)
        return prepared

    def _run_epoch(self, *args: Any, **kwargs: Any) -> None:
        """Stop at the last step; Transformers takes one more when a finished run is resumed."""
        if self.state.global_step >= self.state.max_steps:
            self.control.should_training_stop = True
        else:
            with tiny_is_zero():
                super()._run_epoch(*args, **kwargs)

    def training_step(self, model: Any, *args: Any, **kwargs: Any) -> Tensor:
        """One micro-batch; after the last one, link gradients are averaged over ranks."""
        step = self.state.global_step + 1
        with self._way_to_run(model, step):
            loss: Tensor = super().training_step(model, *args, **kwargs)
        if world_size() > 1 and self.accelerator.sync_gradients:
            average_gradients(sparse_layers(self.model))
        if self.accelerator.scaler is None:  # where there is one, it skips such steps
            refuse_bad_number(self.model, "the loss", loss.detach(), step)
        return loss

    def _way_to_run(self, model: Any, step: int) -> contextlib.AbstractContextManager[Any]:
        """Quicker functions for models as written; compiled ones, uncompiled at updates."""
        if is_compiled(model):
            return uncompiled() if self.topology.is_due(step) else contextlib.nullcontext()
        return faster_functions()

    def _clip_grad_norm(self, model: Any) -> Tensor:
        norm = self._get_grad_norm(model)
        clip_grads_with_norm_(model.parameters(), self.args.max_grad_norm, norm)
        return norm

    def _get_grad_norm(self, model: Any, grad_norm: Tensor | None = None) -> Tensor:
        """The norm of a step's whole gradient: for clipping, for the log, and to be refused."""
        if grad_norm is None:
            self.accelerator.unscale_gradients()
            grads = [weight.grad for weight in model.parameters() if weight.grad is not None]
            grad_norm = get_total_norm(grads)
            if self.accelerator.scaler is None:
                what = "the norm of the gradient"
                refuse_bad_number(self.model, what, grad_norm, self.state.global_step + 1)
        return grad_norm

    def record(self, step: int, updates: list[LayerUpdate]) -> None:
        """Keep what an update did for the next log, and append it to the topology log."""
        if not updates:
            return
        if self.args.logging_strategy != "no":
            self._updates.append(updates)
        if self.args.should_save:
            append(Path(self.args.output_dir) / LOG_FILE, step, updates)

    def log(self, logs: dict[str, float], *args: Any, **kwargs: Any) -> None:
        """Add the topology's figures to the training logs, for ``report_to``."""
        if "loss" in logs and self._updates:
            rate = self.topology.active_neuron_rate()
            active = {} if rate is None else {"topology_active_neurons": rate}
            logs = {**logs, **summary(self._updates), **active}
            self._updates.clear()
        if "loss" in logs:
            for callback in self.callback_handler.callbacks:
                if hasattr(callback, "take_figures"):  # such as hf_chts.monitor.TopologyMonitor
                    logs = {**logs, **callback.take_figures()}
        super().log(logs, *args, **kwargs)

    def _determine_best_metric(self, **kwargs: Any) -> bool:
        """No checkpoint is the best while the density falls: it has more links than asked for."""
        settled = density_settles(self.model.sparsity_config, self.state.max_steps)
        return self.state.global_step >= settled and bool(super()._determine_best_metric(**kwargs))

    def _get_output_dir(self, trial: Any) -> str:
        return str(self._saves_to or super()._get_output_dir(trial))

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        """Write a checkpoint beside its place; it moves there when all ranks have written it."""
        step = self.state.global_step
        refuse_bad_weights(self.model, step)
        folder = Path(self._get_output_dir(trial))
        staged = folder / UNFINISHED / f"checkpoint-{step}"
        if self.args.should_save:
            staging(folder / staged.name)
        self.accelerator.wait_for_everyone()
        self._saves_to = staged.parent
        mine = staged if self.args.should_save else None
        try:
            with writing(folder / staged.name, mine, _last_whole(folder)):
                super()._save_checkpoint(model, trial)
                self.accelerator.wait_for_everyone()
                best = self.state.best_global_step
                if best == step or best in checkpoints(folder):
                    self.state.best_model_checkpoint = str(folder / f"checkpoint-{best}")
                if mine is not None:
                    self._finish_checkpoint(folder, staged)
        finally:
            self._saves_to = None
        self.accelerator.wait_for_everyone()
        if self.args.push_to_hub:
            self._push_from_checkpoint(str(folder / staged.name))

    def _finish_checkpoint(self, folder: Path, staged: Path) -> None:
        """Put a written checkpoint in its place, and delete those beyond the limit."""
        self.state.save_to_json(str(staged / STATE_FILE))  # it named the best one as staged
        seal(staged)
        put_in_place(staged, folder / staged.name)
        latest, best = self.state.global_step, self.state.best_global_step
        rotate(folder, self.args.save_total_limit, latest, best)

    def _push_from_checkpoint(self, checkpoint_folder: str) -> None:
        if self._saves_to is None:  # else the folder is about to move
            super()._push_from_checkpoint(checkpoint_folder)

    def _save_optimizer_and_scheduler(self, output_dir: str) -> None:
        super()._save_optimizer_and_scheduler(output_dir)
        memory = memories(sparse_layers(self.model))
        if self.args.should_save and memory:
            save_file(memory, os.path.join(output_dir, MEMORY_FILE))

    def _init_training_state(
        self, max_steps: int, in_epoch: int, epochs: int, checkpoint: Any, trial: Any
    ) -> Any:
        """Find the best checkpoint so far beside the one to go on from, wherever both lie now."""
        begun = super()._init_training_state(max_steps, in_epoch, epochs, checkpoint, trial)
        if checkpoint is not None and self.state.best_global_step:
            best = Path(checkpoint).parent / f"checkpoint-{self.state.best_global_step}"
            if self.args.load_best_model_at_end:
                refuse_damaged(best)
            self.state.best_model_checkpoint = str(best)
        return begun

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        checkpoint, layers = Path(resume_from_checkpoint), sparse_layers(self.model)
        refuse_unfit(checkpoint, layers)
        with reading(checkpoint):
            refuse_bad_state(TrainerState.load_from_json(str(checkpoint / STATE_FILE)))
            super()._load_from_checkpoint(resume_from_checkpoint, model)
        recall_from(checkpoint, layers)

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        with reading(checkpoint or ""):
            super()._load_optimizer_and_scheduler(checkpoint)
            refuse_misfit_state(innermost(self.optimizer))

    def _load_rng_state(self, checkpoint: str | None) -> None:
        with reading(checkpoint or ""):
            super()._load_rng_state(checkpoint)

    def _load_best_model(self) -> None:
        refuse_damaged(Path(self.state.best_model_checkpoint))
        layers = sparse_layers(self.model)
        before = {name: layer.positions for name, layer in layers.items()}
        super()._load_best_model()
        for name, layer in layers.items():  # state of other links would mislead a second train()
            if not torch.equal(before[name], layer.positions):
                innermost(self.optimizer).state.pop(layer.values, None)


class SparseTrainer(_SparseTraining, Trainer):
    """``transformers.Trainer`` for a model after :func:`hf_chts.sparsify`."""


class SparseSeq2SeqTrainer(_SparseTraining, Seq2SeqTrainer):
    """``transformers.Seq2SeqTrainer`` for a model after :func:`hf_chts.sparsify`."""

    def evaluation_loop(self, *args: Any, **kwargs: Any) -> Any:
        """Let every example count once.

        Transformers counts those twice that fill the last batches of several processes.
        """
        self.gather_function = self.accelerator.gather_for_metrics
        return super().evaluation_loop(*args, **kwargs)


def _last_whole(folder: Path) -> str:
    """What to tell when a checkpoint cannot be written."""
    kept = list(checkpoints(folder).values())
    return f"; go on from {kept[-1].name} once there is room" if kept else ""
