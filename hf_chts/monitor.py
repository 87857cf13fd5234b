"""A callback that watches the links of a model while a Transformers trainer trains it."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Bool
from transformers import TrainerCallback

from hf_chts.analysis.degree import heterogeneity
from hf_chts.analysis.history import overlaps, total
from hf_chts.analysis.network import Undefined
from hf_chts.analysis.neurons import ActiveNeurons, anp
from hf_chts.analysis.parts import by_part
from hf_chts.analysis.snapshots import (
    Groups,
    Snapshots,
    load_snapshots,
    pack,
    start_snapshots,
    unpack,
    write_snapshot,
)
from hf_chts.engine.budget import last_update
from hf_chts.layers import structure
from hf_chts.layers.sparse_linear import SparseLinear, sparse_layers
from hf_chts.methods import resolve
from hf_chts.network.wiring import hidden_groups
from hf_chts.rules.percolation import Group

if TYPE_CHECKING:
    from hf_chts.analysis.measures import Measure

Masks = dict[str, Bool[np.ndarray, "out in"]]

N_SNAPSHOTS = 10
"""About how many snapshots lie between the first and the last where nobody says how often."""


class TopologyMonitor(TrainerCallback):
    """Keeps snapshots of the links, and adds measures of the topology to the training logs.

    ::

        trainer = hf_chts.SparseSeq2SeqTrainer(..., callbacks=[TopologyMonitor()])

    Snapshots (:mod:`hf_chts.analysis.snapshots`) hold the start, the end, and steps between.
    After every topology update these figures join the trainer's logs, of all layers together
    (``topology_itop``) and of each part of the model (``topology_itop/encoder_feed-forward``), and
    reach TensorBoard, W&B and others by ``report_to``:

    - ``topology_density`` and ``topology_itop``: share of links active now, and ever so far;
    - ``topology_active_neurons``: share of neurons between layers that percolation would leave;
    - ``topology_overlap_start``: Jaccard overlap of the links with those of the start;
    - ``topology_input_heterogeneity`` and ``topology_output_heterogeneity``: ``<k^2> / <k>^2`` of
      the degrees of input and of output neurons, mean over layers.

    Further measures are taken of every layer, and training waits for them; ``topology_mean_NAME``
    is their mean over layers. A figure that is undefined is left out. The trainer logs at once
    where there are figures, unless ``logging_strategy`` is ``no``. Nothing here changes what is
    trained. Of several processes the first one does it all. A model that was given the method
    ``dense`` is left alone; training of one that never went through ``sparsify`` is refused.
    """

    def __init__(
        self,
        folder: str | Path | None = None,
        *,
        snapshot_every: int | None = None,
        measures: Sequence[str] = (),
        measure_every: int | None = None,
    ) -> None:
        """Choose what to watch.

        Args:
            folder: Where ``network.json`` and ``snapshots/`` go; None for the trainer's output
                folder. A run that starts anew deletes the snapshots that lie there; one that
                resumes, those from after its checkpoint.
            snapshot_every: Optimizer steps between snapshots; None for about ten in all, right
                after topology updates.
            measures: Further measures: names in :data:`hf_chts.analysis.measures.MEASURES`.
            measure_every: Optimizer steps between those; None to take them with the snapshots.

        Raises:
            ValueError: If an interval is no integer of at least 1, a measure is not known, or
                ``measure_every`` is given without measures.
        """
        for name, every in (("snapshot_every", snapshot_every), ("measure_every", measure_every)):
            if every is not None and (type(every) is not int or every < 1):
                raise ValueError(f"{name} counts optimizer steps, at least 1; got {every!r}")
        if measure_every is not None and not measures:
            raise ValueError("measure_every needs measures: name some, or leave it out")
        self.folder = None if folder is None else Path(folder)
        self.snapshot_every, self.measure_every = snapshot_every, measure_every
        self.measures = _known(measures)
        self._figures: dict[str, float] = {}

    def take_figures(self) -> dict[str, float]:
        """What was measured since the last call; the trainer adds it to its logs."""
        figures, self._figures = self._figures, {}
        return figures

    def on_train_begin(
        self, args: Any, state: Any, control: Any, model: Any = None, **kwargs: Any
    ) -> None:
        """Describe the network, and take the snapshot of the start.

        Raises:
            ValueError: If the model never went through ``sparsify``.
        """
        config = getattr(model, "sparsity_config", None)
        if config is None:
            raise ValueError("the model is not sparse: call hf_chts.sparsify(model, config) first")
        self._layers = sparse_layers(model)
        self._figures.clear()
        self._interval = resolve(config).update_interval
        self._last_update = last_update(config, state.max_steps)
        n_updates = self._last_update // self._interval
        self._between = self._interval * max(1, round(n_updates / N_SNAPSHOTS))
        if not self._layers or not state.is_world_process_zero:
            return
        self._path = Path(args.output_dir) if self.folder is None else self.folder
        self._groups = groups_as_data(hidden_groups(model))
        shapes = {name: (x.out_features, x.in_features) for name, x in self._layers.items()}
        start_snapshots(self._path, shapes, self._groups, state.global_step)
        self._latest = {name: pack(mask) for name, mask in _masks(self._layers).items()}
        start = _first_masks(load_snapshots(self._path))
        if start is None:
            self._start = self._latest
            write_snapshot(self._path, state.global_step, self._latest)
        else:
            self._start = {name: pack(mask) for name, mask in start.items()}

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Look at the links where an update, a snapshot or a measure is due."""
        step = state.global_step
        updated = step <= self._last_update and step % self._interval == 0
        snapshot = self._is_due(step, self.snapshot_every)
        measured = self._is_due(step, self.measure_every or self.snapshot_every)
        measured = measured and bool(self.measures)
        if not self._layers or not (updated or snapshot or measured):
            return
        if args.logging_strategy != "no" and (updated or measured):
            control.should_log = True  # in every process: to log, they average the loss
        if not state.is_world_process_zero:
            return
        masks = _masks(self._layers)
        self._latest = {name: pack(mask) for name, mask in masks.items()}
        if snapshot:
            write_snapshot(self._path, step, self._latest)
        if updated:
            self._figures |= _named(self._state_of(masks))
        if measured:
            self._figures |= _named(self._measured(masks))

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Take the snapshot of the end: of the last step, even where the best model is back."""
        if self._layers and state.is_world_process_zero:
            write_snapshot(self._path, state.global_step, self._latest)

    def _is_due(self, step: int, every: int | None) -> bool:
        if every is None:
            return step <= self._last_update and step % self._between == 0
        return step % every == 0

    def _state_of(self, masks: Masks) -> dict[str, float | Undefined]:
        """The figures of every update, by name."""
        start = {name: unpack(self._start[name], mask.shape[1]) for name, mask in masks.items()}
        shared = overlaps(start, masks)
        neurons = anp(masks, self._groups).groups
        spread = {name: _heterogeneity(layer) for name, layer in self._layers.items()}
        explored = {name: _explored(layer) for name, layer in self._layers.items()}
        figures: dict[str, float | Undefined] = {}
        for label, names in _parts(masks).items():
            size = sum(masks[name].size for name in names)
            figures |= {
                f"density{label}": sum(self._layers[name].nnz for name in names) / size,
                f"itop{label}": sum(explored[name] for name in names) / size,
                f"overlap_start{label}": total(shared[name] for name in names).jaccard,
                f"input_heterogeneity{label}": _mean([spread[name][0] for name in names]),
                f"output_heterogeneity{label}": _mean([spread[name][1] for name in names]),
            }
        for label, names in _parts(neurons).items():
            figures[f"active_neurons{label}"] = ActiveNeurons(
                {name: neurons[name] for name in names}
            ).overall
        return figures

    def _measured(self, masks: Masks) -> dict[str, float | Undefined]:
        """The means over layers of the chosen measures, by name."""
        figures: dict[str, float | Undefined] = {}
        for measure in self.measures:
            values = {name: measure.function(mask, 0) for name, mask in masks.items()}
            for label, names in _parts(masks).items():
                figures[f"mean_{measure.name}{label}"] = _mean([values[name] for name in names])
        return figures


def _first_masks(snapshots: Snapshots) -> Masks | None:
    """The links of the first snapshot that can be read; None if there is none."""
    for step in snapshots.steps:
        try:
            return snapshots.masks(step)
        except ValueError as error:
            told = f"{error}: topology_overlap_start compares with the next links that are whole"
            warnings.warn(told, stacklevel=2)
    return None


def _known(measures: Sequence[str]) -> list[Measure]:
    if not measures:
        return []
    from hf_chts.analysis.measures import MEASURES  # needs the packages of the extra "analysis"

    if isinstance(measures, str):
        raise ValueError(f"measures takes a list of names; got {measures!r}")
    if unknown := sorted(set(measures) - set(MEASURES)):
        raise ValueError(f"no measure is called {unknown[0]}; there are {', '.join(MEASURES)}")
    return [MEASURES[name] for name in dict.fromkeys(measures)]


def _masks(layers: Mapping[str, SparseLinear]) -> Masks:
    return {name: layer.mask.cpu().numpy() for name, layer in layers.items()}


def groups_as_data(groups: Sequence[Group]) -> Groups:
    """Groups of neurons as ``network.json`` keeps them."""
    return [
        [
            [
                {
                    "layer": end.layer,
                    "axis": end.axis,
                    "index": None if end.index is None else end.index.tolist(),
                }
                for end in side
            ]
            for side in group
        ]
        for group in groups
    ]


def _parts(names: Iterable[str]) -> dict[str, list[str]]:
    """Names of all layers or groups, and by part of the model where there are several."""
    every = list(names)
    parts: dict[str, list[str]] = {}
    for name in every:
        stack, block = by_part(name)
        parts.setdefault(f"/{stack}_{block}", []).append(name)
    return {"": every, **(parts if len(parts) > 1 else {})}


def _heterogeneity(layer: SparseLinear) -> tuple[float | Undefined, float | Undefined]:
    """Of the input neurons' degrees, and of the output neurons'."""
    inputs = torch.bincount(layer.col_indices.long(), minlength=layer.in_features)
    outputs = layer.crow_indices.diff()
    return heterogeneity(inputs.cpu().numpy()), heterogeneity(outputs.cpu().numpy())


def _explored(layer: SparseLinear) -> int:
    return layer.nnz if layer.explored is None else structure.count_bits(layer.explored)


def _mean(values: Sequence[float | Undefined]) -> float | Undefined:
    known = [value for value in values if not isinstance(value, Undefined)]
    return sum(known) / len(known) if known else Undefined("it is undefined in every layer")


def _named(figures: Mapping[str, float | Undefined]) -> dict[str, float]:
    """The figures that exist, under the names they have in logs."""
    known = {k: v for k, v in figures.items() if not isinstance(v, Undefined)}
    return {f"topology_{name}": float(value) for name, value in known.items()}
