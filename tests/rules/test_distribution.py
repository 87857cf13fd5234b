import math

import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st

from hf_chts.rules.distribution import densities, obd_counts

SHAPES = {"q": (512, 512), "k": (64, 512), "up": (2048, 512), "down": (512, 2048)}


def n_links(shapes, shares):
    return sum(shares[name] * out * inp for name, (out, inp) in shapes.items())


def total(shapes):
    return sum(out * inp for out, inp in shapes.values())


def test_uniform_is_the_same_everywhere():
    assert set(densities(SHAPES, 0.1, "uniform").values()) == {0.1}


def test_er_by_hand():
    # Shares in proportion to out + in: 4 and 6 of 10 parts; 0.5 * (4 + 8) = 6 links.
    assert densities({"a": (2, 2), "b": (2, 4)}, 0.5, "er") == pytest.approx(
        {"a": 6 * 0.4 / 4, "b": 6 * 0.6 / 8}
    )


def test_saturated_layers_become_dense_and_the_rest_takes_what_is_left():
    shares = densities({"tiny": (1, 4), "big": (100, 100)}, 0.9, "er")
    assert shares["tiny"] == 1.0
    assert shares["big"] == pytest.approx((0.9 * 10004 - 4) / 10000)


def test_erk_equals_er_for_linear_layers():
    assert densities(SHAPES, 0.1, "erk") == densities(SHAPES, 0.1, "er")


@given(
    st.dictionaries(
        st.text("abc", min_size=1, max_size=3),
        st.tuples(st.integers(1, 300), st.integers(1, 300)),
        min_size=1,
        max_size=6,
    ),
    st.floats(0.01, 1.0),
    st.sampled_from(["uniform", "er", "erk"]),
)
def test_total_is_kept_and_no_layer_is_more_than_dense(shapes, density, how):
    try:
        shares = densities(shapes, density, how)
    except ValueError as error:
        assume("no link" not in str(error))
        raise
    assert list(shares) == list(shapes)
    assert n_links(shapes, shares) == pytest.approx(density * total(shapes), rel=1e-9)
    assert all(0 < share <= 1 for share in shares.values())


@pytest.mark.parametrize("how", ["uniform", "er", "erk"])
def test_full_density_is_dense(how):
    assert densities(SHAPES, 1.0, how) == pytest.approx(dict.fromkeys(SHAPES, 1.0))


@pytest.mark.parametrize("density", [0.0, -0.1, 1.1])
def test_density_out_of_range_is_refused(density):
    with pytest.raises(ValueError, match=r"density must be in \(0, 1\]"):
        densities(SHAPES, density, "uniform")


def test_unknown_distribution_is_refused():
    with pytest.raises(ValueError, match="no distribution 'snip'; known: er, erk, obd, uniform"):
        densities(SHAPES, 0.1, "snip")


def test_a_layer_without_links_is_named():
    with pytest.raises(ValueError, match=r"layer 'gate' \(1 x 3\) would get no link"):
        densities({"big": (100, 100), "gate": (1, 3)}, 0.1, "uniform")


@pytest.mark.parametrize(
    ("uniform", "of_a", "of_b"), [((1, 1), 1, 1), ((1, 2), 1, 2), ((2, 2), 1, 3), ((2, 3), 2, 3)]
)
def test_obd_by_hand(uniform, of_a, of_b):
    """Each keeps its best one; then 4, 3 and 1 come, of b, b and a."""
    saliencies = {"a": torch.tensor([1.0, 2.0]), "b": torch.tensor([4.0, 5.0, 3.0])}
    counts = obd_counts(saliencies, dict(zip("ab", uniform, strict=True)))
    assert counts == {"a": of_a, "b": of_b}


@given(
    st.lists(st.lists(st.floats(0, 5, width=32), min_size=1, max_size=30), min_size=1, max_size=6),
    st.data(),
)
def test_obd_keeps_the_total_and_a_share_of_every_layer(layers, data):
    saliencies = {str(n): torch.tensor(values) for n, values in enumerate(layers)}
    uniform = {n: data.draw(st.integers(1, len(x))) for n, x in saliencies.items()}
    counts = obd_counts(saliencies, uniform)
    assert sum(counts.values()) == sum(uniform.values())
    assert all(0.3 * uniform[n] <= counts[n] <= len(saliencies[n]) for n in saliencies)
    threshold = [saliencies[n].sort(descending=True).values[counts[n] :] for n in saliencies]
    lost = max((float(x[0]) for x in threshold if len(x)), default=0.0)
    above = [n for n in saliencies if counts[n] > math.ceil(0.3 * uniform[n])]
    kept = [saliencies[n].sort(descending=True).values[counts[n] - 1] for n in above]
    assert all(float(x) >= lost for x in kept)


def test_obd_is_uniform_before_training():
    assert densities(SHAPES, 0.3, "obd") == densities(SHAPES, 0.3, "uniform")
