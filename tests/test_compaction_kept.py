"""What compaction leaves as it was, and how its report says so."""

import dataclasses

import families
import pytest
import torch
import transformers as hf
from torch import nn

from hf_chts import SparsityConfig, sparse_layers, sparsify
from hf_chts.compaction import CompactionReport, CompactionRow, compact


def kinds(model):
    return {
        path: (layer.kernel, layer.dense_class, layer.values.dtype, layer.bias.dtype)
        for path, layer in sparse_layers(model).items()
    }


def test_layers_stay_of_their_kind():
    """GPT-2's are no nn.Linear; the kernel and the type are not the usual ones, either."""
    model = families.make("gpt2")
    sparsify(model, SparsityConfig(sparsity=0.5, kernel="dense"))
    families.make_idle(model)
    model.to(torch.bfloat16)
    before = kinds(model)
    assert compact(model).changed
    assert kinds(model) == before


def test_what_is_frozen_or_evaluated_stays_so():
    """Weights alone are frozen, as where biases alone are tuned."""
    model = families.make("marian").eval()
    sparsify(model, SparsityConfig(sparsity=0.5))
    families.make_idle(model)
    for layer in sparse_layers(model).values():
        layer.values.requires_grad_(False)
    assert compact(model).changed
    for layer in sparse_layers(model).values():
        assert (layer.values.requires_grad, layer.bias.requires_grad) == (False, True)
    assert not any(module.training for module in model.modules())


def test_a_bias_that_a_frozen_layer_gets_is_frozen():
    """sigmoid(0) is 1/2; T5 has no biases."""
    config = hf.T5Config(**families.T5_LIKE, feed_forward_proj="sigmoid")
    model = hf.T5ForConditionalGeneration(config)
    sparsify(model, SparsityConfig(sparsity=0.5))
    families.make_idle(model)
    model.requires_grad_(False)
    compact(model)
    biases = [x.bias for x in sparse_layers(model).values() if x.bias is not None]
    assert len(biases) == 4  # of the second feed-forward layers
    assert not any(parameter.requires_grad for parameter in model.parameters())


def test_places_that_are_all_dense_are_not_listed():
    model = families.make("marian")
    sparsify(model, SparsityConfig(sparsity=0.5, include=("fc1", "fc2")))
    rows = compact(model).rows
    assert [(row.unit, row.reason) for row in rows] == [("neurons", "")] * 4


@pytest.mark.parametrize(
    ("query", "key", "value", "inputs"),
    [(16, 8, 16, 16), (16, 16, 8, 16), (16, 16, 16, 24), (24, 16, 16, 24)],
)
def test_heads_whose_layers_do_not_fit_each_other_stay(query, key, value, inputs):
    """Models that could not run; here one layer is as wide as no head allows."""
    model = families.make("marian")
    attention = model.model.encoder.layers[0].self_attn
    for name, width in (("q_proj", query), ("k_proj", key), ("v_proj", value)):
        setattr(attention, name, nn.Linear(16, width))
    attention.out_proj = nn.Linear(inputs, 16)
    sparsify(model, SparsityConfig(sparsity=0.5))
    (reason,) = {row.reason for row in compact(model).rows if row.reason}
    widths = f"[{query}, {key}, {value}]"
    assert reason == f"its layers do not fit each other: {widths} neurons, heads of 8"


def test_a_model_that_was_given_the_dense_method_is_refused():
    model = families.make("marian")
    sparsify(model, SparsityConfig(method="dense"))
    with pytest.raises(ValueError, match="the model is not sparse"):
        compact(model)


def test_a_model_without_hidden_neurons_is_reported():
    model = nn.ModuleDict({"mystery": nn.Linear(3, 3)})
    sparsify(model, SparsityConfig(sparsity=0.5))
    report = compact(model)
    assert report.active_neuron_rate is None
    lines = str(report).splitlines()
    assert lines[2].split(maxsplit=3) == [
        *("mystery", "-", "-"),
        "kept: what lies behind it is not known",
    ]
    assert lines[-1] == "active neurons (ANP)  no hidden neurons known"


def test_a_report_by_hand():
    """A family's places are added up, but for those that may lose nothing."""
    report = CompactionReport(
        rows=(
            CompactionRow("m.0.fc1 > fc2", "neurons", 1200, 700, ""),
            CompactionRow("m.1.fc1 > fc2", "neurons", 800, 800, ""),
            CompactionRow("m.2.fc1 > fc2", "neurons", 0, 0, "fc2 is dense"),
            CompactionRow("m.0.attn", "heads", 8, 8, ""),
        ),
        parameters_before=4000,
        parameters_after=3000,
        links_before=1600,
        links_after=500,
        links_dense=2000,
        active_neuron_rate=0.625,
    )
    assert report.changed
    assert report.sparsity == 0.75
    assert [line.split() for line in str(report).splitlines() if "---" not in line] == [
        ["between", "layers", "neurons", "heads", "state"],
        [*("m.*.fc1", ">", "fc2", "x2"), *("2,000", ">", "1,500"), "-", "compacted"],
        [*("m.*.fc1", ">", "fc2"), "-", "-", *("kept:", "fc2", "is", "dense")],
        ["m.*.attn", "-", *("8", ">", "8"), "all", "active"],
        [],
        ["before", "after", "ratio"],
        ["parameters", "4,000", "3,000", "0.7500"],
        ["active", "links", "1,600", "500", "0.3125"],
        ["active", "neurons", "(ANP)", "0.6250"],
    ]
    without_links = dataclasses.replace(report, links_before=0, links_after=0)
    assert "\nactive links       0      0  0.0000\n" in str(without_links)
