"""Transformers' trainers, made to evolve the links of a sparse model."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from transformers import Seq2SeqTrainer, Trainer, TrainerCallback

from hf_chts.layer_memory import KEPT, memories, recall
from hf_chts.layers.sparse_linear import SparseLinear, sparse_layers
from hf_chts.loss import IGNORED, LabelSmoothedLoss
from hf_chts.parameter_groups import separate_sparse_groups
from hf_chts.ranks import world_size
from hf_chts.telemetry import LayerUpdate, summary
from hf_chts.topology import Topology

MEMORY_FILE = "topology.safetensors"
LOG_FILE = "topology.jsonl"


class _EvolveTopology(TrainerCallback):
    """Calls the engine at the two points of a step where it has work."""

    def __init__(self, trainer: _SparseTraining) -> None:
        self.trainer = trainer

    def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Before the first backward of an optimizer step."""
        self.trainer.topology.before_backward(state.global_step + 1)

    def on_optimizer_step(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """After the optimizer's step, while its gradients are still there."""
        step = state.global_step + 1
        skipped = self.trainer.accelerator.optimizer_step_was_skipped
        self.trainer.record(step, self.trainer.topology.after_step(step, skipped=skipped))


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

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if getattr(self.model, "sparsity_config", None) is None:
            raise ValueError("the model is not sparse: call hf_chts.sparsify(model, config) first")
        layers = sparse_layers(self.model)
        kept = ("values", "crow_indices", "col_indices", *KEPT)
        ignored = [f"{name}.{leaf}" for name in layers for leaf in kept]
        DistributedDataParallel._set_params_and_buffers_to_ignore_for_model(self.model, ignored)
        self._updates: list[list[LayerUpdate]] = []
        smooths = self.args.label_smoothing_factor > 0
        encodes = getattr(getattr(self.model, "config", None), "is_encoder_decoder", False)
        if encodes and not smooths and self.compute_loss_func is None:
            # these models average over each micro-batch: gradients would grow with accumulation
            self.compute_loss_func = LabelSmoothedLoss(0.0)
        self.add_callback(_EvolveTopology(self))

    def compute_loss(self, model: Any, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        """Add the decoder's inputs where the labels are kept from the model."""
        encodes = getattr(getattr(self.model, "config", None), "is_encoder_decoder", False)
        kept = self.compute_loss_func is not None or self.label_smoother is not None
        if encodes and kept and "labels" in inputs and "decoder_input_ids" not in inputs:
            inputs["decoder_input_ids"] = _shifted(self.model, inputs["labels"])
        return super().compute_loss(model, inputs, *args, **kwargs)

    def create_optimizer(self, *args: Any, **kwargs: Any) -> Any:
        """The usual optimizer, with link weights in groups of their own."""
        fresh = self.optimizer is None
        optimizer = super().create_optimizer(*args, **kwargs)
        if fresh:
            separate_sparse_groups(_innermost(optimizer), sparse_layers(self.model))
        return optimizer

    def _prepare_for_training(self, max_steps: int, *args: Any, **kwargs: Any) -> Any:
        prepared = super()._prepare_for_training(max_steps, *args, **kwargs)
        if world_size() > 1:
            _broadcast_layers(sparse_layers(self.model))
        optimizer = _innermost(self.optimizer)
        self.topology = Topology(self.model, optimizer, total_steps=max_steps)
        self._updates.clear()
        if self.args.should_save:
            _forget_after(Path(self.args.output_dir) / LOG_FILE, self.state.global_step)
        return prepared

    def _run_epoch(self, *args: Any, **kwargs: Any) -> None:
        """Stop at the last step; Transformers takes one more when a finished run is resumed."""
        if self.state.global_step >= self.state.max_steps:
            self.control.should_training_stop = True
        else:
            super()._run_epoch(*args, **kwargs)

    def training_step(self, *args: Any, **kwargs: Any) -> Tensor:
        """One micro-batch; after the last one, link gradients are averaged over ranks."""
        loss: Tensor = super().training_step(*args, **kwargs)
        if world_size() > 1 and self.accelerator.sync_gradients:
            _average_gradients(sparse_layers(self.model))
        return loss

    def record(self, step: int, updates: list[LayerUpdate]) -> None:
        """Keep what an update did for the next log, and append it to the topology log."""
        if not updates:
            return
        self._updates.append(updates)
        if self.args.should_save:
            os.makedirs(self.args.output_dir, exist_ok=True)
            with open(Path(self.args.output_dir) / LOG_FILE, "a", encoding="utf-8") as file:
                for update in updates:
                    file.write(json.dumps({"step": step, **vars(update)}) + "\n")

    def log(self, logs: dict[str, float], *args: Any, **kwargs: Any) -> None:
        """Add the topology's figures to the training logs, for ``report_to``."""
        if "loss" in logs and self._updates:
            logs = {**logs, **summary(self._updates)}
            if (rate := self.topology.active_neuron_rate()) is not None:
                logs["topology_active_neurons"] = rate
            self._updates.clear()
        super().log(logs, *args, **kwargs)

    def _save_optimizer_and_scheduler(self, output_dir: str) -> None:
        super()._save_optimizer_and_scheduler(output_dir)
        memory = memories(sparse_layers(self.model))
        if self.args.should_save and memory:
            save_file(memory, os.path.join(output_dir, MEMORY_FILE))

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        layers = sparse_layers(self.model)
        _refuse_without_links(resume_from_checkpoint, layers)
        super()._load_from_checkpoint(resume_from_checkpoint, model)
        memory = os.path.join(resume_from_checkpoint, MEMORY_FILE)
        if os.path.isfile(memory):
            recall(layers, load_file(memory))

    def _load_best_model(self) -> None:
        layers = sparse_layers(self.model)
        before = {name: layer.positions for name, layer in layers.items()}
        super()._load_best_model()
        for name, layer in layers.items():  # state of other links would mislead a second train()
            if not torch.equal(before[name], layer.positions):
                _innermost(self.optimizer).state.pop(layer.values, None)


class SparseTrainer(_SparseTraining, Trainer):
    """``transformers.Trainer`` for a model after :func:`hf_chts.sparsify`."""


class SparseSeq2SeqTrainer(_SparseTraining, Seq2SeqTrainer):
    """``transformers.Seq2SeqTrainer`` for a model after :func:`hf_chts.sparsify`."""


def _shifted(model: Any, labels: Tensor) -> Tensor:
    """Labels moved right by one, behind the token that starts the decoder."""
    shift = getattr(model, "prepare_decoder_input_ids_from_labels", None)
    if shift is not None:
        made: Tensor = shift(labels=labels)
        return made
    moved = labels.roll(1, dims=-1)  # M2M100, NLLB and Blenderbot have no such method
    moved[..., 0] = model.config.decoder_start_token_id
    return moved.masked_fill(moved == IGNORED, model.config.pad_token_id)


def _innermost(optimizer: Any) -> torch.optim.Optimizer:
    """The torch optimizer inside accelerate's wrappers."""
    while hasattr(optimizer, "optimizer"):
        optimizer = optimizer.optimizer
    found: torch.optim.Optimizer = optimizer
    return found


@torch.no_grad()
def _broadcast_layers(layers: Mapping[str, SparseLinear]) -> None:
    """Rank 0's links and weights on every rank."""
    for layer in layers.values():
        for tensor in (layer.values.data, layer.crow_indices, layer.col_indices):
            wide = tensor.int() if tensor.dtype == torch.int16 else tensor
            dist.broadcast(wide, 0)
            tensor.copy_(wide)
        layer.rebuild_index()


@torch.no_grad()
def _average_gradients(layers: Mapping[str, SparseLinear]) -> None:
    """One all-reduce of all link gradients, about a tenth of the dense traffic."""
    values = [layer.values for layer in layers.values() if layer.values.requires_grad]
    if not values:
        return
    grads = [torch.zeros_like(v) if v.grad is None else v.grad for v in values]
    flat = torch.cat([grad.float() for grad in grads])
    dist.all_reduce(flat)
    flat /= world_size()
    for value, grad in zip(values, flat.split([v.numel() for v in values]), strict=True):
        value.grad = grad.to(value.dtype)


def _forget_after(path: Path, step: int) -> None:
    """Drop the lines of a topology log that a resumed run will write again."""
    if not path.exists():
        return
    lines = path.read_text(encoding="utf-8").split("\n")[:-1]  # a killed run may tear its last line
    kept = [line for line in lines if json.loads(line)["step"] <= step]
    path.write_text("".join(line + "\n" for line in kept), encoding="utf-8")


def _refuse_without_links(checkpoint: str, layers: Mapping[str, nn.Module]) -> None:
    """A resume must find every layer's links, and no others."""
    saved: set[str] = set()
    for path in Path(checkpoint).glob("*.safetensors"):
        if path.name != MEMORY_FILE:
            with safe_open(path, framework="pt") as tensors:
                saved.update(tensors.keys())
    with_links = {key.rpartition(".")[0] for key in saved if key.endswith(".col_indices")}
    if extra := sorted(with_links - set(layers)):
        raise ValueError(
            f"{checkpoint} holds links of {len(extra)} layers that are not sparse here (first: "
            f"{extra[0]}): sparsify the model as it was when the checkpoint was written"
        )
    missing = [name for name in layers if name not in with_links]
    if missing:
        raise ValueError(
            f"{checkpoint} has no topology for {len(missing)} sparse layers (first: {missing[0]}): "
            "it was written by a dense run or by another model, and cannot be resumed"
        )
