import pytest
from hypothesis import given
from hypothesis import strategies as st

from hf_chts.report.selection import choose_layers, group_label, places, short_names

LAYERS = {f"model.encoder.{i}.{name}": (4, 4) for i in range(3) for name in ("q", "k")}


def test_one_layer_of_each_kind_from_the_middle():
    assert choose_layers(LAYERS, None) == ["model.encoder.1.q", "model.encoder.1.k"]


def test_at_most_twelve_kinds():
    layers = {f"block{'x' * i}.fc": (4, 4) for i in range(40)}
    chosen = choose_layers(layers, None)
    assert len(chosen) == 12
    assert (chosen[0], chosen[-1]) == ("block.fc", f"block{'x' * 39}.fc")


def test_a_pattern_chooses():
    assert choose_layers(LAYERS, r"[02]\.q$") == ["model.encoder.0.q", "model.encoder.2.q"]


@pytest.mark.parametrize(
    ("pattern", "said"), [("(", "no regular expression"), ("fc9", "fits no layer; one of them")]
)
def test_bad_patterns_are_refused(pattern, said):
    with pytest.raises(ValueError, match=said):
        choose_layers(LAYERS, pattern)


@given(st.integers(0, 300), st.integers(1, 20))
def test_places_are_spread_and_distinct(n_items, most):
    found = places(n_items, most)
    assert len(set(found)) == min(n_items, most)
    assert found == sorted(found)
    if len(found) > 1:
        assert (found[0], found[-1]) == (0, n_items - 1)


def test_names_lose_what_all_share():
    assert short_names(LAYERS)["model.encoder.0.q"] == "0.q"
    assert short_names(["a.fc"]) == {"a.fc": "fc"}
    assert short_names([]) == {}


@pytest.mark.parametrize(
    ("name", "label"),
    [
        ("m.0.fc1 > m.0.fc2", "m.0: fc1 > fc2"),
        ("m.0.gate + m.0.up > m.0.down", "m.0: gate + up > down"),
        ("k | q", "k | q"),
    ],
)
def test_group_labels_say_once_where_they_are(name, label):
    assert group_label(name) == label
