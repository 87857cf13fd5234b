"""Masks, positions and indices of any content end in success or in one of three errors."""

from __future__ import annotations

from contextlib import suppress

import pytest
import torch
from fuzz_cases import attempt, fuzz
from hypothesis import given
from hypothesis import strategies as st

from hf_chts import SparseLinear, initial_mask, link_scores
from hf_chts.engine.layer_memory import historical_weights, memories, recall, start_counting
from hf_chts.layers.structure import to_csr
from hf_chts.rules.regrowth import regrowth

DTYPES = [torch.bool, torch.uint8, torch.int16, torch.int32, torch.int64, torch.float32,
          torch.float64, torch.bfloat16, torch.complex64]  # fmt: skip
SIZES = st.integers(0, 7)
RULES = sorted(regrowth)


def tensors(dtypes=DTYPES, dims=3):
    """Small tensors of any type, shape, stride and content."""

    def make(dtype, shape, numbers, turned):
        flat = torch.tensor(numbers, dtype=torch.float64)
        n = torch.Size(shape).numel()
        made = flat[torch.arange(n) % len(numbers)].view(shape).to(dtype)
        return made.mT if turned and made.dim() > 1 else made

    numbers = st.lists(st.sampled_from([0, 1, 1, 2, -1, 5, 300, 40_000, 3e9]), min_size=1,
                       max_size=12)  # fmt: skip
    return st.builds(
        make, st.sampled_from(dtypes), st.lists(SIZES, max_size=dims), numbers, st.booleans()
    )


@fuzz
@given(tensors() | tensors([torch.bool], 2), st.sampled_from([*RULES, "none", ""]))
def test_scores_of_any_mask(mask, rule) -> None:
    scores = attempt(lambda: link_scores(mask, rule))
    if scores is not None:
        assert scores.shape == mask.shape
        assert bool(scores[~mask].isfinite().all())
        assert bool(scores[mask].isnan().all())


@pytest.mark.parametrize("mask", [None, 3, [[True]], "mask", torch.zeros(2, 2).bool().numpy()])
def test_masks_of_other_classes(mask) -> None:
    assert attempt(lambda: link_scores(mask)) is None


@fuzz
@given(
    st.sampled_from(["er", "brf", "bsw", "bsf", "csti", "magnitude", "none"]),
    st.integers(-1, 12), st.integers(-1, 12),
    st.floats(-0.1, 1.1) | st.sampled_from([float("nan"), float("inf"), 1.0, 1e-12]),
    st.integers(0, 2**40),
    st.dictionaries(st.sampled_from(["r", "beta", "x"]),
                    st.floats() | st.integers() | st.none(), max_size=1),
)  # fmt: skip
def test_initial_masks_of_any_settings(rule, out, inp, density, seed, params) -> None:
    mask = attempt(lambda: initial_mask(rule, out, inp, density, seed, **params))
    if mask is not None:
        assert mask.shape == (out, inp)
        assert int(mask.sum()) == round(density * out * inp)


POSITIONS = st.lists(st.integers(-3, 40) | st.sampled_from([2**31, 2**62, -(2**62)]), max_size=12)


@fuzz
@given(POSITIONS, st.booleans(), st.integers(0, 12))
def test_links_at_any_positions(positions, ordered, n_values) -> None:
    layer = SparseLinear(6, 5, 0)
    given_ = sorted(set(positions)) if ordered else positions
    place = torch.tensor(given_, dtype=torch.int64)
    sound = all(0 <= p < 30 for p in given_) and sorted(set(given_)) == given_
    links = torch.ones(n_values)
    done = attempt(lambda: layer.set_links(place, links) or True)
    assert bool(done) == (sound and n_values == len(given_))
    assert layer.positions.tolist() == (given_ if done else [])
    if done:
        assert bool(layer(torch.ones(2, 6)).isfinite().all())
    assert (attempt(lambda: to_csr(place, 5, 6)) is not None) == sound


@fuzz
@given(st.data())
def test_indices_of_any_file(data) -> None:
    """No kernel sees indices that are not sound; the layer says so instead."""
    layer = SparseLinear(6, 5, 0)
    layer.set_links(torch.arange(0, 30, 3), torch.ones(10))
    state = dict(layer.state_dict())
    for key in data.draw(st.sets(st.sampled_from(["values", "crow_indices", "col_indices"]))):
        state[key] = data.draw(tensors(DTYPES[:6]))
    fresh = SparseLinear(6, 5, 0)
    with suppress(RuntimeError):  # torch's own class: trainers and loaders name the checkpoint
        fresh.load_state_dict(state)
    if fresh._index:
        assert fresh.what_is_wrong() is None
        assert fresh(torch.ones(2, 6)).shape == (2, 5)
    else:
        with pytest.raises(RuntimeError, match="has no sound links"):
            fresh(torch.ones(2, 6))


KINDS = ["explored", "past_positions", "past_values", "resting", "weights", ""]
MEMORY = st.dictionaries(
    st.tuples(st.sampled_from(["a", "b", "", "a.b"]), st.sampled_from(KINDS)).map(".".join),
    tensors([torch.uint8, torch.int32, torch.int64, torch.float32], 1), max_size=4,
)  # fmt: skip


@fuzz
@given(MEMORY, st.booleans())
def test_memory_of_any_content(found, repaired) -> None:
    layer = SparseLinear(6, 5, 0)
    layer.set_links(torch.arange(0, 30, 3), torch.ones(10))
    start_counting(layer, historical=True)
    before = memories({"a": layer})
    if repaired:
        found = {"a.explored": torch.zeros(4, dtype=torch.uint8), **found}
    after = attempt(lambda: recall({"a": layer}, found) or memories({"a": layer}))
    if after is None:
        after = memories({"a": layer})
        assert all(torch.equal(after[key], x) for key, x in before.items())
    else:
        assert after.keys() == found.keys()
        layer.set_links(torch.arange(5), historical_weights(layer, torch.arange(5)))
