"""All layers of a model as one network, joined where neurons of one layer feed another.

Masks are a mapping of layer names to boolean arrays of shape (out, in), groups the sets of neurons
between layers (:mod:`hf_chts.analysis.neurons`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import networkx as nx
import numpy as np
import scipy.sparse as sp
from jaxtyping import Int
from numpy.typing import ArrayLike
from scipy.sparse.csgraph import connected_components

from hf_chts.analysis.network import Mask
from hf_chts.analysis.neurons import Group, check_groups, ends, neurons_of
from hf_chts.analysis.parts import by_part

_WRITERS = re.compile(
    r"\b(out_proj|o_proj|o|c_proj|output|output\.dense|fc2|linear2|wo|down_proj)$"
)
"""Layers of a block whose outputs are added to the residual stream; its other layers read it."""

_Axis = tuple[str, str]


@dataclass(frozen=True)
class WholeNetwork:
    """A directed network of the neurons of all layers; links point from inputs to outputs.

    Attributes:
        sets: Names of the sets of neurons: ``encoder stream``, or ``LAYER.out`` and ``LAYER.in``,
            neurons of several layers being listed with the first.
        neuron_set: The set of each neuron, a place in ``sets``.
        neuron_index: Its place in that set.
        n_ends: How many inputs and outputs of layers it joins; 1 where nothing is joined.
        layers: Names of the layers, in the order of the masks.
        source: The neuron each link comes from.
        target: The neuron it goes to.
        layer: The layer it belongs to, a place in ``layers``.
    """

    sets: tuple[str, ...]
    neuron_set: Int[np.ndarray, " neurons"]
    neuron_index: Int[np.ndarray, " neurons"]
    n_ends: Int[np.ndarray, " neurons"]
    layers: tuple[str, ...]
    source: Int[np.ndarray, " links"]
    target: Int[np.ndarray, " links"]
    layer: Int[np.ndarray, " links"]

    def adjacency(self) -> sp.csr_array:
        """Numbers of links from row to column, int32, shape (neurons, neurons).

        Above 1 where two layers link the same neurons, as query and key do.
        """
        shape = (self.neuron_set.size, self.neuron_set.size)
        ones = np.ones(self.source.size, dtype=np.int32)
        return sp.csr_array(sp.coo_array((ones, (self.source, self.target)), shape=shape))

    def to_graph(self, *, drop_isolated: bool = True) -> nx.DiGraph:
        """The network for networkx, for models of up to about a million links.

        ``networkx.write_graphml(network.to_graph(), path)`` writes it for Gephi or Cytoscape.

        Args:
            drop_isolated: Whether to leave out neurons without a link.

        Returns:
            Nodes ``SET[INDEX]`` with attributes ``set``, ``index`` and ``kind`` (``stream``,
            ``hidden`` between layers, or ``end``); edges with ``layers``, the layers whose links
            they are, and ``links``, their number.
        """
        sets = [self.sets[place] for place in self.neuron_set]
        indices = self.neuron_index.tolist()
        names = [f"{name}[{i}]" for name, i in zip(sets, indices, strict=True)]
        linked = np.zeros(len(names), dtype=bool)
        linked[self.source] = linked[self.target] = True
        graph = nx.DiGraph()
        for node in np.flatnonzero(linked | (not drop_isolated)).tolist():
            kind = "hidden" if self.n_ends[node] > 1 else "end"
            kind = kind if sets[node].endswith((".in", ".out")) else "stream"
            graph.add_node(names[node], set=sets[node], index=indices[node], kind=kind)
        for a, b, place in zip(self.source, self.target, self.layer, strict=True):
            pair, layer = (names[a], names[b]), self.layers[place]
            if graph.has_edge(*pair):
                graph.edges[pair]["layers"] += f" {layer}"
                graph.edges[pair]["links"] += 1
            else:
                graph.add_edge(*pair, layers=layer, links=1)
        return graph


def chain(
    masks: Mapping[str, ArrayLike], groups: Sequence[Group], *, join_streams: bool = True
) -> WholeNetwork:
    """Join the layers of a model to one network.

    Neurons between layers are joined one by one as the groups say: an output of the first
    feed-forward layer and the input of the second that it feeds are one neuron. Queries and keys
    that meet are one neuron, too, with links towards it alone.

    The residual stream of a stack is one set of neurons: skip connections carry neuron j of one
    block unchanged to neuron j of the next, so all layers that read or write the stream share its
    neurons, and cross-attention takes keys and values from the encoder's. A hub of the stream is
    then a hub of the model. The order of the blocks is lost, and links run in circles; where paths
    must keep that order (depth, credit assignment), use ``join_streams=False`` or the links'
    ``layer``. Layers of no known block read and write no stream.

    Source: the residual stream as the channel that all blocks share: Elhage et al., *A Mathematical
    Framework for Transformer Circuits*, 2021.

    Args:
        masks: Active links by layer name, boolean, shape (out, in).
        groups: Neurons between these layers; see :mod:`hf_chts.analysis.neurons`.
        join_streams: Whether layers on one residual stream share its neurons; if not, their ends
            there are neurons of their own.

    Raises:
        TypeError: If a mask is not boolean.
        ValueError: If there is no mask, a mask is not two-dimensional, or a group does not fit.
    """
    links = check_groups(masks, groups)
    if not links:
        raise ValueError("there is nothing to join: give the mask of at least one layer")
    on_stream = _on_stream(links) if join_streams else {}
    sizes: dict[_Axis, int] = {stream: _size(axis, links) for axis, stream in on_stream.items()}
    sizes |= {(name, axis): _size((name, axis), links) for name in links for axis in ("in", "out")}
    starts = dict(zip(sizes, np.cumsum([0, *sizes.values()]).tolist(), strict=False))
    joints = [
        (starts[axis] + np.arange(sizes[axis]), starts[stream] + np.arange(sizes[axis]))
        for axis, stream in on_stream.items()
    ]
    for group in groups:
        first, *others = (
            starts[end["layer"], end["axis"]] + neurons_of(end, links) for end in ends(group)
        )
        joints += [(first, other) for other in others]
    neuron, first_end = _merge(sum(sizes.values()), joints)
    set_of = np.repeat(np.arange(len(sizes)), list(sizes.values()))
    index = np.concatenate([np.arange(size) for size in sizes.values()])
    of_layer = np.repeat([axis != "" for _, axis in sizes], list(sizes.values()))
    source, target, layer = _links(links, starts)
    return WholeNetwork(
        sets=tuple(f"{name}.{axis}" if axis else name for name, axis in sizes),
        neuron_set=set_of[first_end],
        neuron_index=index[first_end],
        n_ends=np.bincount(neuron[of_layer], minlength=first_end.size),
        layers=tuple(links),
        source=neuron[source],
        target=neuron[target],
        layer=layer,
    )


def _on_stream(masks: Mapping[str, Mask]) -> dict[_Axis, _Axis]:
    """The residual stream that each layer's inputs or outputs are neurons of."""
    found: dict[_Axis, _Axis] = {}
    widths: dict[str, int] = {}
    for name in masks:
        stack, block = by_part(name)
        if block == "other":
            continue
        writes = _WRITERS.search(name) is not None
        if block == "cross-attention" and not writes and not re.search(r"\bq\w*$", name):
            stack = "encoder"
        axis = (name, "out" if writes else "in")
        width = _size(axis, masks)
        stream = "stream" if stack == "other" else f"{stack} stream"
        if widths.setdefault(stream, width) != width:  # behind a projection
            stream = f"{stream} of width {width}"
        found[axis] = (stream, "")
    return found


