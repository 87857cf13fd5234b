"""Compacted models are smaller and compute the same, in every family and at every edge."""

import copy
import dataclasses

import families
import pytest
import torch
import transformers as hf
from torch import nn

import hf_chts
from hf_chts import SparsityConfig, sparse_layers
from hf_chts.compaction import compact
from hf_chts.network.wiring import hidden_groups
from hf_chts.rules.percolation import percolate

TABLE = "the table of position biases has a column for each head"
WIDTH = "its code expects heads as wide as the model"
KEPT = {  # families whose heads stay, and why
    **{name: {TABLE} for name in ("t5", "t5_gated_untied", "mt5", "umt5")},
    **{name: {WIDTH} for name in ("led", "prophetnet", "fsmt")},
    "bigbird_pegasus": {
        "BigBirdPegasusEncoderAttention is not known to run with fewer heads",
        "BigBirdPegasusDecoderAttention is not known to run with fewer heads",
    },
}
NO_BIAS = {"t5", "t5_gated_untied", "mt5", "umt5", "t5gemma", "llama"}


def sparse(name, sparsity=0.5, **options):
    model = families.make(name)
    config = SparsityConfig(sparsity=sparsity, initial="er", kernel="dense", **options)
    hf_chts.sparsify(model, config)
    return model


def idle(name):
    model = sparse(name)
    families.make_idle(model)
    return model


def cut(model, masks):
    """Keep only the links that the masks allow, with their weights."""
    for path, layer in sparse_layers(model).items():
        positions = masks[path].flatten().nonzero().squeeze(1)
        layer.set_links(positions, layer.to_dense().detach().flatten()[positions])


