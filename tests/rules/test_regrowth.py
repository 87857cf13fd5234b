from itertools import product
from math import sqrt

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hf_chts.rules.links import Links
from hf_chts.rules.regrowth import regrowth

NODE_BASED = {
    "ch2_l3n": lambda di, de: (di + 1) / (de + 1),
    "ch3_l3n": lambda di, de: 1 / (de + 1),
    "ch3_1_l3n": lambda di, de: (di + 1) / (de + 1) ** (1 + de / (1 + de)),
}
PATH_BASED = {
    "ch3_l3p": lambda di, de: 1 / sqrt(1 + de),
    "ch2_l3p": lambda di, de: sqrt((1 + di) / (1 + de)),
}
RULES = sorted(NODE_BASED | PATH_BASED)
VECTOR_NAMES = {
    "ch2_l3n": "CH2_L3n",
    "ch3_l3n": "CH3_L3n",
    "ch3_1_l3n": "CH3.1_L3n",
    "ch2_l3p": "CH2_L3p",
    "ch3_l3p": "CH3_L3p",
}


def scores_of(mask, name, dtype=torch.float64):
    return regrowth[name].function(Links(mask.to(dtype), mask, torch.Generator()))


def by_enumeration(mask, name):
    """Every path of length three, listed one by one."""
    linked = mask.tolist()
    outputs, inputs = range(len(linked)), range(len(linked[0]))
    of_u = [{i for i in inputs if linked[o][i]} for o in outputs]
    of_v = [{o for o in outputs if linked[o][i]} for i in inputs]
    scores = torch.full(mask.shape, torch.nan, dtype=torch.float64)
    for u, v in product(outputs, inputs):
        if linked[u][v]:
            continue
        paths = [(z1, z2) for z1 in of_u[u] for z2 in of_v[v] if linked[z2][z1]]

        def term(z, own, neighbours, side):
            internal = len(side[z] & neighbours)
            return own(internal, len(side[z]) - 1 - internal)

        if name in NODE_BASED:
            e = NODE_BASED[name]
            scores[u, v] = sum(term(z, e, of_u[u], of_u) for z in {z2 for _, z2 in paths})
            scores[u, v] += sum(term(z, e, of_v[v], of_v) for z in {z1 for z1, _ in paths})
        else:
            f = PATH_BASED[name]
            scores[u, v] = sum(
                term(z1, f, of_v[v], of_v) * term(z2, f, of_u[u], of_u) for z1, z2 in paths
            )
    return scores


def assert_same_at_non_links(got, want, mask, rtol):
    assert torch.allclose(got[~mask].double(), want[~mask].double(), rtol=rtol, atol=rtol)


@pytest.mark.parametrize("name", RULES)
@pytest.mark.parametrize(("dtype", "rtol"), [(torch.float32, 1e-5), (torch.float64, 1e-12)])
def test_reference_vectors(link_vectors, name, dtype, rtol):
    for vectors in link_vectors.values():
        mask, want = vectors["mask"], vectors[VECTOR_NAMES[name]]
        # The node-based vectors were computed in single precision.
        tolerance = max(rtol, 1e-6) if want.dtype == torch.float32 else rtol
        assert_same_at_non_links(scores_of(mask, name, dtype), want, mask, tolerance)


@pytest.mark.parametrize("name", RULES)
@settings(max_examples=40)
@given(st.integers(1, 9), st.integers(1, 9), st.floats(0, 1), st.integers(0, 999))
def test_equals_path_enumeration(name, out, inp, density, seed):
    mask = torch.rand(out, inp, generator=torch.Generator().manual_seed(seed)) < density
    assert_same_at_non_links(scores_of(mask, name), by_enumeration(mask, name), mask, 1e-12)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("ch2_l3n", 2 / 1 + 2 / 2),
        ("ch3_l3n", 1 / 1 + 1 / 2),
        ("ch3_1_l3n", 2 / 1 + 2 / 2**1.5),
        ("ch3_l3p", 1 / sqrt(2)),
        ("ch2_l3p", sqrt(2 * 2) / sqrt(1 * 2)),
    ],
)
def test_one_path_by_hand(name, expected):
    # The only path from output 0 to input 1 is 0 - input 0 - output 1 - 1. Input 0 has no link
    # outside it, output 1 has one, to input 2; both share one neighbour with their end.
    mask = torch.tensor([[1, 0, 0], [1, 1, 1]]).bool()
    scores = scores_of(mask, name)
    assert scores[0, 1] == pytest.approx(expected)
    assert scores[0, 2] == pytest.approx(expected)


@pytest.mark.parametrize("name", RULES)
def test_no_path_no_score(name):
    two_islands = torch.block_diag(torch.ones(2, 3), torch.ones(3, 2)).bool()
    assert (scores_of(two_islands, name)[~two_islands] == 0).all()


@pytest.mark.parametrize("name", RULES)
def test_sides_are_equal(name):
    mask = torch.rand(9, 14, generator=torch.Generator().manual_seed(0)) < 0.3
    turned = scores_of(mask.T, name).T
    assert_same_at_non_links(scores_of(mask, name), turned, mask, 1e-12)


@pytest.mark.parametrize("name", RULES)
def test_scores_do_not_depend_on_blocks(name, monkeypatch):
    mask = torch.rand(33, 20, generator=torch.Generator().manual_seed(0)) < 0.3
    whole = scores_of(mask, name)
    for module in ("cannistraci_hebb", "cannistraci_hebb_paths"):
        monkeypatch.setattr(f"hf_chts.rules.regrowth.{module}.BLOCK_ELEMENTS", 70)
    assert_same_at_non_links(scores_of(mask, name), whole, mask, 1e-12)


def test_random_and_gradient():
    mask = torch.tensor([[True, False], [False, False]])
    grad = torch.tensor([[1.0, -2.0], [0.5, 0.0]])
    links = Links(mask.float(), mask, torch.Generator(), grad)
    assert regrowth["random"].function(links).tolist() == [[1.0, 1.0], [1.0, 1.0]]
    assert regrowth["gradient"].function(links).tolist() == [[1.0, 2.0], [0.5, 0.0]]


def test_gradient_needs_its_gradient():
    mask = torch.ones(2, 2, dtype=torch.bool)
    with pytest.raises(ValueError, match="needs the gradient at every link"):
        regrowth["gradient"].function(Links(mask.float(), mask, torch.Generator()))
