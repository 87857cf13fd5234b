"""Matrices of links as small PNG images, a pixel for each link or for a block of them."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from hf_chts.analysis.blocks import block_densities, block_size
from hf_chts.report.saved_masks import Mask

MOST_PIXELS = 512
"""Of a side: matrices with more neurons on one are shown in square blocks."""
LEVELS = 16
"""Shades of a block, from no link to as many as the fullest block has."""
INK, KEPT, GROWN, REMOVED = (27, 28, 29), (138, 143, 150), (0, 114, 178), (213, 94, 0)


@dataclass(frozen=True)
class Picture:
    """An image for a page.

    Attributes:
        uri: The PNG as a ``data:`` address.
        width: Pixels.
        height: Pixels.
        block: (rows, columns) of the matrix that one pixel stands for.
    """

    uri: str
    width: int
    height: int
    block: tuple[int, int]


def matrix_picture(mask: Mask) -> Picture:
    """Active links, dark; of a large matrix the density of its blocks."""
    block = block_of(mask)
    if block == (1, 1):
        return _picture(mask.astype(np.uint8), [INK], block)
    return _picture(_levels(mask, block), _shades(), block)


def change_picture(before: Mask, after: Mask) -> Picture:
    """Links kept (grey), grown (blue) and removed (vermillion) between two snapshots.

    Of a large matrix, the later links alone.
    """
    block = block_of(after)
    if block != (1, 1):
        return _picture(_levels(after, block), _shades(), block)
    codes = (before & after) + 2 * (after & ~before) + 3 * (before & ~after)
    return _picture(codes.astype(np.uint8), [KEPT, GROWN, REMOVED], block)


def block_of(mask: Mask) -> tuple[int, int]:
    """Rows and columns of a mask that share a pixel, equally many, so that its shape stays."""
    size = block_size(max(mask.shape), MOST_PIXELS)
    return size, size


def _levels(mask: Mask, block: tuple[int, int]) -> UInt8[np.ndarray, "rows columns"]:
    density = block_densities(mask, block)
    levels = np.ceil(density / max(density.max(), 1e-12) * (LEVELS - 1))
    return np.asarray(levels, dtype=np.uint8)


def _shades() -> list[tuple[int, ...]]:
    return [(*INK, 255 * level // (LEVELS - 1)) for level in range(1, LEVELS)]


def _picture(
    codes: UInt8[np.ndarray, "rows columns"], colours: list[tuple[int, ...]], block: tuple[int, int]
) -> Picture:
    """An indexed PNG; code 0 is transparent, code ``c`` has the colour ``c - 1``."""
    image = Image.fromarray(codes, mode="P")
    opaque = [(*colour, 255)[:4] for colour in colours]
    image.putpalette([0, 0, 0, *(part for colour in opaque for part in colour[:3])])
    buffer = io.BytesIO()
    alpha = bytes([0, *(colour[3] for colour in opaque)])
    bits = 1 if len(colours) == 1 else 2 if len(colours) < 4 else 4
    image.save(buffer, "PNG", optimize=True, transparency=alpha, bits=bits)
    uri = "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")
    return Picture(uri, codes.shape[1], codes.shape[0], block)
