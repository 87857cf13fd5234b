"""Communities: groups of inputs and outputs with more links among each other than by chance."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp
from jaxtyping import Float, Int
from numpy.typing import ArrayLike
from sknetwork.clustering import Louvain

from hf_chts.analysis.network import Undefined, check_mask


@dataclass(frozen=True)
class Modularity:
    """How far a partition's links exceed what degrees alone would give.

    Attributes:
        barber: Against random two-mode networks of the same degrees, in [-1, 1). The one to
            report for a layer.
        newman: Against random networks that ignore the two sides, in [-1/2, 1).
    """

    barber: float
    newman: float


@dataclass(frozen=True)
class Communities:
    """A partition of a layer's linked neurons.

    Attributes:
        inputs: Community of each input neuron, from 0 (the largest); -1 for isolated neurons.
        outputs: Likewise for output neurons.
        sizes: Neurons of each community, both sides together, falling.
        modularity: Of this partition.
    """

    inputs: Int[np.ndarray, " in"]
    outputs: Int[np.ndarray, " out"]
    sizes: tuple[int, ...]
    modularity: Modularity


def communities(mask: ArrayLike, *, n_starts: int = 5, seed: int = 0) -> Communities | Undefined:
    """Find communities by the Louvain method on Barber's modularity, the best of some starts.

    A random layer has a modularity well above 0 too: compare with null models.

    Source: Blondel et al., Journal of Statistical Mechanics, 2008; Barber, Physical Review E 76,
    2007.

    Args:
        mask: Active links, boolean, shape (out, in).
        n_starts: Orders of the neurons to try; the partition of largest modularity is kept.
        seed: Of the orders.

    Raises:
        ValueError: If ``n_starts`` is below 1.
    """
    links = check_mask(mask)
    if n_starts < 1:
        raise ValueError(f"n_starts is at least 1, got {n_starts}")
    linked_out, linked_in = links.any(axis=1), links.any(axis=0)
    if not linked_out.any():
        return Undefined("the layer has no link")
    part = links[linked_out][:, linked_in]
    matrix, found = sp.csr_matrix(part), []
    for start in np.random.SeedSequence(seed).generate_state(n_starts):
        louvain = Louvain(
            modularity="dugue",  # on a two-mode network, Barber's
            tol_optimization=1e-5,
            tol_aggregation=1e-5,
            shuffle_nodes=True,
            return_probs=False,
            return_aggregate=False,
            random_state=int(start),
        )
        louvain.fit(matrix, force_bipartite=True)
        value = _modularity(part, louvain.labels_col_, louvain.labels_row_)
        found.append((value.barber, value, louvain.labels_col_, louvain.labels_row_))
    _, best, in_labels, out_labels = max(found, key=lambda item: item[0])
    sizes = np.bincount(np.concatenate([in_labels, out_labels]))
    rank = np.empty_like(sizes)
    rank[np.argsort(-sizes, kind="stable")] = np.arange(sizes.size)
    inputs, outputs = np.full(links.shape[1], -1), np.full(links.shape[0], -1)
    inputs[linked_in], outputs[linked_out] = rank[in_labels], rank[out_labels]
    return Communities(inputs, outputs, tuple(sorted(sizes.tolist(), reverse=True)), best)


def modularity(mask: ArrayLike, inputs: ArrayLike, outputs: ArrayLike) -> Modularity | Undefined:
    """Modularity of a given partition of a layer's neurons.

    With m links, L_c of them inside community c, and a_c and b_c links at its inputs and outputs,
    ``barber = sum of L_c / m - a_c b_c / m^2`` and
    ``newman = sum of L_c / m - ((a_c + b_c) / 2m)^2``.

    Source: Barber, Physical Review E 76, 2007; Newman and Girvan, Physical Review E 69, 2004.

    Args:
        mask: Active links, boolean, shape (out, in).
        inputs: Community of each input neuron, integers; any number for isolated neurons.
        outputs: Likewise for output neurons.

    Raises:
        TypeError: If the communities are not integers.
        ValueError: If there is not one for each neuron.
    """
    links = check_mask(mask)
    in_labels, out_labels = np.asarray(inputs), np.asarray(outputs)
    for labels in (in_labels, out_labels):
        if not np.issubdtype(labels.dtype, np.integer):
            raise TypeError(f"communities are integers, got {labels.dtype}")
    if (*out_labels.shape, *in_labels.shape) != links.shape:
        raise ValueError(
            f"a mask of shape {links.shape} needs {links.shape[1]} input and {links.shape[0]} "
            f"output communities, got shapes {in_labels.shape} and {out_labels.shape}"
        )
    if not links.any():
        return Undefined("the layer has no link")
    return _modularity(links, in_labels, out_labels)


def _modularity(
    links: np.ndarray, in_labels: Int[np.ndarray, " in"], out_labels: Int[np.ndarray, " out"]
) -> Modularity:
    names, both = np.unique(np.concatenate([in_labels, out_labels]), return_inverse=True)
    in_index, out_index = both[: in_labels.size], both[in_labels.size :]
    out_ends, in_ends = np.nonzero(links)
    n_links = out_ends.size
    inside = np.count_nonzero(out_index[out_ends] == in_index[in_ends]) / n_links

    def share(index: Int[np.ndarray, " ends"]) -> Float[np.ndarray, " communities"]:
        return np.bincount(index, minlength=names.size) / n_links

    a, b = share(in_index[in_ends]), share(out_index[out_ends])
    return Modularity(
        barber=float(inside - a @ b), newman=float(inside - np.sum(((a + b) / 2) ** 2))
    )
