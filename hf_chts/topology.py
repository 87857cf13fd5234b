"""The engine: when the links of a model change, and how.

It holds no state of its own. Links live in the layers, the step is the training loop's, and
randomness is a function of (seed, step, layer), so resumed runs and all ranks agree.
"""

from __future__ import annotations

import dataclasses
import functools
import time
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from hf_chts.config import SparsityConfig
from hf_chts.engine.budget import (
    check_rules,
    density_settles,
    last_update,
    link_counts,
    reads,
    refuse_standstill,
)
from hf_chts.engine.captures import ask, complete, forget
from hf_chts.engine.choosing import Mask, choose_links, links_of
from hf_chts.engine.install import Change, install
from hf_chts.engine.layer_memory import memories, recall, start_counting
from hf_chts.engine.optimizer_state import refuse_foreign_state, saliency
from hf_chts.engine.parameter_groups import LearningRates, innermost
from hf_chts.engine.ranks import SharedWork
from hf_chts.engine.telemetry import LayerUpdate
from hf_chts.layers.sparse_linear import sparse_layers
from hf_chts.methods import resolve
from hf_chts.network.heads import parts_of, shared_out
from hf_chts.network.linears import scaled_layers
from hf_chts.network.ties import places, refuse_untied
from hf_chts.network.wiring import hidden_groups
from hf_chts.rules.distribution import obd_counts
from hf_chts.rules.links import Links
from hf_chts.rules.percolation import active_neuron_rate, percolate
from hf_chts.rules.randomness import generator_for
from hf_chts.rules.registry import Rule
from hf_chts.rules.regrowth import regrowth
from hf_chts.rules.removal import removal
from hf_chts.rules.schedules import ZETA, exponent_of
from hf_chts.training.compiling import let_sizes_vary
from hf_chts.training.finite import refuse_bad_links
from hf_chts.training.refused_engines import refuse_sharded

Masks = dict[str, Mask]


