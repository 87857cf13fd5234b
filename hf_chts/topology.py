"""The engine: when the links of a model change, and how.

It holds no state of its own. Links live in the layers, the step is the training loop's, and
randomness is a function of (seed, step, layer), so resumed runs and all ranks agree.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Sequence

import torch
from jaxtyping import Bool
from torch import Tensor, nn

from hf_chts.config import SparsityConfig
from hf_chts.engine.budget import last_update, link_counts, reads
from hf_chts.engine.captures import ask, complete, forget
from hf_chts.engine.install import Change, install
from hf_chts.engine.layer_memory import start_counting
from hf_chts.engine.optimizer_state import refuse_foreign_state
from hf_chts.engine.parameter_groups import LearningRates
from hf_chts.engine.ranks import SharedWork
from hf_chts.engine.telemetry import LayerUpdate
from hf_chts.layers.sparse_linear import SparseLinear, sparse_layers
from hf_chts.methods import resolve
from hf_chts.network.heads import head_counts
from hf_chts.network.linears import scaled_layers
from hf_chts.network.wiring import hidden_groups
from hf_chts.rules.distribution import lamp_counts
from hf_chts.rules.links import Links
from hf_chts.rules.percolation import active_neuron_rate, percolate
from hf_chts.rules.randomness import generator_for
from hf_chts.rules.registry import Rule
from hf_chts.rules.regrowth import regrowth
from hf_chts.rules.removal import removal
from hf_chts.rules.schedules import EXPONENT, ZETA
from hf_chts.rules.select import choose
from hf_chts.training.compiling import let_sizes_vary
from hf_chts.training.finite import refuse_bad_links
from hf_chts.training.refused_engines import refuse_sharded

Mask = Bool[Tensor, "out in"]
Masks = dict[str, Mask]


class Topology:
    """The links of a model under training.

    One training step::

        topology.before_backward(step)
        loss_fn(model(x), y).backward()
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
                names a rule that is not there, parameter groups cannot be made (see
                :class:`hf_chts.engine.parameter_groups.LearningRates`), the optimizer does not
                train the links, or these are cut up over processes.
        """
        self.layers = sparse_layers(model)
        found = config or getattr(model, "sparsity_config", None)
        if found is None or not (self.layers or found.method == "dense"):
            raise ValueError("the model is not sparse: call hf_chts.sparsify(model, config) first")
        if total_steps < 1:
            raise ValueError(f"total_steps must be at least 1; got {total_steps}")
        refuse_sharded(self.layers, optimizer)
        self.config = resolve(found)
        self.optimizer = optimizer
        self.last_update = last_update(self.config, total_steps)
        self.groups = hidden_groups(model)
        self.removal = removal.make(self.config.removal) if self.config.removal else None
        self.regrowth = regrowth.make(self.config.regrowth) if self.config.regrowth else None
        self.decay = removal.make(self.config.decay or self.config.removal or "magnitude")
        self.reads = reads(self.config)
        scale, base = self.config.learning_rate_scale, self.config.base_density
        self.rates = LearningRates(optimizer, scaled_layers(model, self.config), scale, base)
        heads = head_counts(model) if self.config.head_wise else {}
        self.parts = {n: _parts(x, heads.get(n, 1)) for n, x in self.layers.items()}
        forget(self.layers)
        ask(self.layers, ())
        for layer in self.layers.values():
            start_counting(layer, historical=self.config.historical_weights > 0)

    def is_due(self, step: int) -> bool:
        """Whether links change after optimizer step ``step``, counted from 1."""
        return step <= self.last_update and step % self.config.update_interval == 0

    def before_backward(self, step: int) -> None:
        """Get ready for ``step``: learning rates, and what rules read of its backwards."""
        self.rates.scale()
        ask(self.layers, self.reads if self.is_due(step) else ())

    @torch.no_grad()
    def after_step(self, step: int, *, skipped: bool = False) -> list[LayerUpdate]:
        """Undo the learning-rate scale, and change the links if an update is due.

        Args:
            step: The optimizer step just taken, counted from 1.
            skipped: Whether the optimizer skipped it (AMP overflow); then no link changes.

        Returns:
            What changed, a row a layer; empty where no update was due.

        Raises:
            ValueError: If optimizer state cannot follow the links, a weight, gradient,
                co-activation or optimizer state of a link is not finite, or a rule reads dense
                gradients or correlations and ``before_backward`` was not called; no link has
                changed then.
        """
        self.rates.restore()
        updates: list[LayerUpdate] = []
        if self.is_due(step) and not skipped:
            refuse_sharded(self.layers, self.optimizer)
            refuse_foreign_state(self.optimizer, self.layers)
            complete(self.layers, self.reads)
            refuse_bad_links(self.layers, self.optimizer, step)
            updates = self._update(step)
        forget(self.layers)
        ask(self.layers, self.reads if self.is_due(step + 1) else ())
        return updates

    def active_neuron_rate(self) -> float | None:
        """Share of hidden neurons that are active after percolation (ANP), in [0, 1].

        None where no hidden neuron lies between two sparse layers.
        """
        if not self.groups:
            return None
        masks = {name: layer.mask for name, layer in self.layers.items()}
        return active_neuron_rate(percolate(masks, self.groups), self.groups)

    def _progress(self, step: int) -> float:
        return step / self.last_update

    def _update(self, step: int) -> list[LayerUpdate]:
        work = SharedWork(self.layers)
        before = {name: layer.mask for name, layer in self.layers.items()}
        targets = self._targets(step)
        if any(targets[name] != layer.nnz for name, layer in self.layers.items()):
            let_sizes_vary()
        kept = work.masks(lambda name: self._remove(name, before[name], targets[name], step))
        kept = self._percolate(kept, work)
        after = work.masks(
            lambda name: self._regrow(name, before[name], kept[name], targets[name], step)
        )
        return install(
            self.layers, Change(before, kept, after), self.groups, self.config, self.optimizer, work
        )

    def _targets(self, step: int) -> dict[str, int]:
        """How many links each layer has after an update."""
        shapes = {n: (x.out_features, x.in_features) for n, x in self.layers.items()}
        counts = link_counts(shapes, self.config, self._progress(step))
        if self.config.layer_density != "lamp":
            return counts
        weights = {name: layer.values for name, layer in self.layers.items()}
        return lamp_counts(weights, sum(counts.values()))

    def _remove(self, name: str, before: Mask, target: int, step: int) -> Mask:
        """Links that survive: no more than the target, and of those all but a share zeta."""
        assert self.removal is not None
        mask = self._decay(name, before, target, step)
        progress, config = self._progress(step), self.config
        zeta = ZETA[config.zeta_schedule or "constant"](progress, config.zeta or 0.0)
        if self.regrowth is None or self.layers[name].resting:
            zeta = 0.0
        n_active = [int(mask[rows].count_nonzero()) for rows in self.parts[name]]
        n_kept = [n - int(zeta * n) for n in n_active]
        links = self._links(name, mask, self.removal, "removal", step)
        exponent = _exponent(config.removal_exponent, progress)
        return self._choose(name, self.removal, links, n_kept, exponent)

    def _decay(self, name: str, mask: Mask, target: int, step: int) -> Mask:
        """Links left when the density has fallen: the highest-ranked ``target``."""
        if int(mask.count_nonzero()) <= target:
            return mask
        links = self._links(name, mask, self.decay, "decay", step)
        return self._choose(name, self.decay, links, _shared(mask, self.parts[name], target), None)

    def _percolate(self, kept: Masks, work: SharedWork) -> Masks:
        """Links left when neurons that lead nowhere have lost theirs."""
        if not self.config.percolation:
            return kept
        start = time.perf_counter()
        percolated = percolate(kept, self.groups)
        work.share(time.perf_counter() - start)
        return percolated

    def _regrow(self, name: str, before: Mask, kept: Mask, target: int, step: int) -> Mask:
        """Survivors and regrown links, exactly the target number."""
        if self.regrowth is None:
            return kept
        parts = self.parts[name]
        targets = _shared(before, parts, target)
        missing = [
            t - int(kept[rows].count_nonzero()) for t, rows in zip(targets, parts, strict=True)
        ]
        links = self._links(name, kept, self.regrowth, "regrowth", step)
        exponent = _exponent(self.config.regrowth_exponent, self._progress(step))
        return kept | self._choose(name, self.regrowth, links, missing, exponent, active=False)

    def _links(self, name: str, mask: Mask, rule: Rule, *purpose: object) -> Links:
        """One layer as a rule sees it."""
        layer = self.layers[name]
        generator = generator_for(layer.values.device, self.config.seed, *purpose, name)
        grad = correlation = None
        if rule.reads == "grad" and layer.values.grad is not None:
            grad = layer.scatter(layer.values.grad)
        elif rule.reads == "dense_grad":
            grad = layer.dense_grad
        elif layer.coactivation is not None and rule.reads == "correlation":
            correlation = layer.coactivation.correlation()
        return Links(layer.to_dense() * mask, mask, generator, grad, correlation)

    def _choose(
        self,
        name: str,
        rule: Rule,
        links: Links,
        counts: Sequence[int],
        exponent: float | None,
        *,
        active: bool = True,
    ) -> Mask:
        """Choose links by a rule in each part of a layer, among the active or the inactive."""
        chosen = torch.zeros_like(links.mask)
        for rows, count in zip(self.parts[name], counts, strict=True):
            part = links.of(rows)
            eligible = part.mask if active else ~part.mask
            scores = rule.function(part)
            chosen[rows] = choose(scores, eligible, count, links.generator, exponent)
        return chosen


def _parts(layer: SparseLinear, n_parts: int) -> list[slice]:
    """The output neurons of each sub-network that evolves by itself."""
    height = layer.out_features // n_parts
    return [slice(i * height, (i + 1) * height) for i in range(n_parts)]


def _shared(mask: Mask, parts: Sequence[slice], total: int) -> list[int]:
    """A number of links shared out over parts in proportion to those they have."""
    counts = [int(mask[rows].count_nonzero()) for rows in parts]
    ends = [total * end // max(1, sum(counts)) for end in itertools.accumulate(counts)]
    return [end - start for start, end in zip([0, *ends[:-1]], ends, strict=True)]


def _exponent(softness: float | str | None, progress: float) -> float | None:
    """The exponent of soft sampling at a point of training; None for ranking."""
    if softness is None or softness == "ranked":
        return None
    return EXPONENT[softness](progress, 1.0, 9.0) if isinstance(softness, str) else softness
