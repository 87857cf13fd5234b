"""A layer as a bipartite network: input neurons on one side, output neurons on the other.

Every measure of this package takes a mask of shape (out, in), True where the link from input to
output is active, and returns a number, a small record of numbers, or :class:`Undefined` where
the quantity does not exist. None returns NaN.
"""

from __future__ import annotations

from dataclasses import dataclass

import networkx as nx
import numpy as np
import scipy.sparse as sp
from jaxtyping import Bool
from numpy.typing import ArrayLike

Mask = Bool[np.ndarray, "out in"]


@dataclass(frozen=True)
class Undefined:
    """A measure that does not exist for a network. It is falsy.

    Attributes:
        reason: Why, as a clause: ``"the layer has no link"``.
    """

    reason: str

    def __bool__(self) -> bool:
        return False

    def __str__(self) -> str:
        return f"not defined: {self.reason}"


def check_mask(mask: ArrayLike) -> Mask:
    """The mask as a numpy array, after a look at its type and shape.

    Args:
        mask: Boolean, shape (out, in), True for an active link: a numpy array, a torch tensor on
            the CPU or nested lists.

    Returns:
        The same values; no copy where none is needed.

    Raises:
        TypeError: If it is not boolean.
        ValueError: If it has not two dimensions, or has no input or no output neuron.
    """
    array = np.asarray(mask)
    if array.dtype != np.bool_:
        raise TypeError(f"a mask is boolean, got {array.dtype}; compare first: weight != 0")
    if array.ndim != 2 or 0 in array.shape:
        raise ValueError(f"a mask has the shape (out, in), both at least 1, got {array.shape}")
    return array


def to_graph(mask: ArrayLike, *, drop_isolated: bool = True) -> nx.Graph:
    """The layer as an undirected networkx graph.

    Args:
        mask: Active links, boolean, shape (out, in).
        drop_isolated: Whether to leave out neurons without a link.

    Returns:
        Nodes ``("in", i)`` with attribute ``bipartite=0`` and ``("out", o)`` with ``bipartite=1``,
        inputs first, each side in its order.
    """
    links = check_mask(mask)
    outputs, inputs = np.nonzero(links)
    n_out, n_in = links.shape
    in_nodes = np.unique(inputs) if drop_isolated else np.arange(n_in)
    out_nodes = np.unique(outputs) if drop_isolated else np.arange(n_out)
    graph = nx.Graph()
    graph.add_nodes_from((("in", i) for i in in_nodes.tolist()), bipartite=0)
    graph.add_nodes_from((("out", o) for o in out_nodes.tolist()), bipartite=1)
    pairs = zip(inputs.tolist(), outputs.tolist(), strict=True)
    graph.add_edges_from((("in", i), ("out", o)) for i, o in pairs)
    return graph


def adjacency(mask: ArrayLike) -> sp.csr_array:
    """The layer as one symmetric matrix, isolated neurons included.

    Returns:
        int32 zeros and ones, shape (in + out, in + out); input i is node i, output o is node
        in + o.
    """
    links = sp.csr_array(check_mask(mask), dtype=np.int32)
    return sp.csr_array(sp.block_array([[None, links.T], [links, None]], format="csr"))
