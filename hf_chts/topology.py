"""The engine: when the links of a model change, and how.

It holds no state of its own. Links live in the layers, the step is the training loop's, and
randomness is a function of (seed, step, layer), so resumed runs and all ranks agree.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed
from jaxtyping import Bool
from torch import Tensor, nn

from hf_chts.config import SparsityConfig
from hf_chts.layers import structure
from hf_chts.layers.sparse_linear import SparseLinear, sparse_layers
from hf_chts.parameter_groups import LearningRates
from hf_chts.rules.distribution import densities
from hf_chts.rules.initial import initial
from hf_chts.rules.links import Links
from hf_chts.rules.percolation import percolate
from hf_chts.rules.randomness import generator_for
from hf_chts.rules.registry import Rule
from hf_chts.rules.regrowth import regrowth
from hf_chts.rules.removal import removal
from hf_chts.rules.schedules import DENSITY, EXPONENT, ZETA
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


def link_counts(
    shapes: dict[str, tuple[int, int]], config: SparsityConfig, progress: float
) -> dict[str, int]:
    """How many links each layer has at a point of training.

    Args:
        shapes: (out_features, in_features) of each layer.
        config: The resolved configuration.
        progress: Share of the time until the last update that has passed, in [0, 1].

    Raises:
        ValueError: If a layer would have none.
    """
    schedule = DENSITY[config.density_schedule or "constant"]
    start = config.sparsity if config.initial_sparsity is None else config.initial_sparsity
    density = schedule(progress, 1 - start, 1 - config.sparsity)
    share = densities(shapes, density, config.layer_density)
    counts = {name: round(share[name] * out * inp) for name, (out, inp) in shapes.items()}
    for name, count in counts.items():
        if count < 1:
            out, inp = shapes[name]
            raise ValueError(
                f"density {share[name]:.3g} leaves {name} ({out} x {inp}) without a link: "
                "lower the sparsity or exclude the layer"
            )
    return counts


def check_rules(config: SparsityConfig) -> None:
    """Refuse a resolved configuration that names a rule or a rule's parameter that is not there."""
    initial.make(config.initial or "er")
    for registry, spec in ((removal, config.removal), (regrowth, config.regrowth)):
        if spec is not None:
            registry.make(spec)


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
            ValueError: If the model is not sparse, or ``total_steps`` is below 1.
        """
        self.layers = sparse_layers(model)
        found = config or getattr(model, "sparsity_config", None)
        if found is None:
            raise ValueError("the model is not sparse: call hf_chts.sparsify(model, config) first")
        if total_steps < 1:
            raise ValueError(f"total_steps must be at least 1; got {total_steps}")
        self.config: SparsityConfig = found
        self.optimizer = optimizer
        self.stop_step = int(self.config.stop_fraction * total_steps)
        self.groups = hidden_groups(model) if self.config.percolation else []
        self.rates = LearningRates(optimizer, self.layers, self.config.learning_rate_scale)
        self.removal = removal.make(self.config.removal) if self.config.removal else None
        self.regrowth = regrowth.make(self.config.regrowth) if self.config.regrowth else None
        for layer in self.layers.values():
            if layer.explored is None:
                layer.explored = structure.pack(layer.mask)

    def is_due(self, step: int) -> bool:
        """Whether links change after optimizer step ``step``, counted from 1."""
        moving = self.removal is not None and step <= self.stop_step
        return moving and step % self.config.update_interval == 0

    def before_backward(self, step: int) -> None:
        """Get ready for a backward of ``step``: learning rates, and dense gradients if needed."""
        self.rates.scale()
        rules = (self.removal, self.regrowth)
        dense = any(rule is not None and rule.reads == "dense_grad" for rule in rules)
        for layer in self.layers.values():
            layer.capture_dense_grad = dense and self.is_due(step)

    @torch.no_grad()
    def after_step(self, step: int, *, skipped: bool = False) -> list[LayerUpdate]:
        """Undo the learning-rate scale, and change the links if an update is due.

        Args:
            step: The optimizer step just taken, counted from 1.
            skipped: Whether the optimizer skipped it (AMP overflow); then no link changes.

        Returns:
            What changed, a row a layer; empty where no update was due.

        Raises:
            ValueError: If optimizer state cannot follow the links; nothing has changed then.
        """
        self.rates.restore()
        updates: list[LayerUpdate] = []
        if self.is_due(step) and not skipped:
            _refuse_foreign_state(self.optimizer, self.layers)
            before = {name: layer.mask for name, layer in self.layers.items()}
            kept = self._percolate(self._remove(before, step))
            updates = self._write(before, self._regrow(kept, step))
        for layer in self.layers.values():
            layer.capture_dense_grad, layer.dense_grad = False, None
        return updates

    def _progress(self, step: int) -> float:
        return step / self.stop_step

    def _links(self, name: str, mask: Tensor, rule: Rule, *purpose: object) -> Links:
        """One layer as a rule sees it."""
        layer = self.layers[name]
        generator = generator_for(layer.values.device, self.config.seed, *purpose, name)
        grad = None
        if rule.reads == "grad" and layer.values.grad is not None:
            grad = layer.scatter(layer.values.grad)
        elif rule.reads == "dense_grad":
            grad = _reduced(layer.dense_grad)
        return Links(layer.to_dense() * mask, mask, generator, grad)

    def _remove(self, before: Masks, step: int) -> Masks:
        """Links that survive removal: all but a share zeta, and no more than the target."""
        assert self.removal is not None
        progress, config = self._progress(step), self.config
        zeta = ZETA[config.zeta_schedule or "constant"](progress, config.zeta or 0.0)
        softness = config.removal_exponent
        exponent = _exponent(softness, progress)
        targets = self._targets(step)
        kept = {}
        for name, mask in before.items():
            links = self._links(name, mask, self.removal, "removal", step)
            n_active = min(int(mask.sum()), targets[name])
            n_kept = n_active - int(zeta * n_active) if self.regrowth else n_active
            scores = self.removal.function(links)
            kept[name] = choose(scores, mask, n_kept, links.generator, exponent)
        return kept

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
            _move_links(layer, structure.positions_of(mask), self.optimizer)
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


def _reduced(dense_grad: Tensor | None) -> Tensor | None:
    """The dense gradient summed over all ranks."""
    if dense_grad is not None and torch.distributed.is_initialized():
        torch.distributed.all_reduce(dense_grad)
    return dense_grad


def optimizer_state(
    optimizer: torch.optim.Optimizer, values: nn.Parameter
) -> list[tuple[str, Tensor]]:
    """The tensors an optimizer keeps for a parameter, single numbers such as steps left out."""
    state: dict[str, Any] = optimizer.state.get(values, {})
    tensors = ((key, item) for key, item in state.items() if isinstance(item, Tensor))
    return [(key, item) for key, item in tensors if item.dim() > 0 and item.numel() != 1]


def _refuse_foreign_state(
    optimizer: torch.optim.Optimizer, layers: dict[str, SparseLinear]
) -> None:
    for name, layer in layers.items():
        for key, tensor in optimizer_state(optimizer, layer.values):
            if tensor.shape != layer.values.shape:
                raise ValueError(
                    f"{type(optimizer).__name__} keeps {key!r} of shape {tuple(tensor.shape)} for "
                    f"the {layer.nnz} links of {name}: links can move only with an optimizer whose "
                    "state has one number a link (SGD, Adam, AdamW, Adagrad, RMSprop, Adafactor)"
                )


def _move_links(layer: SparseLinear, positions: Tensor, optimizer: torch.optim.Optimizer) -> None:
    """Put the links at ``positions``: those that stay keep weight and state, new ones have 0."""
    old = layer.positions
    place = torch.searchsorted(old, positions).clamp_max_(old.numel() - 1)
    stays = old[place] == positions
    source = place[stays]

    def carried(data: Tensor) -> Tensor:
        moved = data.new_zeros(positions.numel())
        moved[stays] = data[source]
        return moved

    state = {key: carried(data) for key, data in optimizer_state(optimizer, layer.values)}
    layer.set_links(positions, carried(layer.values.detach()))
    for key, data in state.items():
        optimizer.state[layer.values][key] = data
