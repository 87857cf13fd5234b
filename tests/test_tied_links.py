"""Layers that share one set of links, since they meet in the same hidden neurons."""

import dataclasses

import families
import pytest
import torch
from torch import nn

import hf_chts
from hf_chts import SparsityConfig, Topology, sparse_layers, sparsify
from hf_chts.engine.choosing import choose_links
from hf_chts.network.patch_report import PatchReport
from hf_chts.rules.links import Links
from hf_chts.rules.registry import Rule

PAIRS = [  # and whether the second has its outputs where the first has its inputs
    ("self_attn.k_proj", "self_attn.q_proj", False),
    ("self_attn.v_proj", "self_attn.out_proj", True),
    ("encoder_attn.k_proj", "encoder_attn.q_proj", False),
    ("encoder_attn.v_proj", "encoder_attn.out_proj", True),
    ("fc1", "fc2", True),
]
METHODS = ["static", "set", "rigl", "mest", "cht", "chts", "gmp", "granet", "chtss", "hebbian"]


def tied(method="set", **changed):
    model = families.make("marian")
    config = {"method": method, "sparsity": 0.8, "tied_links": True, "update_interval": 1}
    sparsify(model, SparsityConfig(**(config | changed)))
    return model


def train(model, steps=6):
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    topology = Topology(model, optimizer, total_steps=steps)
    rows = []
    for step in range(1, steps + 1):
        topology.before_backward(step)
        model(**families.batch("marian")).loss.backward()
        optimizer.step()
        rows += topology.after_step(step)
        optimizer.zero_grad()
    return rows


def check_tied(model):
    layers, seen = sparse_layers(model), 0
    for name in layers:
        for first, second, flipped in PAIRS:
            if name.endswith(first):
                mask = layers[name].mask
                other = layers[name.removesuffix(first) + second].mask
                assert torch.equal(other, mask.T if flipped else mask)
                seen += 2
    assert seen == len(layers) > 0


@pytest.mark.parametrize("method", METHODS)
def test_tied_layers_have_the_same_links_at_first_and_after_every_update(method):
    model = tied(method)
    check_tied(model)
    before = {name: layer.mask for name, layer in sparse_layers(model).items()}
    train(model)
    check_tied(model)
    moved = any(not torch.equal(layer.mask, before[n]) for n, layer in sparse_layers(model).items())
    assert moved == (method != "static")


TIED = {  # layers that share their links with others, of all that are sparse
    "marian": 32,
    "t5": 32,
    "t5_gated_untied": 36,
    "prophetnet": 32,
    "bert2bert": 32,
    "gpt2": 4,  # the feed-forward ones: queries, keys and values are in one layer
    "llama": 6,  # likewise: query heads share keys and values
    "t5gemma": 12,  # likewise
    "led": 32,  # two layers of values, local and global, lead to one output in the encoder
}


@pytest.mark.parametrize("name", TIED)
def test_layers_of_a_family_are_tied_where_hidden_neurons_meet(name):
    model = families.make(name)
    sparsify(model, SparsityConfig(method="set", sparsity=0.7, tied_links=True))
    layers = sparse_layers(model)
    topology = Topology(model, torch.optim.SGD(model.parameters()), total_steps=1000)
    together = [group for group in topology.tied.values() if len(group) > 1]
    assert sum(map(len, together)) == TIED[name]
    assert sorted(n for group in topology.tied.values() for n in group) == sorted(layers)
    for lead, *others in together:
        for other in others:
            flipped = topology.places[other].flipped
            mask = layers[other].mask
            assert torch.equal(layers[lead].mask, mask.T if flipped else mask)
            assert flipped == other.endswith(
                ("fc2", "wo", "o", "o_proj", "out_proj", "c_proj", "down_proj", "output", "dense")
            )


def test_the_report_tells_whose_links_a_layer_has():
    model = families.make("llama")
    config = SparsityConfig(method="set", sparsity=0.7, tied_links=True)
    report = sparsify(model, config)
    block = "model.layers.0.mlp."
    rows = {row.name: row.links_of for row in report.rows if row.links_of}
    assert {n: of for n, of in rows.items() if n.startswith(block)} == {
        block + "up_proj": block + "gate_proj",
        block + "down_proj": block + "gate_proj",
    }
    assert len(rows) == 4
    assert str(report).count("sparse, links of gate_proj") == 2
    again = PatchReport.of_sparse(model, config)
    assert {row.name: row.links_of for row in again.rows if row.links_of} == rows
    alone = sparsify(families.make("llama"), dataclasses.replace(config, tied_links=None))
    assert not any(row.links_of for row in alone.rows)
    assert "links of" not in str(alone)


