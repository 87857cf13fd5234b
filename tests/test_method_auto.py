"""The method that is taken where none is named."""

import families
import pytest
import torch
from torch import nn

import hf_chts
from hf_chts import SparsityConfig, Topology, sparse_layers, sparsify
from hf_chts.inspection import inspect_model
from hf_chts.methods import METHODS, resolve


def settled(model, **changed):
    """The method that a model is given, and whether its layers share links."""
    config = sparsify(model, SparsityConfig(sparsity=0.8, **changed)).config
    assert model.sparsity_config.method == config.method
    return config.method, config.tied_links


@pytest.mark.parametrize("name", ["marian", "t5", "llama", "gpt2"])
def test_new_models_share_links_where_layers_meet(name):
    model = families.make(name)
    report = sparsify(model)
    assert (report.config.method, report.config.sparsity) == ("chts_tied", 0.9)
    assert any(row.links_of for row in report.rows)


def test_pretrained_models_lose_their_links_by_and_by(tmp_path):
    families.make("marian").save_pretrained(tmp_path)
    load = families.FAMILIES["marian"].auto.from_pretrained
    assert settled(load(tmp_path)) == ("chtss_cubic", False)
    assert settled(load(tmp_path), weight_init="xavier") == ("chts_tied", True)
    assert inspect_model(str(tmp_path)).config.method == "chtss_cubic"


@pytest.mark.parametrize(
    ("sparsity", "changed", "method"),
    [
        (0.5, {}, "chts"),  # of which CHTss would start
        (0.51, {}, "chtss_cubic"),
        (0.4, {"initial_sparsity": 0.3}, "chtss_cubic"),
        (0.6, {"initial_sparsity": 0.6}, "chts"),
    ],
)
def test_kept_weights_have_a_falling_density_where_it_can_fall(sparsity, changed, method):
    config = SparsityConfig(sparsity=sparsity, weight_init="keep", **changed)
    assert sparsify(families.make("marian"), config).config.method == method


def test_layers_that_do_not_meet_have_links_of_their_own():
    perceptron = nn.Sequential(nn.Linear(20, 20), nn.ReLU(), nn.Linear(20, 20))
    assert settled(perceptron) == ("chts", False)
    assert settled(families.make("marian"), include=("fc1",)) == ("chts", False)


def test_a_wish_for_links_of_their_own_is_kept():
    assert settled(families.make("marian"), tied_links=False) == ("chts", False)


def test_layers_that_are_to_share_links_and_cannot_are_refused_still():
    model = nn.Sequential(nn.Linear(20, 20), nn.ReLU(), nn.Linear(20, 20))
    with pytest.raises(ValueError, match="tied_links finds no sparse layers"):
        sparsify(model, SparsityConfig(sparsity=0.5, tied_links=True))
    assert not sparse_layers(model)
    with pytest.raises(ValueError, match=r"'obd' moves links .* method 'chts' keeps its density"):
        sparsify(families.make("marian"), SparsityConfig(layer_density="obd"))


def test_without_a_model_it_is_the_row_of_new_models():
    assert resolve(SparsityConfig()) == resolve(SparsityConfig(method="chts_tied"))
    assert "auto" not in METHODS


@pytest.mark.parametrize("named", ["chts", "chts_tied"])
def test_a_topology_of_other_settings_takes_the_method_that_the_model_has(named):
    model = families.make("marian")
    sparsify(model, SparsityConfig(method=named, sparsity=0.8))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    changed = SparsityConfig(sparsity=0.8, update_interval=2)
    topology = Topology(model, optimizer, total_steps=8, config=changed)
    assert topology.config.method == named
    assert (len(topology.tied) < len(topology.layers)) == (named == "chts_tied")


def test_a_saved_model_knows_its_method(tmp_path):
    model = families.make("marian")
    hf_chts.sparsify(model)
    model.save_pretrained(tmp_path)
    assert hf_chts.from_pretrained(tmp_path).sparsity_config.method == "chts_tied"
