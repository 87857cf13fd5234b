"""Correlations of neurons, gathered batch by batch."""

import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hf_chts.layers.coactivation import CoActivation

OUT, IN = 4, 3


def activations(n=50, seed=0):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(n, IN, generator=generator)
    noise = torch.randn(n, OUT, generator=generator)
    return x, x @ torch.randn(IN, OUT, generator=generator) + noise


def gathered(*batches):
    found = CoActivation(OUT, IN, torch.device("cpu"))
    for x, y in batches:
        found.add(x, y)
    return found


def reference(x, y):
    both = np.concatenate([x.numpy(), y.numpy()], 1).astype(np.float64)
    with np.errstate(invalid="ignore"):  # constant neurons
        whole = np.corrcoef(both.T)
    return torch.from_numpy(whole[IN:, :IN]).float()


def assert_close(found, want):
    torch.testing.assert_close(found, want, rtol=1e-4, atol=2e-6)


def test_by_hand():
    x = torch.tensor([[1.0, 0.0, 0.0], [2.0, 1.0, 0.0], [3.0, 0.0, 0.0]])
    y = torch.stack([x[:, 0], -2 * x[:, 0], torch.tensor([0.0, 0.0, 3.0]), torch.ones(3)], 1)
    third = 3 / (2 * 6) ** 0.5  # deviations -1, 0, 1 and -1, -1, 2
    other = -1 / (2 / 3 * 6) ** 0.5  # deviations -1/3, 2/3, -1/3 and -1, -1, 2
    want = [[1.0, 0.0, 0.0], [-1.0, 0.0, 0.0], [third, other, 0.0], [0.0, 0.0, 0.0]]
    assert_close(gathered((x, y)).correlation(), torch.tensor(want))


@settings(max_examples=30)
@given(
    st.lists(st.integers(0, 9), min_size=1, max_size=6),
    st.floats(-1e3, 1e3),
    st.floats(1e-3, 1e3),
    st.integers(0, 99),
)
def test_batches_of_any_size_far_from_zero_at_any_scale(sizes, shift, scale, seed):
    x, y = activations(sum(sizes) + 20, seed)
    parts = [*sizes, 20]
    moved = x * scale + shift * scale, y * scale - shift * scale
    found = gathered(*zip(moved[0].split(parts), moved[1].split(parts), strict=True))
    assert found.n_tokens == len(x)
    torch.testing.assert_close(found.correlation(), reference(x, y), rtol=2e-3, atol=2e-3)


def test_one_batch_equals_numpy_and_four_equal_one():
    x, y = activations()
    whole = gathered((x, y)).correlation()
    assert_close(whole, reference(x, y))
    parts = gathered(*zip(x.split(13), y.split(13), strict=True)).correlation()
    assert_close(parts, whole)
    assert whole.abs().max() > 0.3


def test_scale_and_sign_of_a_neuron_do_not_matter_but_for_the_sign():
    x, y = activations()
    scaled = gathered((x * torch.tensor([3.0, -0.01, 1e4]), y * 1e-5)).correlation()
    assert_close(scaled, gathered((x, y)).correlation() * torch.tensor([1, -1, 1]))


@pytest.mark.parametrize("value", [0.0, 0.1, -1e6, 3e-30])
def test_a_constant_neuron_correlates_with_nothing(value):
    x, y = activations()
    x[:, 1], y[:, 2] = value, 7 * value
    found = gathered(*zip(x.split(7), y.split(7), strict=True)).correlation()
    constant = torch.zeros(OUT, IN, dtype=torch.bool)
    constant[2], constant[:, 1] = True, True
    assert (found[constant] == 0).all()
    assert_close(found[~constant], reference(x, y)[~constant])


def test_nothing_or_one_token_is_no_correlation():
    x, y = activations()
    for batches in ([], [(x[:0], y[:0])], [(x[:1], y[:1])]):
        assert (gathered(*batches).correlation() == 0).all()


def test_a_neuron_that_is_constant_for_thousands_of_tokens_is_still_constant():
    """The rounding of each adds up, beyond what one would let pass."""
    y = activations(5000)[1]
    found = gathered(*((torch.full((len(part), IN), 0.1), part) for part in y.split(7)))
    assert (found.correlation() == 0).all()


def test_a_neuron_that_varies_a_little_is_not_constant():
    """By 2 ** -16 of its mean, which float32 holds exactly."""
    turn = torch.tensor([1.0, -1.0, 1.0, -1.0])[:, None]
    found = gathered((1 + turn.repeat(1, IN) * 2**-16, turn.repeat(1, OUT)))
    assert_close(found.correlation(), torch.ones(OUT, IN))


def test_correlations_never_exceed_one():
    """Rounding alone would take some of these beyond it, on both sides."""
    for seed in range(20):
        x, _ = activations(100, seed)
        y = torch.cat([x, -x[:, :1]], 1)
        found = gathered(*zip(x.split(7), y.split(7), strict=True)).correlation()
        assert found.abs().max() <= 1
        assert_close(found[[0, 1, 2, 3], [0, 1, 2, 0]], torch.tensor([1.0, 1.0, 1.0, -1.0]))


def merge(*parts):
    """Make one of the co-activations of several processes, which are threads here."""
    everyone, shared = threading.Barrier(len(parts), timeout=60), [None] * len(parts)

    def work(rank):
        def add_up(tensor):
            shared[rank] = tensor.clone()
            everyone.wait()
            total = sum(shared)
            everyone.wait()
            tensor.copy_(total)

        parts[rank].merge(add_up)

    with ThreadPoolExecutor(len(parts)) as pool:
        list(pool.map(work, range(len(parts))))


def test_co_activations_of_several_processes_are_one():
    """Of 20, 29, 1 and no tokens, whose means differ."""
    x, y = activations()
    x[20:49] += 30
    y[:20] -= 50
    parts = [
        gathered(part) for part in zip(x.split([20, 29, 1]), y.split([20, 29, 1]), strict=True)
    ]
    merge(*parts, gathered())
    whole = gathered((x, y))
    for part in parts:
        assert part.n_tokens == 50
        assert_close(part.correlation(), whole.correlation())
        assert torch.equal(part.correlation(), parts[0].correlation())
    parts[0].add(x[:7] + 9, y[:7])
    assert_close(parts[0].correlation(), gathered((x, y), (x[:7] + 9, y[:7])).correlation())


def test_processes_without_tokens_have_no_correlation():
    parts = gathered(), gathered()
    merge(*parts)
    assert all((part.correlation() == 0).all() for part in parts)


def test_narrow_types_are_summed_in_float32():
    x, y = (part.bfloat16() for part in activations())
    with torch.autocast("cpu", torch.bfloat16):
        found = gathered((x, y))
    assert found.products.dtype == torch.float32
    assert_close(found.correlation(), reference(x.float(), y.float()))


def test_what_is_given_stays_as_it_was():
    x, y = activations()
    given = x.clone(), y.clone()
    found = gathered((x, y))
    found.correlation().fill_(9)
    assert torch.equal(x, given[0])
    assert torch.equal(y, given[1])
    assert_close(found.correlation(), reference(x, y))