def assert_same(got, want):
    torch.testing.assert_close(got, want, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", families.FAMILIES)
def test_every_family_computes_the_same_with_fewer_neurons_and_heads(name):
    model = idle(name)
    before, count = families.logits(model, name), sum(p.numel() for p in model.parameters())
    translations = families.beams(model, name)
    report = compact(model)
    assert_same(families.logits(model, name), before)
    assert torch.equal(families.beams(model, name), translations)
    neurons = [row for row in report.rows if row.unit == "neurons"]
    heads = [row for row in report.rows if row.unit == "heads"]
    assert len(neurons) + len(heads) == len(report.rows)  # no layer of unknown wiring
    assert all(row.after == row.before // 2 > 0 and not row.reason for row in neurons)
    assert {row.reason for row in heads if row.reason} == KEPT.get(name, set())
    if name not in KEPT:
        assert all((row.before, row.after) == (2, 1) for row in heads)
        assert torch.equal(families.beams(model, name, use_cache=False), translations)
    assert report.parameters_before == count
    assert report.parameters_after == sum(p.numel() for p in model.parameters()) < count
    assert report.links_after == sum(x.nnz for x in sparse_layers(model).values())
    assert report.links_after < report.links_before


@pytest.mark.parametrize("name", sorted(families.FAMILIES.keys() - NO_BIAS))
def test_constants_of_idle_neurons_show_in_outputs(name):
    """So that the test above would notice if they were lost."""
    model = idle(name)
    before = families.logits(model, name)
    masks = {path: layer.mask for path, layer in sparse_layers(model).items()}
    cut(model, percolate(masks, hidden_groups(model)))
    assert (families.logits(model, name) - before).abs().max() > 0.01


@pytest.mark.parametrize("name", ["marian", "t5_gated_untied", "gpt2", "bert2gpt2"])
def test_compacting_twice_changes_nothing_more(name):
    model = idle(name)
    assert compact(model).changed
    layers = sparse_layers(model)
    report = compact(model)
    assert not report.changed
    assert report.parameters_before == report.parameters_after
    assert sparse_layers(model) == layers  # the same objects


@pytest.mark.parametrize("name", ["marian", "t5gemma", "llama", "gpt2", "bert2bert"])
def test_padding_does_not_reach_the_tokens(name):
    model = idle(name).eval()
    batch = families.batch(name)
    padded = torch.ones_like(batch["input_ids"])
    side = slice(0, 3) if families.FAMILIES[name].causal else slice(-3, None)
    padded[0, side] = 0
    batch["attention_mask"] = padded
    with torch.no_grad():
        before = model(**batch).logits
        compact(model)
        after = model(**batch).logits
    if families.FAMILIES[name].causal:
        before, after = before[padded.bool()], after[padded.bool()]
    assert_same(after, before)


@pytest.mark.parametrize("name", ["marian", "t5_gated_untied", "gpt2"])
def test_a_percolated_model_loses_just_its_inactive_neurons(name):
    model = sparse(name, sparsity=0.93, seed=1)
    masks = {path: layer.mask for path, layer in sparse_layers(model).items()}
    cut(model, percolate(masks, hidden_groups(model)))
    before = families.logits(model, name)
    idle = sum(
        int((layer.mask.sum(1) == 0).sum())
        for path, layer in sparse_layers(model).items()
        if path.endswith(("fc1", "wi_0", "c_fc"))
    )
    report = compact(model)
    assert_same(families.logits(model, name), before)
    gone = sum(row.before - row.after for row in report.rows if row.unit == "neurons")
    assert gone == idle > 0
    assert 0 < report.active_neuron_rate < 1


def test_densified_after_compaction_it_computes_the_same():
    model = idle("gpt2")
    compact(model)
    before = families.logits(model, "gpt2")
    hf_chts.densify(model)
    assert sparse_layers(model) == {}
    assert_same(families.logits(model, "gpt2"), before)


def test_a_compacted_model_trains_and_its_links_evolve():
    config = SparsityConfig(
        method="chts", sparsity=0.8, update_interval=2, stop_fraction=1.0, kernel="dense"
    )
    model = families.make("marian")
    hf_chts.sparsify(model, config)
    families.make_idle(model)
    report = compact(model)
    assert model.training
    assert all(layer.training for layer in sparse_layers(model).values())
    model.sparsity_config = dataclasses.replace(config, sparsity=report.sparsity)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
    topology = hf_chts.Topology(model, optimizer, total_steps=6)
    updates = []

    def train(step):
        topology.before_backward(step)
        loss = model(**families.batch("marian")).loss
        loss.backward()
        assert all(x.values.grad is not None for x in sparse_layers(model).values())
        optimizer.step()
        updates.extend(topology.after_step(step))
        optimizer.zero_grad()
        return loss.item()

    losses = [train(step) for step in range(1, 7)]
    assert losses[-1] < losses[0]
    assert sum(row.regrown for row in updates) > 0
    links = sum(layer.nnz for layer in sparse_layers(model).values())
    assert links == pytest.approx(report.links_after, abs=len(sparse_layers(model)))


def test_frozen_weights_stay_frozen_and_copies_work():
    model = idle("marian")
    model.model.encoder.requires_grad_(False)
    compact(model)
    for path, layer in sparse_layers(model).items():
        frozen = ".encoder." in path
        assert layer.values.requires_grad is not frozen
        assert layer.bias.requires_grad is not frozen
    twin = copy.deepcopy(model)
    assert torch.equal(families.logits(twin, "marian"), families.logits(model, "marian"))


def test_links_that_rest_go_on_resting():
    model = idle("marian")
    for layer in sparse_layers(model).values():
        layer.resting = True
    compact(model)
    assert all(layer.resting for layer in sparse_layers(model).values())


def test_queries_and_keys_alone_free_no_head():
    model = sparse("marian")
    masks = {path: layer.mask for path, layer in sparse_layers(model).items()}
    for path in masks:
        if path.endswith(("q_proj", "k_proj")):
            masks[path][:8] = False
    cut(model, masks)
    heads = [row for row in compact(model).rows if row.unit == "heads"]
    assert all((row.before, row.after) == (2, 2) for row in heads)


def test_heads_that_share_a_key_go_together_or_not_at_all():
    """Query heads 0 and 1 read value head 0, heads 2 and 3 value head 1; 4 neurons each."""
    model = sparse("llama")
    masks = {path: layer.mask for path, layer in sparse_layers(model).items()}
    masks["model.layers.0.self_attn.o_proj"][:, :8] = False
    masks["model.layers.1.self_attn.o_proj"][:, 4:8] = False
    masks["model.layers.1.self_attn.o_proj"][0, 0] = True
    cut(model, masks)
    before = families.logits(model, "llama")
    rows = {row.name: (row.before, row.after) for row in compact(model).rows}
    assert rows["model.layers.0.self_attn"] == (2, 1)
    assert rows["model.layers.1.self_attn"] == (2, 2)
    attention = model.model.layers[0].self_attn
    assert (attention.q_proj.out_features, attention.v_proj.out_features) == (8, 4)
    assert_same(families.logits(model, "llama"), before)


@pytest.mark.parametrize("name", ["marian", "gpt2", "bert2gpt2"])
def test_one_neuron_and_one_head_always_stay(name):
    model = sparse(name)
    families.make_idle(model)
    masks = {path: torch.zeros_like(x.mask) for path, x in sparse_layers(model).items()}
    cut(model, masks)
    before, translations = families.logits(model, name), families.beams(model, name)
    report = compact(model)
    assert all(row.after == 1 for row in report.rows)
    assert report.links_after == 0
    assert_same(families.logits(model, name), before)
    assert torch.equal(families.beams(model, name), translations)
    assert not compact(model).changed


def test_a_static_cache_follows_the_heads():
    model = idle("llama")
    before = families.beams(model, "llama", num_beams=1)
    compact(model)
    static = families.beams(model, "llama", num_beams=1, cache_implementation="static")
    assert torch.equal(static, before)


def test_a_layer_without_bias_gets_one_for_constants_that_are_not_zero():
    """sigmoid(0) is 1/2; T5 has no biases."""
    config = hf.T5Config(**families.T5_LIKE, feed_forward_proj="sigmoid")
    model = hf.T5ForConditionalGeneration(config)
    hf_chts.sparsify(model, SparsityConfig(sparsity=0.5, kernel="dense"))
    families.make_idle(model)
    wo = "encoder.block.0.layer.1.DenseReluDense.wo"
    constant = sparse_layers(model)[wo].to_dense()[:, ::4].sum(1) / 2
    before = families.logits(model, "t5")
    compact(model)
    layers = sparse_layers(model)
    assert_same(layers[wo].bias, constant)
    assert layers[wo].bias.requires_grad
    assert all(x.bias is None for path, x in layers.items() if not path.endswith("wo"))
    assert_same(families.logits(model, "t5"), before)


def test_the_report_says_what_went_and_what_stayed():
    report = compact(idle("led"))
    lines = str(report).splitlines()
    assert lines[0].split() == ["between", "layers", "neurons", "heads", "state"]
    (encoder,) = [line for line in lines if line.startswith("led.encoder.layers.*.fc1 > fc2 x2")]
    assert encoder.split()[-5:] == ["48", ">", "24", "-", "compacted"]
    assert sum(f"kept: {WIDTH}" in line for line in lines) == 3
    (links,) = [line for line in lines if line.startswith("active links")]
    assert links.split()[2:4] == [f"{report.links_before:,}", f"{report.links_after:,}"]
    assert lines[-1] == f"active neurons (ANP)  {report.active_neuron_rate:.4f}"
    assert "all active" in str(compact(sparse("marian")))


def test_a_dense_model_is_refused():
    with pytest.raises(ValueError, match=r"not sparse: call hf_chts\.sparsify"):
        compact(families.make("marian"))
    with pytest.raises(ValueError, match="not sparse"):
        compact(nn.Linear(2, 2))
    with pytest.raises(TypeError, match=r"takes a torch\.nn\.Module, got NoneType"):
        compact(None)
