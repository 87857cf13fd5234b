"""Configurations refuse what does not fit, and say what would."""

import dataclasses
import json
import math
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hf_chts.config import SparsityConfig, check_types, from_mapping


@dataclass(frozen=True)
class Inner:
    size: int
    rate: float = 0.5

    def __post_init__(self) -> None:
        check_types(self)


@dataclass(frozen=True)
class Outer:
    inner: Inner
    maybe: Inner | None = None
    names: tuple[str, ...] = ()
    extra: dict[str, Any] = field(default_factory=dict)
    flag: bool = False

    def __post_init__(self) -> None:
        check_types(self)


@pytest.mark.parametrize(
    ("field_name", "value", "interval"),
    [
        ("sparsity", 1.0, "[0, 1)"),
        ("sparsity", -0.1, "[0, 1)"),
        ("sparsity", math.nan, "[0, 1)"),
        ("zeta", 1.01, "[0, 1]"),
        ("stop_fraction", -0.5, "[0, 1]"),
        ("initial_sparsity", 0.95, "[0, 0.9]"),
        ("update_interval", 0, "[1, inf)"),
        ("removal_exponent", -1.0, "[0, inf)"),
        ("regrowth_exponent", math.inf, "[0, inf)"),
        ("init_scale", 0.0, "(0, inf)"),
        ("init_scale", math.inf, "(0, inf)"),
        ("learning_rate_scale", 0, "(0, inf)"),
        ("learning_rate_scale", -1.0, "(0, inf)"),
        ("base_density", 0.0, "(0, 1]"),
        ("base_density", 1.5, "(0, 1]"),
    ],
)
def test_numbers_outside_their_interval_are_refused(field_name, value, interval):
    with pytest.raises(ValueError, match=field_name) as error:
        SparsityConfig(**{field_name: value})
    assert interval in str(error.value)
    assert str(value) in str(error.value)


@pytest.mark.parametrize(
    ("field_name", "value", "says"),
    [
        ("sparsity", "0.9", "a number"),
        ("sparsity", True, "a number"),
        ("sparsity", None, "a number"),
        ("seed", 1.5, "an integer"),
        ("seed", False, "an integer"),
        ("method", 3, "a text"),
        ("include", "fc1", "a list"),
        ("include", [1], "a list"),
        ("percolation", 1, "true or false"),
        ("kernel", "cuda", "'native'"),
        ("layer_density", "uniforn", "'uniform'"),
        ("removal_exponent", "soft", "'ranked'"),
        ("learning_rate_scale", "mup", "'smupar'"),
        ("initial", ["er"], "a mapping"),
    ],
)
def test_values_of_another_type_are_refused(field_name, value, says):
    with pytest.raises(ValueError, match=f"^{field_name} takes ") as error:
        SparsityConfig(**{field_name: value})
    assert says in str(error.value)


@given(
    sparsity=st.floats(0, 1, exclude_max=True),
    seed=st.integers(-(2**40), 2**40),
    include=st.lists(st.text(max_size=5), max_size=3),
    initial=st.sampled_from([None, "er", {"rule": "brf", "r": 0.1}]),
    exponent=st.sampled_from([None, "ranked", "delta_linear", 2.5]),
)
def test_json_and_back_is_the_same_configuration(sparsity, seed, include, initial, exponent):
    config = SparsityConfig(
        sparsity=sparsity, seed=seed, include=include, initial=initial, removal_exponent=exponent
    )
    plain = json.loads(json.dumps(config.to_dict()))
    assert from_mapping(SparsityConfig, plain) == config


def test_open_fields_are_left_out_of_the_plain_data():
    plain = SparsityConfig(include=["fc1"]).to_dict()
    assert "zeta" not in plain
    assert plain["include"] == ["fc1"]
    assert set(plain) < {field.name for field in dataclasses.fields(SparsityConfig)}


def test_unknown_keys_come_with_the_closest_known_one():
    with pytest.raises(ValueError, match="unknown key sparsty: did you mean sparsity"):
        from_mapping(SparsityConfig, {"sparsty": 0.9})
    with pytest.raises(ValueError, match=r"unknown key inner\.sise: did you mean inner\.size"):
        from_mapping(Outer, {"inner": {"sise": 1}})
    with pytest.raises(ValueError, match="unknown key 7: known: extra, flag"):
        from_mapping(Outer, {7: 1})


@pytest.mark.parametrize(
    ("mapping", "message"),
    [
        ({}, "missing key inner"),
        ({"inner": {}}, r"missing key inner\.size"),
        ({"inner": None}, "inner takes a mapping; got None"),
        ({"inner": 3}, "inner takes a mapping; got 3"),
        ({"inner": {"size": "big"}}, r"inner\.size takes an integer; got 'big'"),
        ({"inner": {"size": 1, "rate": "x"}}, r"inner\.rate takes a number"),
        ({"inner": {"size": 1}, "names": "abc"}, "names takes a list of a text"),
        ({"inner": {"size": 1}, "extra": []}, "extra takes a mapping"),
        ([1], "^expected a mapping; got"),
    ],
)
def test_nested_mistakes_are_named_by_their_path(mapping, message):
    with pytest.raises(ValueError, match=f"^{message}"):
        from_mapping(Outer, mapping)


def test_nested_mappings_become_dataclasses():
    built = from_mapping(Outer, {"inner": {"size": 2, "rate": 1}, "maybe": None, "names": ["a"]})
    assert built.inner == Inner(2, 1)
    assert built.maybe is None
    assert from_mapping(Outer, {"inner": {"size": 2}, "maybe": {"size": 3}}).maybe == Inner(3)
