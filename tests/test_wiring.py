"""Percolation's groups of neurons, for every family; and that they are right."""

import families
import pytest
import torch
from torch import nn

from hf_chts import SparsityConfig, sparse_layers, sparsify
from hf_chts.rules.percolation import percolate
from hf_chts.wiring import hidden_groups

# Groups of a family: per encoder layer, per decoder layer (two of each, four for LLaMA's kind).
N_GROUPS = {
    **dict.fromkeys(("marian", "bart", "mbart", "m2m100", "pegasus", "blenderbot"), 16),
    **dict.fromkeys(("plbart", "fsmt", "t5", "t5_gated_untied", "mt5", "umt5"), 16),
    **dict.fromkeys(("led", "prophetnet", "bert2bert", "t5gemma"), 16),
    "llama": 6,
    "gpt2": 2,
}


def sparse(name, sparsity=0.5):
    model = families.make(name)
    sparsify(model, SparsityConfig(sparsity=sparsity, initial="er", kernel="dense"))
    return model


def described(group):
    return [sorted({(end.layer.rpartition(".")[2], end.axis) for end in side}) for side in group]


@pytest.mark.parametrize("name", families.FAMILIES)
def test_every_family_has_its_groups(name):
    model = sparse(name)
    groups = hidden_groups(model)
    assert len(groups) == N_GROUPS[name]
    masks = {path: layer.mask for path, layer in sparse_layers(model).items()}
    percolate(masks, groups)  # checks names and sizes


@pytest.mark.parametrize("name", ["marian", "t5_gated_untied", "led", "gpt2", "prophetnet"])
def test_percolation_removes_only_links_that_do_nothing(name):
    """Biases are 0 here, so a neuron that percolation finds inactive carries nothing."""
    model = sparse(name, sparsity=0.9)
    with torch.no_grad():
        for path, parameter in model.named_parameters():
            if path.endswith("bias") and "norm" not in path and "ln_" not in path:
                parameter.zero_()
    layers = sparse_layers(model)
    before = families.logits(model, name)
    masks = {path: layer.mask for path, layer in layers.items()}
    left = percolate(masks, hidden_groups(model))
    assert sum(int(m.sum()) for m in left.values()) < sum(int(m.sum()) for m in masks.values())
    for path, layer in layers.items():
        dense = layer.to_dense().detach()
        positions = left[path].flatten().nonzero().squeeze(1)
        layer.set_links(positions, dense.flatten()[positions])
    torch.testing.assert_close(families.logits(model, name), before)


@pytest.mark.parametrize("name", ["llama", "t5gemma"])
def test_rotary_pairs_and_shared_heads_are_respected(name):
    model = sparse(name, sparsity=0.85)
    layers = sparse_layers(model)
    before = families.logits(model, name)
    masks = {path: layer.mask for path, layer in layers.items()}
    left = percolate(masks, hidden_groups(model))
    assert any(not torch.equal(left[path], mask) for path, mask in masks.items())
    for path, layer in layers.items():
        dense = layer.to_dense().detach()
        positions = left[path].flatten().nonzero().squeeze(1)
        layer.set_links(positions, dense.flatten()[positions])
    torch.testing.assert_close(families.logits(model, name), before)


def test_groups_by_name():
    marian = [described(group) for group in hidden_groups(sparse("marian"))]
    assert [[("fc1", "out")], [("fc2", "in")]] in marian
    assert [[("v_proj", "out")], [("out_proj", "in")]] in marian
    assert [[("k_proj", "out")], [("q_proj", "out")]] in marian
    gated = [described(group) for group in hidden_groups(sparse("t5_gated_untied"))]
    assert [[("wi_0", "out")], [("wi_1", "out")], [("wo", "in")]] in gated
    led = [described(group) for group in hidden_groups(sparse("led"))]
    assert [[("value", "out"), ("value_global", "out")], [("output", "in")]] in led


def test_groups_need_all_their_layers_sparse():
    model = families.make("marian")
    sparsify(model, SparsityConfig(sparsity=0.5, include=("fc1", "v_proj", "out_proj")))
    assert {str(described(group)) for group in hidden_groups(model)} == {
        str([[("v_proj", "out")], [("out_proj", "in")]])
    }


def test_a_perceptron_is_a_chain_broken_by_what_mixes_neurons():
    model = nn.Sequential(
        nn.Linear(6, 6),
        nn.ReLU(),
        nn.Linear(6, 6),
        nn.LayerNorm(6),
        nn.Linear(6, 6),
        nn.Linear(6, 6),
    )
    sparsify(model, SparsityConfig(sparsity=0.5))
    ends = [[end.layer for side in group for end in side] for group in hidden_groups(model)]
    assert ends == [["0", "2"], ["4", "5"]]
