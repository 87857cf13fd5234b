"""The surgery: idle units leave their layers, and constants move into the next bias."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from hf_chts.compaction.sites import Site
from hf_chts.layers.sparse_linear import SparseLinear


def take_out(model: nn.Module, site: Site) -> bool:
    """Take the idle units of one site out of the layers around it.

    Args:
        model: The model; its layers are replaced by smaller ones.
        site: One of its sites, as it is now.

    Returns:
        Whether there were idle units. One unit always stays.
    """
    if site.sink is None:
        return False
    layers = {p.layer: _sparse(model, p.layer) for p in (*site.sources, site.sink)}
    idle, constants = (_idle_neurons if site.unit == "neurons" else _idle_heads)(layers, site)
    if bool(idle.all()):
        idle[0] = False
    if not bool(idle.any()):
        return False
    rows = {
        p.layer: torch.ones(layers[p.layer].out_features, dtype=torch.bool) for p in site.sources
    }
    for part in site.sources:
        rows[part.layer][part.units[idle].flatten()] = False
    for name, kept in rows.items():
        model.set_submodule(name, _part_of(layers[name], rows=kept))
    sink = layers[site.sink.layer]
    columns = torch.ones(sink.in_features, dtype=torch.bool)
    columns[site.sink.units[idle].flatten()] = False
    folded = sink.to_dense().double().cpu() @ (constants * ~columns)
    model.set_submodule(site.sink.layer, _part_of(sink, columns=columns, added=folded))
    return True


def _idle_neurons(
    layers: Mapping[str, SparseLinear], site: Site
) -> tuple[Bool[Tensor, " units"], Float[Tensor, " inputs"]]:
    """Which feed-forward neurons do nothing, and the constants that neurons give their sink."""
    assert site.sink is not None
    assert site.activation is not None
    before = [layers[part.layer] for part in site.sources]
    constant = torch.stack([~_has_inputs(layer) for layer in before])
    value = torch.stack([_bias(layer) for layer in before])
    value[0] = site.activation(value[0])
    always_zero = (constant & (value == 0)).any(0)
    fixed = constant.all(0) | always_zero
    idle = fixed | ~_has_outputs(layers[site.sink.layer])
    return idle, torch.where(constant.all(0), value.prod(0), 0.0)


def _idle_heads(
    layers: Mapping[str, SparseLinear], site: Site
) -> tuple[Bool[Tensor, " units"], Float[Tensor, " inputs"]]:
    """Which heads do nothing, and the constants that their values give the output layer."""
    assert site.sink is not None
    value, sink = site.sources[2], layers[site.sink.layer]
    constant = ~_has_inputs(layers[value.layer])[value.units]
    n_heads, size = constant.shape
    read = _has_outputs(sink)[site.sink.units].view(n_heads, -1, size)
    idle = (constant | ~read.any(1)).all(1)
    bias = torch.where(constant, _bias(layers[value.layer])[value.units], 0.0)
    return idle, bias[:, None].expand_as(read).flatten()


def _sparse(model: nn.Module, name: str) -> SparseLinear:
    layer = model.get_submodule(name)
    assert isinstance(layer, SparseLinear)
    return layer


def _has_inputs(layer: SparseLinear) -> Bool[Tensor, " out"]:
    """Which output neurons have incoming links."""
    return layer.crow_indices.diff().cpu() > 0


def _has_outputs(layer: SparseLinear) -> Bool[Tensor, " inputs"]:
    """Which input neurons have outgoing links."""
    counts = torch.bincount(layer.col_indices.cpu().long(), minlength=layer.in_features)
    return counts > 0


def _bias(layer: SparseLinear) -> Float[Tensor, " out"]:
    """The bias in double precision, 0 where there is none."""
    if layer.bias is None:
        return torch.zeros(layer.out_features, dtype=torch.float64)
    return layer.bias.detach().cpu().double()


def _part_of(
    layer: SparseLinear,
    rows: Bool[Tensor, " out"] | None = None,
    columns: Bool[Tensor, " inputs"] | None = None,
    added: Float[Tensor, " out"] | None = None,
) -> SparseLinear:
    """A layer of some of the output and input neurons, with something added to the bias."""
    device = layer.values.device
    rows = torch.ones(layer.out_features, dtype=torch.bool) if rows is None else rows
    columns = torch.ones(layer.in_features, dtype=torch.bool) if columns is None else columns
    bias = _bias(layer) if added is None else _bias(layer) + added
    positions = layer.positions.cpu()
    row, column = positions // layer.in_features, positions % layer.in_features
    kept = rows[row] & columns[column]
    made = SparseLinear(
        int(columns.sum()),
        int(rows.sum()),
        int(kept.sum()),
        layer.bias is not None or bool(bias.any()),
        kernel=layer.kernel,
        dense_class=layer.dense_class,
        device=device,
        dtype=layer.values.dtype,
    )
    row, column = (rows.cumsum(0) - 1)[row[kept]], (columns.cumsum(0) - 1)[column[kept]]
    positions = (row * made.in_features + column).to(device)
    made.set_links(positions, layer.values.detach()[kept.to(device)])
    made.values.requires_grad_(layer.values.requires_grad)
    if made.bias is not None:
        made.bias.copy_(bias[rows])
        made.bias.requires_grad_(
            layer.values.requires_grad if layer.bias is None else layer.bias.requires_grad
        )
    for parameter in made.parameters():
        parameter._is_hf_initialized = True
    made.resting = layer.resting
    return made.train(layer.training)
