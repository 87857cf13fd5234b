"""Masks, positions, CSR and packed bits are four spellings of one thing."""

import re

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from hf_chts.layers import structure

masks = st.tuples(st.integers(1, 7), st.integers(1, 9), st.integers(0, 2**31)).map(
    lambda key: torch.rand(key[:2], generator=torch.Generator().manual_seed(key[2])) < 0.4
)


@given(masks)
def test_mask_positions_and_csr_are_equivalent(mask):
    positions = structure.positions_of(mask)
    crow, col = structure.to_csr(positions, *mask.shape)
    assert crow.dtype == torch.int32
    assert crow.tolist() == [0, *mask.sum(1).cumsum(0).tolist()]
    assert torch.equal(structure.from_csr(crow, col, mask.shape[1]), positions)
    assert structure.check_csr(crow, col, *mask.shape) is None
    again = torch.zeros(mask.numel(), dtype=torch.bool)
    again[positions] = True
    assert torch.equal(again.view(mask.shape), mask)


@given(masks)
def test_packed_bits_count_and_merge_like_masks(mask):
    packed = structure.pack(mask)
    assert packed.dtype == torch.uint8
    assert packed.numel() == -(-mask.numel() // 8)
    assert structure.count_bits(packed) == int(mask.sum())
    assert torch.equal(structure.unpack(packed, *mask.shape), mask)
    other = mask.flip(0)
    assert structure.count_bits(packed | structure.pack(other)) == int((mask | other).sum())


def test_a_case_by_hand():
    mask = torch.tensor([[False, True, True], [False, False, False], [True, False, False]])
    crow, col = structure.to_csr(structure.positions_of(mask), 3, 3)
    assert (crow.tolist(), col.tolist()) == ([0, 2, 2, 3], [1, 2, 0])
    assert structure.pack(mask).tolist() == [0b01000110, 0]


@pytest.mark.parametrize(
    ("width", "dtype"), [(2**15, torch.int16), (2**15 + 1, torch.int32), (5, torch.int16)]
)
def test_columns_take_the_narrowest_type_that_holds_them(width, dtype):
    assert structure.column_dtype(width) == dtype
    crow, col = structure.to_csr(torch.tensor([0, width - 1, 2 * width - 1]), 2, width)
    assert col.dtype == dtype
    assert col.tolist() == [0, width - 1, width - 1]
    assert structure.from_csr(crow, col, width).tolist() == [0, width - 1, 2 * width - 1]


@pytest.mark.parametrize("positions", [[3, 1], [1, 1], [-1, 2], [0, 6]])
def test_unsound_positions_are_refused(positions):
    with pytest.raises(ValueError, match=r"distinct, sorted and in \[0, 6\)"):
        structure.to_csr(torch.tensor(positions), 2, 3)


def test_positions_of_huge_layers_are_exact():
    """Beyond 32 bits, and where float32 would round a row up."""
    width = 2**30
    positions = torch.tensor([5, 2 * width - 1, 2 * width, 3 * width - 1])
    crow, col = structure.to_csr(positions, 3, width)
    assert (crow.tolist(), col.tolist()) == ([0, 1, 2, 4], [5, width - 1, 0, width - 1])
    assert structure.check_csr(crow, col, 3, width) is None
    assert torch.equal(structure.from_csr(crow, col, width), positions)


BIG = 2**31 - 1


@pytest.mark.parametrize(
    ("crow", "col", "says"),
    [
        ([0, 1], [0], "expected 3 row pointers"),
        ([0, 1, 2], [[0], [1]], "expected 3 row pointers"),
        ([0.0, 1.0, 2.0], [0, 1], "signed integers"),
        ([0, 1, 2], [0.0, 1.0], "signed integers"),
        ([False, True, True], [0], "signed integers"),
        ([1, 1, 2], [0, 1], "row pointers must rise from 0"),
        ([0, 1, 3], [0, 1], "row pointers must rise from 0"),
        ([0, 3, 2], [0, 1], "row pointers must rise from 0"),
        ([0, 1, 2], [0, 3], r"columns must lie in \[0, 3\); got 0 to 3"),
        ([0, 1, 2], [-1, 2], "columns must lie in"),
        ([0, 2, 2], [1, 0], "columns must rise within each row"),
        ([0, 2, 2], [1, 1], "columns must rise within each row"),
    ],
)
def test_unsound_indices_are_described(crow, col, says):
    wrong = structure.check_csr(torch.tensor(crow), torch.tensor(col), 2, 3)
    assert wrong is not None
    assert re.search(says, wrong)


def test_row_pointers_that_wrap_around_are_found():
    """In 32 bits the differences of these pointers are all positive and add up."""
    crow = torch.tensor([0, BIG, -2, 2], dtype=torch.int32)
    assert bool((crow.diff() >= 0).all())
    wrong = structure.check_csr(crow, torch.tensor([0, 1], dtype=torch.int16), 3, 3)
    assert wrong is not None
    assert "row pointers" in wrong
