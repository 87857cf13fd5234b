from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from hf_chts.layers.kernels import native_attention
from hf_chts.translation.beam_states import BeamStates

NATIVE = pytest.mark.skipif(
    not native_attention.takes(torch.ones(1)), reason="needs the native binary"
)


def states(rows=6, tokens=5, heads=3, width=4, lines=4, shared=False, seed=0, dtype=torch.float32):
    """A query, keys and values, with the two as plain tensors."""
    torch.manual_seed(seed)
    places = torch.randint(lines, (1 if shared else tokens, rows), dtype=torch.int32)
    rooms = [torch.randn(tokens, lines, heads, width, dtype=dtype) for _ in range(2)]
    every = places.long().expand(tokens, rows)
    plain = []
    for room in rooms:
        moved = [[room[t, every[t, r]] for t in range(tokens)] for r in range(rows)]
        moved = torch.stack([torch.stack(row) for row in moved])  # rows, tokens, heads, width
        plain.append(moved.transpose(1, 2))
    query = torch.randn(rows, heads, 1, width, dtype=dtype)
    return query, [BeamStates(room, places) for room in rooms], plain


@NATIVE
@given(
    rows=st.integers(1, 40),
    tokens=st.integers(1, 30),
    heads=st.integers(1, 5),
    width=st.integers(1, 70),
    shared=st.booleans(),
    masked=st.booleans(),
    scale=st.sampled_from([None, 0.3, 3.0]),
    seed=st.integers(0, 9),
)
@settings(max_examples=80)
def test_attention_is_that_of_float64(rows, tokens, heads, width, shared, masked, scale, seed):
    query, own, plain = states(rows, tokens, heads, width, shared=shared, seed=seed)
    mask = torch.rand(rows, 1, 1, tokens) < 0.7 if masked else None
    if mask is not None:
        mask[..., 0] = True
    with pytest.MonkeyPatch.context() as patch:
        patch.delattr(BeamStates, "in_order")  # nothing is moved
        found = F.scaled_dot_product_attention(query, *own, attn_mask=mask, scale=scale)
    exact = F.scaled_dot_product_attention(
        query.double(), *(x.double() for x in plain), attn_mask=mask, scale=scale
    )
    assert type(found) is torch.Tensor
    torch.testing.assert_close(found, exact.float(), rtol=1e-3, atol=1e-4)


@NATIVE
def test_a_row_that_sees_nothing_gets_zeros() -> None:
    query, own, _ = states()
    mask = torch.ones(6, 1, 1, 5, dtype=torch.bool)
    mask[2] = False
    found = F.scaled_dot_product_attention(query, *own, attn_mask=mask)
    assert (found[2] == 0).all()
    assert (found[[0, 1, 3, 4, 5]] != 0).all()


@NATIVE
def test_one_mask_for_all_rows_and_a_query_that_is_not_contiguous() -> None:
    query, own, plain = states(rows=4, heads=4)
    query = query.transpose(0, 1)
    mask = torch.tensor([True, False, True, True, False]).view(1, 1, 1, 5)
    found = F.scaled_dot_product_attention(query, *own, attn_mask=mask)
    expected = F.scaled_dot_product_attention(query, *plain, attn_mask=mask)
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize(
    "changes",
    [
        {"attn_mask": torch.linspace(-3, 0, 5).view(1, 1, 1, 5)},
        {"attn_mask": torch.ones(6, 3, 1, 5, dtype=torch.bool).tril()},
        {"is_causal": True},
        {"query": torch.randn(6, 3, 2, 4)},
        {"query": torch.randn(6, 3, 1, 4, requires_grad=True)},
        {"query": torch.randn(6, 6, 1, 4), "enable_gqa": True},
        {"value": torch.randn(6, 3, 5, 4)},
    ],
)
def test_what_the_kernel_does_not_do_is_done_in_order(changes) -> None:
    query, own, plain = states()
    given = {"query": query, "key": own[0], "value": own[1]} | changes
    usual = {"query": query, "key": plain[0], "value": plain[1]} | changes
    torch.testing.assert_close(
        F.scaled_dot_product_attention(**given), F.scaled_dot_product_attention(**usual)
    )
    assert torch.equal(own[0].in_order(), plain[0])


def test_a_copy_is_kept_of_the_source_alone() -> None:
    """Of the target it would hold memory for all layers, and go stale when beams change places."""
    for shared in (True, False):
        _, (keys, _), (plain, _) = states(shared=shared)
        assert (keys.in_order() is keys.in_order()) == shared
        assert torch.equal(keys.in_order(), plain)


def test_other_types_are_done_in_order() -> None:
    query, own, plain = states(dtype=torch.bfloat16)
    found = F.scaled_dot_product_attention(query, *own)
    assert torch.equal(found, F.scaled_dot_product_attention(query, *plain))


def test_to_all_other_functions_it_is_the_plain_tensor() -> None:
    query, (keys, _), (plain, _) = states()
    assert (keys.shape, keys.dtype, keys.device) == (plain.shape, plain.dtype, plain.device)
    assert (keys.dim(), keys.numel(), keys.size(1)) == (4, plain.numel(), 3)
    assert torch.equal(keys.transpose(2, 3), plain.transpose(2, 3))
    assert torch.equal(query @ keys.mT, query @ plain.mT)
    assert torch.equal(torch.cat([keys, plain]), torch.cat([plain, plain]))
    assert torch.equal(keys[1], plain[1])
    assert type(keys + 1) is torch.Tensor
    assert repr(keys) == repr(plain)


def test_torch_never_computes_with_it_behind_our_back() -> None:
    _, (keys, _), _ = states()
    with (
        torch._C.DisableTorchFunctionSubclass(),
        pytest.raises(NotImplementedError, match=r"aten\.exp.*lie where they were made"),
    ):
        torch.exp(keys)
