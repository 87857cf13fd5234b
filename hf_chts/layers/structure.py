"""Ways to write down which links are active: masks, sorted positions, CSR, and packed bits.

A *position* is the flat index ``o * in_features + i`` of the link i -> o. Positions are always
sorted and distinct, so that two topologies of one layer can be merged by binary search.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Int, UInt8
from torch import Tensor

INT16_COLUMNS = 2**15
"""Widths up to this keep their column indices in 16 bits."""


def column_dtype(in_features: int) -> torch.dtype:
    """The narrowest integer type that holds a column index of a layer this wide."""
    return torch.int16 if in_features <= INT16_COLUMNS else torch.int32


def positions_of(mask: Bool[Tensor, "out in"]) -> Int[Tensor, " n_links"]:
    """Sorted positions of the active links."""
    return mask.flatten().nonzero().squeeze(1)


def to_csr(
    positions: Int[Tensor, " n_links"], out_features: int, in_features: int
) -> tuple[Int[Tensor, " pointers"], Int[Tensor, " n_links"]]:
    """Row pointers (int32) and column indices (int16 or int32) of sorted positions.

    Raises:
        ValueError: If the positions are out of range, out of order or repeated.
    """
    size = out_features * in_features
    if positions.numel() and (
        int(positions[0]) < 0 or int(positions[-1]) >= size or bool((positions.diff() <= 0).any())
    ):
        raise ValueError(f"positions of links must be distinct, sorted and in [0, {size})")
    rows = torch.div(positions, in_features, rounding_mode="floor")
    edges = torch.arange(out_features + 1, device=positions.device)
    crow = torch.searchsorted(rows, edges).to(torch.int32)
    return crow, (positions - rows * in_features).to(column_dtype(in_features))


def from_csr(
    crow: Int[Tensor, " pointers"], col: Int[Tensor, " n_links"], in_features: int
) -> Int[Tensor, " n_links"]:
    """Sorted positions (int64) of row pointers and column indices."""
    rows = torch.arange(crow.numel() - 1, device=crow.device)
    starts = torch.repeat_interleave(rows * in_features, crow.diff(), output_size=col.numel())
    return starts + col


def check_csr(crow: Tensor, col: Tensor, out_features: int, in_features: int) -> str | None:
    """What is wrong with indices that came from outside; None if they are sound."""
    if crow.shape != (out_features + 1,) or col.dim() != 1:
        return (
            f"expected {out_features + 1} row pointers and a list of columns; "
            f"got shapes {tuple(crow.shape)} and {tuple(col.shape)}"
        )
    if not {crow.dtype, col.dtype} <= {torch.int16, torch.int32, torch.int64}:
        return f"indices must be signed integers; got {crow.dtype} and {col.dtype}"
    crow = crow.long()  # differences of 32-bit numbers could wrap around
    if int(crow[0]) != 0 or int(crow[-1]) != col.numel() or bool((crow.diff() < 0).any()):
        return f"row pointers must rise from 0 to the number of links, {col.numel()}"
    if col.numel() and (int(col.min()) < 0 or int(col.max()) >= in_features):
        return f"columns must lie in [0, {in_features}); got {int(col.min())} to {int(col.max())}"
    if bool((from_csr(crow, col, in_features).diff() <= 0).any()):
        return "columns must rise within each row: a link is out of order or stored twice"
    return None


def pack(mask: Bool[Tensor, "out in"]) -> UInt8[Tensor, " bytes"]:
    """One bit a link, eight links a byte, lowest bit first."""
    bytes_of_bits = torch.nn.functional.pad(mask.flatten(), (0, -mask.numel() % 8))
    # Eight bytes of 0 or 1, taken as one number: byte i is at bit 8 i, and times 2 ** (56 - 7 i)
    # at bit 56 + i. No two of the other products meet, so nothing is carried.
    eights = bytes_of_bits.view(torch.int64) * 0x0102040810204080
    return (eights >> 56).to(torch.uint8)


def unpack(
    packed: UInt8[Tensor, " bytes"], out_features: int, in_features: int
) -> Bool[Tensor, "out in"]:
    """The mask that :func:`pack` wrote down."""
    shifts = torch.arange(8, dtype=torch.uint8, device=packed.device)
    bits = (packed[:, None] >> shifts) & 1
    flat = bits.flatten()[: out_features * in_features]
    return flat.bool().view(out_features, in_features)


def count_bits(packed: UInt8[Tensor, " bytes"]) -> int:
    """Number of set bits."""
    counts = torch.stack([((packed >> bit) & 1).sum() for bit in range(8)])
    return int(counts.sum())  # a GPU is waited for once