class Topology:
    """The links of a model under training.

    One training step::

        topology.before_backward(step)
        loss_fn(model(x), y).backward()
        optimizer.step()
        topology.after_step(step)

    with ``step`` counted from 1 in optimizer steps. Under gradient accumulation call
    ``before_backward`` before each backward or only before the first, as you like. Learning-rate
    schedulers may step before or after ``after_step``. Layers that rest or whose link weights are
    frozen lose links only where the density falls.

    To resume: make the model with its links, the optimizer and the topology as before, then load
    the optimizer's state and :meth:`load_state_dict`.
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
            config: Overrides the configuration found on the model, whose method ``"auto"`` takes.

        Raises:
            ValueError: If the model is not sparse, ``total_steps`` is below 1, the configuration
                has a rule that is not there or does not fit, tied layers differ in
                their links, parameter groups cannot be made (see
                :class:`hf_chts.engine.parameter_groups.LearningRates`), the optimizer does not
                train the links, these are cut up over processes, or training is too short for the
                density to fall.
        """
        self.layers = sparse_layers(model)
        found = config or getattr(model, "sparsity_config", None)
        if found is None or not (self.layers or found.method == "dense"):
            raise ValueError("the model is not sparse: call hf_chts.sparsify(model, config) first")
        if total_steps < 1:
            raise ValueError(f"total_steps must be at least 1; got {total_steps}")
        self.optimizer: torch.optim.Optimizer = innermost(optimizer)
        refuse_sharded(self.layers, self.optimizer)
        if found.method == "auto":  # sparsify has settled what it means for this model
            settled = getattr(model, "sparsity_config", found).method
            found = dataclasses.replace(found, method=settled)
        self.config = resolve(found)
        check_rules(self.config)
        self.last_update = last_update(self.config, total_steps)
        self.falls = density_settles(self.config, total_steps) > 0
        shapes = {n: (x.out_features, x.in_features) for n, x in self.layers.items()}
        self._counts = functools.partial(link_counts, shapes, self.config)
        self._final_links = sum(self._counts(1.0).values())
        has_fallen = sum(x.nnz for x in self.layers.values()) <= self._final_links
        refuse_standstill(self.config, total_steps, has_fallen=has_fallen)
        self.groups = hidden_groups(model)
        self.places = places(model, self.layers, tied=bool(self.config.tied_links))
        refuse_untied(self.layers, self.places)
        self.tied: dict[str, list[str]] = {}
        for name, place in self.places.items():
            self.tied.setdefault(place.lead, []).append(name)
        self.parts = parts_of(model, self.layers, self.config.head_wise)
        self.removal = removal.make(self.config.removal) if self.config.removal else None
        self.regrowth = regrowth.make(self.config.regrowth) if self.config.regrowth else None
        self.decay = removal.make(self.config.decay or self.config.removal or "magnitude")
        self.reads = reads(self.config)
        scale, base = self.config.learning_rate_scale, self.config.base_density
        LearningRates(self.optimizer, scaled_layers(model, self.config), scale, base)
        forget(self.layers)
        ask(self.layers, ())
        for layer in self.layers.values():
            start_counting(layer, historical=self.config.historical_weights > 0)

    def is_due(self, step: int) -> bool:
        """Whether links change after optimizer step ``step``, counted from 1.

        They do at intervals until the last update, and after it if that was skipped and so the
        density has not come down.

        Raises:
            ValueError: If ``step`` is below 1.
        """
        if step < 1:
            raise ValueError(f"optimizer steps count from 1; got step {step}")
        if step > self.last_update:
            return self.falls and sum(x.nnz for x in self.layers.values()) > self._final_links
        return step % self.config.update_interval == 0

    def before_backward(self, step: int) -> None:
        """Get ready for ``step``: let layers collect what rules read of its backwards."""
        ask(self.layers, self.reads if self.is_due(step) else ())

    @torch.no_grad()
    def after_step(self, step: int, *, skipped: bool = False) -> list[LayerUpdate]:
        """Change the links if an update is due.

        Args:
            step: The optimizer step just taken, counted from 1.
            skipped: Whether the optimizer skipped it (AMP overflow); then no link changes.

        Returns:
            What changed, a row a layer; empty where no update was due.

        Raises:
            ValueError: If optimizer state cannot follow the links, as the first step tells, a
                weight, gradient, co-activation or optimizer state of a link is not finite, or a
                rule reads gradients that are cleared already, or dense gradients or correlations
                and ``before_backward`` was not called; no link has changed then.
        """
        updates: list[LayerUpdate] = []
        due = self.is_due(step)
        first = step == 1 <= self.last_update  # what does not fit is told before long training
        if (due or first) and not skipped:
            refuse_sharded(self.layers, self.optimizer)
            # with no state at all nothing can be told yet; the update itself asks again
            squares = self.config.layer_density == "obd" and len(self.optimizer.state) > 0
            refuse_foreign_state(self.optimizer, self.layers, squares=squares)
        if due and not skipped:
            complete(self.layers, self.reads)
            refuse_bad_links(self.layers, self.optimizer, step)
            updates = self._update(step)
        forget(self.layers)
        ask(self.layers, self.reads if self.is_due(step + 1) else ())
        return updates

    def state_dict(self) -> dict[str, Tensor]:
        """What layers remember beside their links: explored ones, past weights, early stops."""
        return memories(self.layers)

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Go on with what :meth:`state_dict` has returned.

        Raises:
            ValueError: If it belongs to other layers, does not fit these, or lacks some of them.
        """
        recall(self.layers, state)

    def active_neuron_rate(self) -> float | None:
        """Share of hidden neurons that are active after percolation (ANP), in [0, 1].

        None where no hidden neuron lies between two sparse layers.
        """
        if not self.groups:
            return None
        masks = {name: layer.mask for name, layer in self.layers.items()}
        return active_neuron_rate(percolate(masks, self.groups), self.groups)

    def _progress(self, step: int) -> float:
        return min(1.0, step / self.last_update)

    def _update(self, step: int) -> list[LayerUpdate]:
        work = SharedWork(self.layers)
        before = {name: layer.mask for name, layer in self.layers.items()}
        targets = self._targets(step)
        if any(targets[name] != layer.nnz for name, layer in self.layers.items()):
            let_sizes_vary()
        kept = work.masks(self.tied, lambda n: self._remove(n, before[n], targets[n], step))
        kept = self._percolate(self._all(kept), work)
        after = work.masks(
            self.tied, lambda n: self._regrow(n, before[n], kept[n], targets[n], step)
        )
        change = Change(before, kept, self._all(after))
        return install(self.layers, change, self.groups, self.config, self.optimizer, work)

    def _all(self, masks: Masks) -> Masks:
        """Masks of all layers from those that they are chosen by."""
        return {name: place.turned(masks[place.lead]) for name, place in self.places.items()}

    def _targets(self, step: int) -> dict[str, int]:
        """How many links each layer has after an update; where the density falls, no more."""
        counts = self._counts(self._progress(step))
        if self.config.layer_density == "obd":
            trained = [name for name in counts if self.layers[name].values.requires_grad]
            saliencies = {n: saliency(self.optimizer, self.layers[n], n) for n in trained}
            counts |= obd_counts(saliencies, {name: counts[name] for name in trained})
        if self.falls:  # the schedule begins anew where a model is trained again
            counts = {name: min(n, self.layers[name].nnz) for name, n in counts.items()}
        return counts

    def _remove(self, name: str, before: Mask, target: int, step: int) -> Mask:
        """Links that survive: no more than the target, and of those all but a share zeta."""
        assert self.removal is not None
        mask = self._decay(name, before, target, step)
        progress, config = self._progress(step), self.config
        still, schedule = self.regrowth is None or self._rests(name), config.zeta_schedule
        zeta = 0.0 if still else ZETA[schedule or "constant"](progress, config.zeta or 0.0)
        n_active = [int(mask[rows].count_nonzero()) for rows in self.parts[name]]
        n_kept = [n - int(zeta * n) for n in n_active]
        links = self._links(name, mask, self.removal, "removal", step)
        exponent = exponent_of(config.removal_exponent, progress)
        return choose_links(self.removal, links, self.parts[name], n_kept, exponent)

    def _decay(self, name: str, mask: Mask, target: int, step: int) -> Mask:
        """Links left when the density has fallen: the highest-ranked ``target``."""
        if int(mask.count_nonzero()) <= target:
            return mask
        links = self._links(name, mask, self.decay, "decay", step)
        n_kept = shared_out(mask, self.parts[name], target)
        return choose_links(self.decay, links, self.parts[name], n_kept, None)

    def _percolate(self, kept: Masks, work: SharedWork) -> Masks:
        """Links left when neurons that lead nowhere have lost theirs."""
        if not self.config.percolation:
            return kept
        start = time.perf_counter()
        found = percolate(kept, self.groups) | {n: x for n, x in kept.items() if self._rests(n)}
        work.share(time.perf_counter() - start)
        return found

    def _rests(self, name: str) -> bool:
        layers = [self.layers[one] for one in self.tied[self.places[name].lead]]
        return any(layer.resting or not layer.values.requires_grad for layer in layers)

    def _regrow(self, name: str, before: Mask, kept: Mask, target: int, step: int) -> Mask:
        """Survivors and regrown links, exactly the target number."""
        if self.regrowth is None:
            return kept
        targets = shared_out(before, self.parts[name], target)
        n_kept = [int(kept[rows].count_nonzero()) for rows in self.parts[name]]
        missing = [t - n for t, n in zip(targets, n_kept, strict=True)]
        links = self._links(name, kept, self.regrowth, "regrowth", step)
        exponent = exponent_of(self.config.regrowth_exponent, self._progress(step))
        parts = self.parts[name]
        return kept | choose_links(self.regrowth, links, parts, missing, exponent, active=False)

    def _links(self, name: str, mask: Mask, rule: Rule, *purpose: object) -> list[Links]:
        """A layer, and those that are tied to it, as a rule sees them."""
        device = self.layers[name].values.device
        generator = generator_for(device, self.config.seed, *purpose, name)
        return [
            links_of(self.layers[one], self.places[one].turned, mask, rule, generator)
            for one in self.tied[name]
        ]
