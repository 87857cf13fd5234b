"""Large matrices in blocks, so that a picture of them loses no link."""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float


def block_size(n_neurons: int, most: int) -> int:
    """Smallest number of neurons a block with which there are at most ``most`` blocks."""
    return -(-n_neurons // most)


def block_densities(
    mask: Bool[np.ndarray, "out in"], block: tuple[int, int]
) -> Float[np.ndarray, "rows columns"]:
    """Share of each block that is true, in [0, 1].

    Args:
        mask: Active links, or anything else that is true or not.
        block: Rows and columns of a block; those at the lower and right edge may be smaller.
    """
    starts = [np.arange(0, n, size) for n, size in zip(mask.shape, block, strict=True)]

    def sums(array: np.ndarray) -> np.ndarray:
        return np.add.reduceat(np.add.reduceat(array, starts[0], axis=0), starts[1], axis=1)

    sizes = [np.diff([*start, n]) for start, n in zip(starts, mask.shape, strict=True)]
    return np.asarray(sums(mask.astype(np.float64)) / np.outer(*sizes))
