"""Layers that share one set of links, since they meet in the same hidden neurons."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from torch import Tensor, nn

from hf_chts.layers.sparse_linear import SparseLinear
from hf_chts.network.wiring import Sized, hidden_groups
from hf_chts.rules.percolation import Group


class Place(NamedTuple):
    """Where a layer finds its links.

    Attributes:
        lead: The layer that its links are chosen by, which may be itself.
        flipped: Whether they are the lead's with inputs and outputs exchanged.
    """

    lead: str
    flipped: bool

    def turned(self, tensor: Tensor) -> Tensor:
        """A matrix of the lead as one of this layer, or of this layer as one of the lead."""
        return tensor.t().contiguous() if self.flipped else tensor


def places(model: nn.Module, layers: Mapping[str, Sized], *, tied: bool) -> dict[str, Place]:
    """Where each layer finds its links: in itself, or tied to others in those of the first.

    Tied are the layers of a group of hidden neurons between residual streams: a query and its key;
    a value and its output projection; the layers of a feed-forward block. Seen from a hidden
    neuron they have one set of links, so that it reads and writes the same neurons of the residual
    stream. Layers stay by themselves that hold several of these or have other numbers of neurons,
    and those of an ``nn.Sequential``, which has no residual stream.

    Args:
        model: The model, sparse or about to be.
        layers: Its sparse layers by name, or their sizes.
        tied: Whether layers are tied.

    Raises:
        ValueError: If layers are to be tied, and there is no such group.
    """
    found = {name: Place(name, flipped=False) for name in layers}
    if not tied:
        return found
    groups = _tied_groups(model, layers)
    for (first, *_), *others in groups:
        for end, *_ in others:
            found[end.layer] = Place(first.layer, flipped=end.axis != first.axis)
    if not groups:
        raise ValueError(
            "tied_links finds no sparse layers that meet in hidden neurons, such as fc1 and fc2 or "
            "a query and its key: set tied_links to false"
        )
    return found


def layers_meet(model: nn.Module, layers: Mapping[str, Sized]) -> bool:
    """Whether there are layers that can be tied, as :func:`places` says."""
    return bool(_tied_groups(model, layers))


def refuse_untied(layers: Mapping[str, SparseLinear], where: Mapping[str, Place]) -> None:
    """Refuse links that differ where they are to be the same.

    Raises:
        ValueError: Naming the first two such layers.
    """
    others = {name: place for name, place in where.items() if place.lead != name}
    for name, place in others.items():
        if not layers[name].mask.equal(place.turned(layers[place.lead].mask)):
            raise ValueError(
                f"tied_links is set, and {name} and {place.lead} have other links: set it before "
                "hf_chts.sparsify draws them, or set it to false"
            )


def _tied_groups(model: nn.Module, layers: Mapping[str, Sized]) -> list[Group]:
    return [group for group in hidden_groups(model, layers) if _is_tied(model, layers, group)]


def _is_tied(model: nn.Module, layers: Mapping[str, Sized], group: Group) -> bool:
    if any(len(side) != 1 or side[0].index is not None for side in group):
        return False
    ends = [side[0] for side in group]
    sizes = set()
    for end in ends:
        layer, parent = layers[end.layer], end.layer.rpartition(".")[0]
        if isinstance(model.get_submodule(parent), nn.Sequential):
            return False
        size = (layer.out_features, layer.in_features)
        sizes.add(size if end.axis == "out" else size[::-1])
    return len(sizes) == 1
