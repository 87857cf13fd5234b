import numpy as np
import pytest

from hf_chts.analysis.blocks import block_densities, block_size


@pytest.mark.parametrize(("n", "size"), [(1, 1), (512, 1), (513, 2), (1024, 2), (1025, 3)])
def test_a_block_is_as_small_as_it_can_be(n, size):
    assert block_size(n, 512) == size


def test_blocks_hold_shares_also_at_the_edge():
    mask = np.zeros((3, 5), dtype=bool)
    mask[0, 0] = mask[0, 1] = mask[2, 4] = True
    expected = [[0.5, 0.0, 0.0], [0.0, 0.0, 1.0]]
    assert np.array_equal(block_densities(mask, (2, 2)), expected)