def _size(axis: _Axis, masks: Mapping[str, Mask]) -> int:
    return int(masks[axis[0]].shape[axis[1] == "in"])


def _merge(
    n_ends: int, joints: list[tuple[np.ndarray, np.ndarray]]
) -> tuple[Int[np.ndarray, " ends"], Int[np.ndarray, " neurons"]]:
    """The neuron of each end, and the first end of each neuron, neurons in the order of ends."""
    a, b = (np.concatenate([np.zeros(0, int), *(pair[i] for pair in joints)]) for i in (0, 1))
    pairs = sp.coo_array((np.ones(a.size, dtype=bool), (a, b)), shape=(n_ends, n_ends))
    _, label = connected_components(pairs, directed=False)
    _, first, inverse = np.unique(label, return_index=True, return_inverse=True)
    rank = np.empty(first.size, dtype=np.int64)
    rank[np.argsort(first)] = np.arange(first.size)
    return rank[inverse], np.sort(first)


def _links(
    masks: Mapping[str, Mask], starts: Mapping[_Axis, int]
) -> tuple[Int[np.ndarray, " links"], Int[np.ndarray, " links"], Int[np.ndarray, " links"]]:
    """The input end, the output end and the layer of all links."""
    sources, targets, layers = [], [], []
    for place, (name, mask) in enumerate(masks.items()):
        outputs, inputs = np.nonzero(mask)
        sources.append(starts[name, "in"] + inputs)
        targets.append(starts[name, "out"] + outputs)
        layers.append(np.full(outputs.size, place))
    return np.concatenate(sources), np.concatenate(targets), np.concatenate(layers)
