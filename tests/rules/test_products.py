"""Products with a mask against dense ones."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from hf_chts.rules.products import times_transposed


@given(
    rows=st.integers(0, 40),
    outs=st.integers(1, 40),
    ins=st.integers(1, 40),
    density=st.sampled_from([0.0, 0.1, 0.5, 1.0]),
    seed=st.integers(0, 99),
)
def test_equals_the_dense_product(rows, outs, ins, density, seed):
    generator = torch.Generator().manual_seed(seed)
    mask = torch.rand(outs, ins, generator=generator) < density
    x = torch.randn(rows, ins, generator=generator)
    product = times_transposed(mask)(x)
    assert product.dtype == torch.float32
    torch.testing.assert_close(product, x @ mask.float().T)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_counts_are_exact_in_any_type(dtype):
    mask = torch.rand(300, 200, generator=torch.Generator().manual_seed(1)) < 0.3
    ones = torch.ones(5, 200, dtype=dtype)
    product = times_transposed(mask, dtype)(ones)
    assert product.dtype == dtype
    assert torch.equal(product, mask.sum(1).to(dtype).expand(5, -1))


def test_a_mask_seen_from_the_other_side():
    mask = torch.tensor([[True, False, True], [False, False, True]])
    assert times_transposed(mask.T)(torch.tensor([[2.0, 3.0]])).tolist() == [[2.0, 0.0, 5.0]]
