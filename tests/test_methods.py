"""The methods table is complete and sound."""

import dataclasses

import pytest
import torch
from plain_loop import Loop, check_moved

from hf_chts.config import SparsityConfig
from hf_chts.engine.budget import check_rules, link_counts
from hf_chts.methods import METHODS, resolve
from hf_chts.rules.schedules import ZETA

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
    assert (config.removal is None) == (name in ("dense", "static", "static_brf", "static_tied"))


def test_what_the_user_says_wins_over_the_row():
    config = resolve(SparsityConfig(method="chts", initial="er", zeta=0.0, percolation=False))
    assert (config.initial, config.zeta, config.percolation) == ("er", 0.0, False)
    assert config.regrowth == "ch2_l3n"


def test_set_and_rigl_differ_in_regrowth_and_schedule_only():
    one, other = METHODS["set"].settings, METHODS["rigl"].settings
    assert one["removal"] == other["removal"] == "magnitude"
    assert (one["regrowth"], other["regrowth"]) == ("random", "gradient")


@pytest.mark.parametrize(
    ("control", "row", "fields"),
    [
        ("chts_random", "chts", {"regrowth"}),
        ("rigl_soft", "rigl", {"removal_exponent"}),
        ("set_cosine", "set", {"zeta_schedule"}),
        ("static_brf", "static", {"initial"}),
        ("static_tied", "static", {"tied_links"}),
        ("set_tied", "set", {"tied_links"}),
        ("chts_tied", "chts", {"tied_links"}),
        ("chtss_tied", "chtss", {"tied_links"}),
        ("hebbian", "chts", {"regrowth"}),
        ("hebbian_sigmoid", "chtss", {"regrowth"}),
        ("chtss_obd", "chtss", {"layer_density"}),
        ("chtss_cubic", "chtss", {"density_schedule", "removal_exponent", "decay"}),
        ("hebbian_ch", "chts", {"regrowth"}),
        ("chts_normalised", "chts", {"regrowth"}),
        ("chts_weighted", "chts", {"regrowth"}),
    ],
)
def test_a_control_differs_in_one_field(control, row, fields):
    one = dataclasses.asdict(resolve(SparsityConfig(method=control)))
    other = dataclasses.asdict(resolve(SparsityConfig(method=row)))
    assert {key for key in one if one[key] != other[key]} == {"method", *fields}


@pytest.mark.parametrize("method", ["hebbian", "hebbian_ch", "chts_normalised", "chts_weighted"])
def test_rows_beyond_the_papers_move_links(method):
    assert "not from a paper" in METHODS[method].paper
    loop = Loop(method=method, zeta=0.5, total=6)
    before = loop.masks()
    counts = {name: int(mask.sum()) for name, mask in before.items()}
    for _ in range(6):
        loop.before_update()
        weights, old = loop.dense_state(), loop.masks()
        loop.topology.after_step(loop.step)
        check_moved(loop, weights, old)
        assert {name: int(mask.sum()) for name, mask in loop.masks().items()} == counts
    assert any(not torch.equal(mask, before[name]) for name, mask in loop.masks().items())


def test_mest_starts_denser_and_falls_in_stages():
    config = resolve(SparsityConfig(method="mest", sparsity=0.9))
    assert config.initial_sparsity == 0.85
    shapes = {"layer": (100, 100)}
    counts = [link_counts(shapes, config, x)["layer"] for x in (0.0, 0.5, 0.6, 0.9, 1.0)]
    assert counts == [1500, 1500, 1250, 1250, 1000]
    zetas = [ZETA[config.zeta_schedule](x, 0.3) for x in (0.1, 0.7, 1.0)]
    assert zetas == pytest.approx([0.3, 0.15, 0.0])
    assert resolve(SparsityConfig(method="mest", sparsity=0.03)).initial_sparsity == 0.0
    assert resolve(SparsityConfig(method="mest", initial_sparsity=0.5)).initial_sparsity == 0.5


def test_cht_is_that_of_its_paper():
    config = resolve(SparsityConfig(method="cht"))
    assert config.initial == {"rule": "bsw", "beta": 0.25}
    assert (config.regrowth, config.regrowth_exponent) == ("ch3_l3p", "ranked")
    assert (config.removal_exponent, config.zeta_schedule) == ("ranked", "constant")
    assert (config.early_stop, config.percolation) == (0.9, True)


def test_a_density_schedule_needs_a_start():
    with pytest.raises(ValueError, match="density_schedule 'cubic' takes initial_sparsity"):
        resolve(SparsityConfig(method="rigl", density_schedule="cubic"))
    assert (
        resolve(SparsityConfig(method="chtss", density_schedule="linear")).initial_sparsity == 0.5
    )


@pytest.mark.parametrize("method", ["chtss", "granet"])
def test_a_start_sparser_than_the_end_names_its_row(method):
    """Nobody set it who asked for 30% sparsity."""
    message = (
        rf"initial_sparsity must lie in \[0, 0.3\]; got 0.5, from the row of method '{method}'"
    )
    with pytest.raises(ValueError, match=message):
        resolve(SparsityConfig(method=method, sparsity=0.3))
    assert resolve(SparsityConfig(method=method, sparsity=0.3, initial_sparsity=0.1))


def test_a_dense_baseline_may_have_the_settings_of_a_falling_density():
    """As where a comparison trains one recipe by several methods."""
    check_rules(resolve(SparsityConfig(method="dense", regrowth="random")))
    moving = {"density_schedule": "cubic", "initial_sparsity": 0.5}
    check_rules(resolve(SparsityConfig(method="dense", **moving)))
    with pytest.raises(ValueError, match="would never lower the density"):
        check_rules(resolve(SparsityConfig(method="static", **moving)))
    check_rules(resolve(SparsityConfig(method="static", removal="magnitude", **moving)))


def test_an_unknown_method_comes_with_the_closest_known_one():
    with pytest.raises(ValueError, match="no method 'rigle': did you mean 'rigl'"):
        resolve(SparsityConfig(method="rigle"))
    with pytest.raises(ValueError, match="no method 'atuo': did you mean 'auto'"):
        resolve(SparsityConfig(method="atuo"))
    with pytest.raises(ValueError, match="no method 'xyz': known: auto, dense, static"):
        resolve(SparsityConfig(method="xyz"))
