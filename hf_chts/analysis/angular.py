"""How well communities keep apart on the circle of an embedding."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int
from numpy.typing import ArrayLike

from hf_chts.analysis.hyperbolic import Embedding
from hf_chts.analysis.network import Undefined


@dataclass(frozen=True)
class Separability:
    """The angular separation index of communities.

    Attributes:
        index: In [0, 1]; 1 if every community holds an arc of its own.
        p_value: Share of random arrangements at least as well separated, in (0, 1].
        mistakes: Per community, in the order of the labels sorted as text (10 before 2): nodes of
            others within it; a community of one node has none.
        worst: Mistakes of all communities in the worst random arrangement.
    """

    index: float
    p_value: float
    mistakes: tuple[int, ...]
    worst: int


def angular_separability(
    embedding: Embedding | ArrayLike,
    labels: Sequence[Hashable],
    *,
    n_permutations: int = 1000,
    seed: int = 0,
) -> Separability | Undefined:
    """Measure whether the nodes of each community lie beside each other on the circle.

    On the circle the nodes of a community leave gaps, filled by nodes of others. Its extremes
    are the two ends of its largest gap; the nodes of others in its remaining gaps are its
    *mistakes*. With the mistakes summed over the communities,
    ``index = max(0, 1 - mistakes / worst)``, where ``worst`` is the largest sum among
    ``n_permutations`` random arrangements of the labels, and
    ``p_value = (1 + arrangements with an index at least as large) / (1 + n_permutations)``.

    Source: Muscoloni, Cannistraci, arXiv:1907.00025, 2019, in two dimensions; the worst case as
    in the authors' published program.

    Args:
        embedding: An embedding, or the angles of its nodes, in radians.
        labels: The community of each node, in the order of ``embedding.nodes``.
        n_permutations: Random arrangements, at least 1.
        seed: Of the random arrangements.

    Raises:
        ValueError: If angles and labels differ in number, or ``n_permutations`` is not positive.
    """
    angle = embedding.angle if isinstance(embedding, Embedding) else np.asarray(embedding, float)
    if angle.shape != (len(labels),):
        raise ValueError(f"one label per node: got {len(labels)} labels, angles {angle.shape}")
    if n_permutations < 1:
        raise ValueError(f"n_permutations must be at least 1, got {n_permutations}")
    n_nodes, number = len(labels), {name: k for k, name in enumerate(sorted(set(labels), key=str))}
    if n_nodes < 4 or not 1 < len(number) < n_nodes:
        return Undefined(
            f"{len(number)} communities of {n_nodes} nodes; 4 nodes or more are needed"
            " and communities larger than one node, at least two"
        )
    community = np.array([number[name] for name in labels])
    around = community[np.argsort(angle % (2 * np.pi), kind="stable")]
    mistakes = _mistakes(around)
    rng = np.random.default_rng(seed)
    shuffled = [int(_mistakes(rng.permutation(around)).sum()) for _ in range(n_permutations)]
    worst = max(shuffled)
    if worst == 0:
        return Undefined("no arrangement of these communities has a mistake")
    total = min(int(mistakes.sum()), worst)
    as_good = sum(other <= total for other in shuffled)
    return Separability(
        index=1 - total / worst,
        p_value=(1 + as_good) / (1 + n_permutations),
        mistakes=tuple(mistakes.tolist()),
        worst=worst,
    )


def _mistakes(around: Int[np.ndarray, " nodes"]) -> Int[np.ndarray, " communities"]:
    """Mistakes of each community, from the communities met on the way round the circle."""
    size = np.bincount(around)
    last = np.cumsum(size) - 1
    first = last - size + 1
    place = np.argsort(around, kind="stable")
    to_next = np.append(place[1:], 0) - place - 1
    to_next[last] = place[first] + len(around) - place[last] - 1
    return len(around) - size - np.maximum.reduceat(to_next, first)
