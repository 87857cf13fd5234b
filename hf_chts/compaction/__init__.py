"""Take inactive neurons and empty heads out of a sparse model, without changing its outputs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from hf_chts.compaction.report import CompactionReport, CompactionRow
from hf_chts.compaction.sites import Site, find_sites, fit_heads
from hf_chts.compaction.take_out import take_out
from hf_chts.config import SparsityConfig
from hf_chts.layers.sparse_linear import SparseLinear, sparse_layers
from hf_chts.network.wiring import hidden_groups
from hf_chts.patching import remember
from hf_chts.rules.percolation import active_neuron_rate, percolate


@torch.no_grad()
def compact(model: nn.Module) -> CompactionReport:
    """Take out feed-forward neurons and attention heads that do nothing, in place.

    A feed-forward neuron goes when it has no outgoing links, or no incoming ones: it is a constant
    then, which the next layer's bias takes over (and a layer without one gets one, if the constant
    is not 0). With a gate, it goes when gate and up are both constant or one of them is always 0.
    A head goes when each of its value neurons has no incoming or no outgoing links; a constant
    value passes attention unchanged, since its weights sum to 1. Query and key neurons alone
    free no head: it would still attend, evenly. One neuron and one head always stay. The
    residual stream is never touched.

    In evaluation mode outputs stay the same, but at padding: positions that may attend nowhere
    get no weights that sum to 1 in some attention kernels, and nothing reads them. While training
    with dropout on attention weights or activations, folded constants are no longer dropped.

    Make optimizers afterwards, since layers and their parameters are new. Topology updates hold
    layers to the configured sparsity, of what they are now: to go on with as many links, train
    with ``dataclasses.replace(model.sparsity_config, sparsity=report.sparsity)``.
    A compacted model is saved and loaded like any sparse model. After ``densify`` it works, but
    its layers no longer have the sizes in its ``config.json``, and so it cannot be loaded again.

    Args:
        model: A model after :func:`hf_chts.sparsify`, trained or not.

    Returns:
        What was taken out, and why not more; print it.

    Raises:
        TypeError: If it is no ``torch.nn.Module``.
        ValueError: If the model is not sparse.
    """
    if not isinstance(model, nn.Module):
        raise TypeError(f"compaction takes a torch.nn.Module, got {type(model).__name__}")
    config = getattr(model, "sparsity_config", None)
    layers = sparse_layers(model)
    if not layers or config is None:
        raise ValueError("the model is not sparse: call hf_chts.sparsify(model, config) first")
    sites, rate = find_sites(model), _active_rate(model)
    built = {name: _shape(layer) for name, layer in layers.items()}
    parameters, links = _parameters(model), _links(model)
    changed = True
    while changed:  # a perceptron's neurons may have had links to the next layer's idle ones only
        changed = sum(take_out(model, site) for site in find_sites(model)) > 0
        fit_heads(model)
    remember_compacted(model, config, _differing(model, built))
    return CompactionReport(
        _rows(model, sites),
        parameters,
        _parameters(model),
        links,
        _links(model),
        sum(x.out_features * x.in_features for x in sparse_layers(model).values()),
        rate,
    )


def remember_compacted(
    model: nn.Module, config: SparsityConfig, compacted: Mapping[str, Any]
) -> None:
    """Leave the configuration where it is found, with the layers that are not as built.

    Args:
        model: A sparse model.
        config: Its configuration.
        compacted: By layer name, a mapping of ``dense_shape`` (the shape by the architecture)
            and ``bias`` (whether it has one).
    """
    remember(model, config)
    written = getattr(getattr(model, "config", None), "quantization_config", None)
    if compacted and isinstance(written, dict):
        written["compacted"] = dict(compacted)


def _differing(model: nn.Module, built: Mapping[str, Any]) -> dict[str, Any]:
    """The layers that are not as the architecture builds them, now or since earlier."""
    written = getattr(getattr(model, "config", None), "quantization_config", None)
    earlier = written.get("compacted", {}) if isinstance(written, dict) else {}
    differing = {}
    for name, layer in sparse_layers(model).items():
        if name in earlier or _shape(layer) != built[name]:
            shape = earlier[name]["dense_shape"] if name in earlier else built[name][:2]
            differing[name] = {"dense_shape": list(shape), "bias": layer.bias is not None}
    return differing


def _shape(layer: SparseLinear) -> tuple[int, int, bool]:
    return layer.out_features, layer.in_features, layer.bias is not None


def _active_rate(model: nn.Module) -> float | None:
    groups = hidden_groups(model)
    masks = {name: layer.mask.cpu() for name, layer in sparse_layers(model).items()}
    return active_neuron_rate(percolate(masks, groups), groups) if groups else None


def _rows(model: nn.Module, before: list[Site]) -> tuple[CompactionRow, ...]:
    after = {site.name: site.count for site in find_sites(model)}
    rows = [CompactionRow(s.name, s.unit, s.count, after[s.name], s.reason) for s in before]
    known = {layer for site in before for layer in site.layers}
    unknown = [name for name in sparse_layers(model) if name not in known]
    reason = "what lies behind it is not known"
    return (*rows, *(CompactionRow(name, "layer", 0, 0, reason) for name in unknown))


def _parameters(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def _links(model: nn.Module) -> int:
    return sum(layer.nnz for layer in sparse_layers(model).values())
