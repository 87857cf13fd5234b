"""The engine: when the links of a model change, and how.

It holds no state of its own. Links live in the layers, the step is the training loop's, and
randomness is a function of (seed, step, layer), so resumed runs and all ranks agree.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.distributed
from jaxtyping import Bool
from torch import Tensor, nn

from hf_chts.budget import last_update, link_counts
from hf_chts.config import SparsityConfig
from hf_chts.layers import structure
from hf_chts.layers.sparse_linear import SparseLinear, sparse_layers
from hf_chts.methods import resolve
from hf_chts.optimizer_state import move_links, refuse_foreign_state
from hf_chts.parameter_groups import LearningRates
from hf_chts.rules.links import Links
from hf_chts.rules.percolation import percolate
from hf_chts.rules.randomness import generator_for
from hf_chts.rules.registry import Rule
from hf_chts.rules.regrowth import regrowth
from hf_chts.rules.removal import removal
from hf_chts.rules.schedules import EXPONENT, ZETA
from hf_chts.rules.select import choose
from hf_chts.wiring import hidden_groups

Masks = dict[str, Bool[Tensor, "out in"]]


@dataclass(frozen=True)
class LayerUpdate:
    """What one topology update did to one layer.

    Attributes:
        name: Qualified name of the layer.
        n_links: Active links afterwards.
        density: Share of links that are active, in [0, 1].
        removed: Links that were active before and are not now.
        regrown: Links that are active now and were not before.
        itop: Share of links that were active at some time (ITOP rate), in [0, 1].
    """

    name: str
    n_links: int
    density: float
    removed: int
    regrown: int
    itop: float


class Topology:
    """The links of a model under training.

    One training step::

        topology.before_backward(step)
        loss.backward()
        optimizer.step()
        topology.after_step(step)

    with ``step`` counted from 1 in optimizer steps. Under gradient accumulation call
    ``before_backward`` before each backward or only before the first, as you like.
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        *,
        total_steps: int,
        config: SparsityConfig | None = None,
    ) -> None:
        """Attach to a sparsified model and the optimizer that trains it.

        Args:
            model: A model after :func:`hf_chts.sparsify`.
            optimizer: Any torch optimizer whose state per weight has the weight's shape. Where
                ``learning_rate_scale`` is not 1, sparse values are moved into parameter groups of
                their own; make the learning-rate scheduler afterwards.
            total_steps: Optimizer steps of the whole training, at least 1.
            config: Overrides the configuration found on the model.

        Raises:
            ValueError: If the model is not sparse, ``total_steps`` is below 1, the configuration
                names a rule that is not there, or parameter groups cannot be made (see
                :class:`hf_chts.parameter_groups.LearningRates`).
        """
        self.layers = sparse_layers(model)
        found = config or getattr(model, "sparsity_config", None)
        if found is None or not (self.layers or found.method == "dense"):
            raise ValueError("the model is not sparse: call hf_chts.sparsify(model, config) first")
        if total_steps < 1:
            raise ValueError(f"total_steps must be at least 1; got {total_steps}")
        self.config = resolve(found)
        self.optimizer = optimizer
        self.last_update = last_update(self.config, total_steps)
        self.groups = hidden_groups(model) if self.config.percolation else []
        self.removal = removal.make(self.config.removal) if self.config.removal else None
        self.regrowth = regrowth.make(self.config.regrowth) if self.config.regrowth else None
        self.rates = LearningRates(optimizer, self.layers, self.config.learning_rate_scale)
        for layer in self.layers.values():
            layer.capture_dense_grad, layer.dense_grad = False, None
            if layer.explored is None:
                layer.explored = structure.pack(layer.mask)

    def is_due(self, step: int) -> bool:
        """Whether links change after optimizer step ``step``, counted from 1."""
        return step <= self.last_update and step % self.config.update_interval == 0

    def before_backward(self, step: int) -> None:
        """Get ready for a backward of ``step``: learning rates, and dense gradients if needed."""
        self.rates.scale()
        capture = self._reads_dense_grad and self.is_due(step)
        for layer in self.layers.values():
            layer.capture_dense_grad = capture

    @torch.no_grad()
    def after_step(self, step: int, *, skipped: bool = False) -> list[LayerUpdate]:
        """Undo the learning-rate scale, and change the links if an update is due.

        Args:
            step: The optimizer step just taken, counted from 1.
            skipped: Whether the optimizer skipped it (AMP overflow); then no link changes.

        Returns:
            What changed, a row a layer; empty where no update was due.

        Raises:
            ValueError: If optimizer state cannot follow the links, or a rule reads dense gradients
                and ``before_backward`` was not called; no link has changed then.
        """
        self.rates.restore()
        updates: list[LayerUpdate] = []
        if self.is_due(step) and not skipped:
            refuse_foreign_state(self.optimizer, self.layers)
            if self._reads_dense_grad:
                _complete_dense_grads(self.layers)
            before = {name: layer.mask for name, layer in self.layers.items()}
            kept = self._percolate(self._remove(before, step))
            updates = self._write(before, self._regrow(kept, step))
        for layer in self.layers.values():
            layer.capture_dense_grad, layer.dense_grad = False, None
        return updates

    @property
    def _reads_dense_grad(self) -> bool:
        rules = (self.removal, self.regrowth)
        return any(rule is not None and rule.reads == "dense_grad" for rule in rules)

    def _progress(self, step: int) -> float:
        return step / self.last_update

    def _links(self, name: str, mask: Tensor, rule: Rule, *purpose: object) -> Links:
        """One layer as a rule sees it."""
        layer = self.layers[name]
        generator = generator_for(layer.values.device, self.config.seed, *purpose, name)
        grad = None
        if rule.reads == "grad" and layer.values.grad is not None:
            grad = layer.scatter(layer.values.grad)
        elif rule.reads == "dense_grad":
            grad = layer.dense_grad
        return Links(layer.to_dense() * mask, mask, generator, grad)

    def _remove(self, before: Masks, step: int) -> Masks:
        """Links that survive: no more than the target, and of those all but a share zeta."""
        assert self.removal is not None
        progress, config = self._progress(step), self.config
        zeta = ZETA[config.zeta_schedule or "constant"](progress, config.zeta or 0.0)
        softness = config.removal_exponent
        exponent = _exponent(softness, progress)
        targets = self._targets(step)
        kept = {}
        for name, mask in before.items():
            mask = self._decay(name, mask, targets[name], step)
            links = self._links(name, mask, self.removal, "removal", step)
            n_active = int(mask.sum())
            n_kept = n_active - int(zeta * n_active) if self.regrowth else n_active
            scores = self.removal.function(links)
            kept[name] = choose(scores, mask, n_kept, links.generator, exponent)
        return kept

    def _decay(self, name: str, mask: Tensor, target: int, step: int) -> Tensor:
        """Links left when the density has fallen: the highest-ranked ``target``."""
        if int(mask.sum()) <= target:
            return mask
        rule = removal.make(self.config.decay or self.config.removal or "magnitude")
        links = self._links(name, mask, rule, "decay", step)
        return choose(rule.function(links), mask, target, links.generator)

    def _percolate(self, kept: Masks) -> Masks:
        """Links left when neurons that lead nowhere have lost theirs."""
        return percolate(kept, self.groups) if self.config.percolation else kept

    def _regrow(self, kept: Masks, step: int) -> Masks:
        """Survivors and regrown links, exactly the target number."""
        if self.regrowth is None:
            return kept
        exponent = _exponent(self.config.regrowth_exponent, self._progress(step))
        targets = self._targets(step)
        grown = {}
        for name, mask in kept.items():
            links = self._links(name, mask, self.regrowth, "regrowth", step)
            missing = targets[name] - int(mask.sum())
            scores = self.regrowth.function(links)
            grown[name] = mask | choose(scores, ~mask, missing, links.generator, exponent)
        return grown

    def _targets(self, step: int) -> dict[str, int]:
        shapes = {n: (x.out_features, x.in_features) for n, x in self.layers.items()}
        return link_counts(shapes, self.config, self._progress(step))

    def _write(self, before: Masks, after: Masks) -> list[LayerUpdate]:
        """Install the new links; the only step with effects."""
        updates = []
        for name, layer in self.layers.items():
            mask = after[name]
            packed = structure.pack(mask)
            layer.explored = packed if layer.explored is None else layer.explored | packed
            move_links(layer, structure.positions_of(mask), self.optimizer)
            updates.append(
                LayerUpdate(
                    name,
                    layer.nnz,
                    layer.density,
                    int((before[name] & ~mask).sum()),
                    int((mask & ~before[name]).sum()),
                    structure.count_bits(layer.explored) / mask.numel(),
                )
            )
        return updates


def _exponent(softness: float | str | None, progress: float) -> float | None:
    """The exponent of soft sampling at a point of training; None for ranking."""
    if softness is None or softness == "ranked":
        return None
    return EXPONENT[softness](progress, 1.0, 9.0) if isinstance(softness, str) else softness


def _complete_dense_grads(layers: dict[str, SparseLinear]) -> None:
    """Sum dense gradients over all ranks; a layer that no loss has reached has gradient 0."""
    for name, layer in layers.items():
        if layer.dense_grad is None and not layer.capture_dense_grad:
            raise ValueError(
                f"{name} has no dense gradient: call topology.before_backward(step) before the "
                "backward of every step"
            )
        if layer.dense_grad is None:
            shape = (layer.out_features, layer.in_features)
            layer.dense_grad = layer.values.new_zeros(shape, dtype=torch.float32)
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            torch.distributed.all_reduce(layer.dense_grad)
