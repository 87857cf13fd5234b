"""Percolation's groups of neurons, for every family; and that they are right."""

import re

import families
import pytest
import torch
import transformers as hf
from torch import nn

from hf_chts import SparsityConfig, sparse_layers, sparsify
from hf_chts.network.wiring import hidden_groups
from hf_chts.rules.percolation import percolate

# Groups of a family: per encoder layer, per decoder layer (two of each, four for LLaMA's kind).
N_GROUPS = {
    **dict.fromkeys(("marian", "bart", "mbart", "m2m100", "pegasus", "blenderbot"), 16),
    **dict.fromkeys(("plbart", "fsmt", "t5", "t5_gated_untied", "mt5", "umt5"), 16),
    **dict.fromkeys(("prophetnet", "bert2bert", "t5gemma", "bert2gpt2", "bigbird_pegasus"), 16),
    "led": 18,  # queries and keys of global attention in its two encoder layers
    "llama": 6,
    "gpt2": 6,
}


def sparse(name, sparsity=0.5):
    model = families.make(name)
    sparsify(model, SparsityConfig(method="chts", sparsity=sparsity, initial="er", kernel="dense"))
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


@pytest.mark.parametrize("name", families.FAMILIES)
def test_no_layer_is_overlooked(name):
    """Outputs of the layers that read the residual stream, inputs of those that write to it."""
    model = sparse(name)
    seen = {
        (end.layer, end.axis) for group in hidden_groups(model) for side in group for end in side
    }
    writes = r"\.(out_proj|o_proj|o|fc2|wo|down_proj|c_proj|output|output\.dense)$"
    assert seen == {
        (path, "in" if re.search(writes, path) else "out") for path in sparse_layers(model)
    }


@pytest.mark.parametrize(
    "name",
    ["marian", "t5_gated_untied", "led", "gpt2", "bert2gpt2", "bigbird_pegasus", "prophetnet"],
)
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


def test_global_attention_has_queries_keys_and_values_of_its_own():
    model = sparse("led", sparsity=0.9)
    layers = sparse_layers(model)
    for layer in layers.values():
        layer.bias.data.zero_()
    batch = families.batch("led")
    batch["global_attention_mask"] = torch.zeros_like(batch["input_ids"])
    batch["global_attention_mask"][:, :2] = 1
    masks = {path: layer.mask for path, layer in layers.items()}
    left = percolate(masks, hidden_groups(model))
    query = "led.encoder.layers.0.self_attn.longformer_self_attn.query_global"
    assert not torch.equal(left[query], masks[query])
    with torch.no_grad():
        before = model.eval()(**batch).logits
        for path, layer in layers.items():
            positions = left[path].flatten().nonzero().squeeze(1)
            layer.set_links(positions, layer.to_dense().flatten()[positions])
        torch.testing.assert_close(model(**batch).logits, before)


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


def test_groups_of_a_fused_layer_by_its_parts():
    """GPT-2 with 16 neurons: queries, keys, values; keys and values where queries stand apart."""

    def parts(path):
        groups = [g for g in hidden_groups(model) if path in g[0][0].layer]
        return [
            [
                (
                    end.layer.removeprefix(path),
                    end.axis,
                    None if i is None else (i[0], i[-1], len(i)),
                )
                for side in group
                for end in side
                for i in [end.index if end.index is None else end.index.tolist()]
            ]
            for group in groups
        ]

    model = sparse("bert2gpt2")
    block = "decoder.transformer.h.1."
    assert parts(block + "attn.") == [
        [("c_attn", "out", (0, 15, 16)), ("c_attn", "out", (16, 31, 16))],
        [("c_attn", "out", (32, 47, 16)), ("c_proj", "in", None)],
    ]
    assert parts(block + "crossattention.") == [
        [("q_attn", "out", None), ("c_attn", "out", (0, 15, 16))],
        [("c_attn", "out", (16, 31, 16)), ("c_proj", "in", None)],
    ]
    assert parts(block + "mlp.") == [[("c_fc", "out", None), ("c_proj", "in", None)]]


def test_parts_of_a_fused_layer_that_are_not_sparse_are_left_out():
    model = families.make("bert2gpt2")
    sparsify(model, SparsityConfig(method="chts", sparsity=0.5, include=("crossattention.c_attn",)))
    assert hidden_groups(model) == []
    model = families.make("gpt2")
    sparsify(model, SparsityConfig(method="chts", sparsity=0.5, include=("c_attn",)))
    assert [described(group) for group in hidden_groups(model)] == 2 * [
        [[("c_attn", "out")], [("c_attn", "out")]]
    ]


def test_a_fused_layer_cut_head_by_head_is_not_guessed_at():
    """GPT-BigCode keeps query, key and value of each head together."""
    size = {"vocab_size": 40, "n_embd": 16, "n_layer": 1, "n_head": 2, "n_positions": 16}
    model = hf.GPTBigCodeForCausalLM(hf.GPTBigCodeConfig(**size, multi_query=False))
    sparsify(model, SparsityConfig(method="chts", sparsity=0.5))
    assert [described(g) for g in hidden_groups(model)] == [[[("c_fc", "out")], [("c_proj", "in")]]]


def test_torch_transformer_layers_have_feed_forward_neurons():
    """Its attention keeps queries, keys and values in a parameter, which stays dense."""
    model = nn.Transformer(8, 2, 1, 1, 12, batch_first=True)
    sparsify(model, SparsityConfig(method="chts", sparsity=0.5))
    assert [described(g) for g in hidden_groups(model)] == 2 * [
        [[("linear1", "out")], [("linear2", "in")]]
    ]


def test_groups_need_all_their_layers_sparse():
    model = families.make("marian")
    sparsify(
        model, SparsityConfig(method="chts", sparsity=0.5, include=("fc1", "v_proj", "out_proj"))
    )
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
    sparsify(model, SparsityConfig(method="chts", sparsity=0.5))
    ends = [[end.layer for side in group for end in side] for group in hidden_groups(model)]
    assert ends == [["0", "2"], ["4", "5"]]
