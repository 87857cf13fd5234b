"""What a finished run's model and the log of its topology tell: its links, and operations."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from hf_chts.comparison.costs import Densities, TrainingCost, Workload, forward_cost
from hf_chts.config import SparsityConfig
from hf_chts.engine.budget import link_counts, reads
from hf_chts.engine.telemetry import LayerUpdate, summary
from hf_chts.layers.sparse_linear import SparseLinear, sparse_layers
from hf_chts.methods import resolve
from hf_chts.network.wiring import hidden_groups
from hf_chts.rules.percolation import Group, active_neuron_rate, percolate
from hf_chts.training.topology_log import LOG_FILE
from hf_chts.translation.recipe import load_recipe
from hf_chts.translation.run import load_model

Updates = dict[int, list[LayerUpdate]]
"""Topology updates, a row a layer, by step."""


def model_measures(
    path: Path, workload: Workload | None, steps: Sequence[int]
) -> tuple[dict[str, float], list[float]]:
    """Measure the model that a run has saved.

    Args:
        path: The run's folder.
        workload: An average training step; None to count no operations.
        steps: Steps of interest; the last one is the run's.

    Returns:
        Measures by name: ``trained_weights``; ``density``, ``itop`` and ``active_neurons`` in
        [0, 1], which dense models have not; and operations: ``training_flops_per_step`` (mean
        over the run), ``inference_flops_per_sentence`` and ``inference_flops_per_token`` (of the
        target). Then
        the operations of the training up to each step.

    Raises:
        ValueError: If a file is damaged; likewise OSError, KeyError and TypeError.
    """
    model, _ = load_model(path)
    layers, updates = sparse_layers(model), _read_updates(path / LOG_FILE)
    measures = _network_measures(layers, hidden_groups(model), updates)
    measures["trained_weights"] = float(
        sum(p.numel() for p in model.parameters() if p.requires_grad)
    )
    if workload is None:
        return measures, []
    config = resolve(load_recipe(path / "recipe.yaml").sparsity)
    stages = [(0, _first_densities(layers, config))]
    stages += [(s, {row.name: row.density for row in updates[s]}) for s in sorted(updates)]
    final = {name: layer.density for name, layer in layers.items()}
    forward = forward_cost(model, workload.source_tokens, workload.target_tokens)
    training = TrainingCost(forward, workload.pairs_per_step, stages, reads(config))
    flops = [training.until(step) for step in steps]
    measures["training_flops_per_step"] = flops[-1] / steps[-1]
    measures["inference_flops_per_sentence"] = forward.at(final)
    measures["inference_flops_per_token"] = forward.at(final) / workload.target_tokens
    return measures, flops


def _network_measures(
    layers: dict[str, SparseLinear], groups: Sequence[Group], updates: Updates
) -> dict[str, float]:
    if not layers:
        return {}
    size = sum(layer.in_features * layer.out_features for layer in layers.values())
    density = sum(layer.nnz for layer in layers.values()) / size
    last = updates[max(updates)] if updates else None
    explored = summary([last])["topology_itop"] if last else density
    measures = {"density": density, "itop": explored}
    if groups:
        masks = percolate({name: layer.mask for name, layer in layers.items()}, groups)
        measures["active_neurons"] = active_neuron_rate(masks, groups)
    return measures


def _read_updates(path: Path) -> Updates:
    """None where links never change."""
    updates: Updates = {}
    for line in path.read_text(encoding="utf-8").splitlines() if path.is_file() else []:
        row = json.loads(line)
        updates.setdefault(row.pop("step"), []).append(LayerUpdate(**row))
    return updates


def _first_densities(layers: dict[str, SparseLinear], config: SparsityConfig) -> Densities:
    """Densities before the first update."""
    if not layers:
        return {}
    shapes = {name: (layer.out_features, layer.in_features) for name, layer in layers.items()}
    counts = link_counts(shapes, config, 0.0)
    return {name: n / (shapes[name][0] * shapes[name][1]) for name, n in counts.items()}
