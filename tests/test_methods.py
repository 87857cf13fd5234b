"""The methods table is complete and sound."""

import dataclasses

import pytest

from hf_chts.budget import check_rules
from hf_chts.config import SparsityConfig
from hf_chts.methods import METHODS, resolve

FIELDS = {field.name for field in dataclasses.fields(SparsityConfig)}


@pytest.mark.parametrize("name", METHODS)
def test_every_row_resolves_to_rules_that_exist(name):
    row = METHODS[name]
    assert row.paper
    assert set(row.settings) <= FIELDS
    config = resolve(SparsityConfig(method=name))
    check_rules(config)
    assert config.initial is not None
    assert config.zeta is not None
    assert resolve(config) == config
    assert (config.removal is None) == (name in ("dense", "static"))


def test_what_the_user_says_wins_over_the_row():
    config = resolve(SparsityConfig(method="chts", initial="er", zeta=0.0, percolation=False))
    assert (config.initial, config.zeta, config.percolation) == ("er", 0.0, False)
    assert config.regrowth == "ch2_l3n"


def test_set_and_rigl_differ_in_regrowth_and_schedule_only():
    one, other = METHODS["set"].settings, METHODS["rigl"].settings
    assert one["removal"] == other["removal"] == "magnitude"
    assert (one["regrowth"], other["regrowth"]) == ("random", "gradient")


def test_a_density_schedule_needs_a_start():
    with pytest.raises(ValueError, match="density_schedule 'cubic' takes initial_sparsity"):
        resolve(SparsityConfig(method="rigl", density_schedule="cubic"))
    assert (
        resolve(SparsityConfig(method="chtss", density_schedule="linear")).initial_sparsity == 0.5
    )


def test_an_unknown_method_comes_with_the_closest_known_one():
    with pytest.raises(ValueError, match="no method 'rigle': did you mean 'rigl'"):
        resolve(SparsityConfig(method="rigle"))
    with pytest.raises(ValueError, match="no method 'xyz': known: dense, static"):
        resolve(SparsityConfig(method="xyz"))