def test_weights_of_tied_layers_are_drawn_one_by_one():
    model = tied("static")
    layers = sparse_layers(model)
    key, query = (layers[f"model.encoder.layers.0.self_attn.{k}_proj"] for k in "kq")
    assert not torch.equal(key.values, query.values)
    assert query.values.std().item() == pytest.approx(key.values.std().item(), rel=0.5)


def links(weight, mask):
    return Links(torch.tensor(weight), mask, torch.Generator())


def test_scores_of_tied_layers_count_by_their_share():
    """The middle link is the weakest in sum, though not in either layer by itself."""
    mask = torch.ones(1, 3, dtype=torch.bool)
    rule = Rule("size", lambda links: links.weight.abs(), "", "weight")
    large, small = links([[300.0, 200.0, 100.0]], mask), links([[0.0, 0.5, 4.0]], mask)

    def kept(*tied):
        return choose_links(rule, tied, [slice(0, 1)], [2], None).tolist()

    assert kept(large) == [[True, True, False]]
    assert kept(small) == [[False, True, True]]
    assert kept(large, small) == [[True, False, True]]
    nothing = links([[0.0, 0.0, 0.0]], mask)
    assert kept(nothing, small) == [[False, True, True]]


def test_a_frozen_layer_holds_those_that_are_tied_to_it():
    model = tied("set")
    layers = sparse_layers(model)
    name = "model.decoder.layers.1."
    layers[name + "fc2"].values.requires_grad_(False)
    before = {n: layer.mask for n, layer in layers.items()}
    train(model)
    same = {n for n, layer in layers.items() if torch.equal(layer.mask, before[n])}
    assert same == {name + "fc1", name + "fc2"}
    check_tied(model)


def test_a_saved_model_stays_tied(tmp_path):
    model = tied("chts")
    train(model)
    model.save_pretrained(tmp_path)
    loaded = hf_chts.from_pretrained(tmp_path)
    assert loaded.sparsity_config.tied_links
    train(loaded.train())
    check_tied(loaded)


def test_links_that_are_not_tied_are_refused():
    model = families.make("marian")
    sparsify(model, SparsityConfig(method="set", sparsity=0.8))
    optimizer = torch.optim.SGD(model.parameters())
    later = SparsityConfig(method="set", sparsity=0.8, tied_links=True)
    with pytest.raises(ValueError, match=r"q_proj and model.encoder.*k_proj have other links: set"):
        Topology(model, optimizer, total_steps=1000, config=later)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"layer_density": "obd", "method": "chtss"}, "obd' gives each layer a number of links"),
        ({"weight_init": "keep"}, "'keep' .or a pretrained model. keeps weights"),
        ({"include": ("fc1",)}, "tied_links finds no sparse layers that meet in hidden neurons"),
    ],
)
def test_what_cannot_be_tied_is_refused_before_a_layer_is_replaced(changed, message):
    model = families.make("marian")
    config = {"method": "set", "sparsity": 0.8, "tied_links": True}
    with pytest.raises(ValueError, match=message):
        sparsify(model, SparsityConfig(**(config | changed)))
    assert not sparse_layers(model)


def test_a_plain_perceptron_has_no_residual_stream_to_tie_by():
    model = nn.Sequential(nn.Linear(20, 20), nn.ReLU(), nn.Linear(20, 20))
    with pytest.raises(ValueError, match="tied_links finds no sparse layers"):
        sparsify(model, SparsityConfig(method="set", sparsity=0.5, tied_links=True))
    sparsify(model, SparsityConfig(method="set", sparsity=0.5))
    with pytest.raises(ValueError, match="tied_links finds no sparse layers"):
        Topology(
            model,
            torch.optim.SGD(model.parameters()),
            total_steps=1000,
            config=SparsityConfig(method="set", sparsity=0.5, tied_links=True),
        )
