"""What topology updates did, layer by layer and in sum."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class LayerUpdate:
    """What one topology update did to one layer.

    Attributes:
        name: Qualified name of the layer.
        n_links: Active links afterwards.
        density: Share of links that are active, in [0, 1].
        removed: Links that were active before and are not now.
        regrown: Links that are active now and were not before.
        overlap: Share of the links that removal and percolation took which regrowth brought back
            at once, in [0, 1]; 0 where none was taken. Such links never left.
        itop: Share of links that were active at some time, in [0, 1]. Source: Liu et al., ICML
            2021, arXiv 2102.02887 (in-time over-parameterisation rate).
        active_neurons: Share of the layer's hidden neurons, on both sides, that percolation would
            leave active now, in [0, 1]; None where both sides are in the residual stream.
        seconds: Wall time of this update in this layer; what concerns all layers is shared evenly.
    """

    name: str
    n_links: int
    density: float
    removed: int
    regrown: int
    overlap: float
    itop: float
    active_neurons: float | None
    seconds: float


def summary(updates: Sequence[Sequence[LayerUpdate]]) -> dict[str, float]:
    """Figures of several updates for a log: sums over updates, states after the last one.

    Args:
        updates: Rows of each update, the last update at the end; not empty.

    Returns:
        Numbers by name. Density and ITOP rate are those of all layers together, the overlap is
        the mean over layers and updates.
    """
    last = updates[-1]
    sizes = [row.n_links / row.density for row in last]
    every = [row for rows in updates for row in rows]
    return {
        "topology_density": sum(row.n_links for row in last) / sum(sizes),
        "topology_removed": sum(row.removed for row in every),
        "topology_regrown": sum(row.regrown for row in every),
        "topology_overlap": sum(row.overlap for row in every) / len(every),
        "topology_itop": sum(r.itop * size for r, size in zip(last, sizes, strict=True))
        / sum(sizes),
        "topology_seconds": sum(row.seconds for row in every),
    }
