"""How a Transformers trainer drives the engine."""

from __future__ import annotations

from typing import Any

from transformers import TrainerCallback


class EvolveTopology(TrainerCallback):
    """Calls the engine at the two points of a step where it has work."""

    def __init__(self, trainer: Any) -> None:
        self.trainer = trainer
        self.loss_scale = 0.0

    def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Before the first backward of an optimizer step."""
        self.trainer.topology.before_backward(state.global_step + 1)

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Before the optimizer's step."""
        self.loss_scale = self._loss_scale()

    def on_optimizer_step(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """After the optimizer's step, while its gradients are still there."""
        step = state.global_step + 1
        skipped = self.trainer.accelerator.optimizer_step_was_skipped
        skipped |= self._loss_scale() < self.loss_scale  # fused optimizers skip by themselves
        self.trainer.record(step, self.trainer.topology.after_step(step, skipped=skipped))

    def _loss_scale(self) -> float:
        scaler = self.trainer.accelerator.scaler
        return 1.0 if scaler is None else float(scaler.get_scale())
