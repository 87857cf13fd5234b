"""sparsify and densify: what changes, what does not, and what is refused untouched."""

import copy
import dataclasses
import re

import families
import pytest
import torch
from small_models import perceptron
from torch import nn
from transformers.pytorch_utils import Conv1D

import hf_chts
from hf_chts import SparsityConfig, densify, sparse_layers, sparsify
from hf_chts.network.patch_report import PatchReport
from hf_chts.patching import plan

CONFIG = SparsityConfig(sparsity=0.8)


def n_parameters(model):
    return sum(parameter.numel() for parameter in model.parameters())


def total_line(report):
    line = next(line for line in str(report).splitlines() if line.startswith("total"))
    return [int(number.replace(",", "")) for number in line.split()[1:3]]


# Every family


@pytest.mark.parametrize("name", families.FAMILIES)
def test_every_family_is_made_sparse_trains_and_is_made_dense_again(name):
    model = families.make(name)
    want, before = families.expected(name, model), n_parameters(model)
    classes = {n: type(m) for n, m in model.named_modules()}
    report = sparsify(model, CONFIG)
    layers = sparse_layers(model)
    assert set(layers) == want
    for path, layer in layers.items():
        size = layer.in_features * layer.out_features
        assert layer.nnz == round(0.2 * size) == int(layer.mask.sum()), path
        assert layer.training
    assert total_line(report) == [before, n_parameters(model)]
    # One training step moves every link weight that gets a gradient, and only links.
    positions = {path: layer.positions for path, layer in layers.items()}
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    loss = model(**families.batch(name)).loss
    loss.backward()
    local = [layer for path, layer in layers.items() if "_global" not in path]
    assert all(bool((layer.values.grad != 0).any()) for layer in local)
    optimizer.step()
    with torch.no_grad():
        model.eval()
        assert model(**families.batch(name)).loss.item() != loss.item()
        model.train()
    assert all(torch.equal(layer.positions, positions[path]) for path, layer in layers.items())
    # Dense again: same outputs, same classes, same translations.
    outputs, translations = families.logits(model, name), families.beams(model, name)
    assert densify(model) is model
    assert {n: type(m) for n, m in model.named_modules()} == classes
    assert n_parameters(model) == before
    torch.testing.assert_close(families.logits(model, name), outputs)
    assert torch.equal(families.beams(model, name), translations)
    assert not hasattr(model.config, "quantization_config")
    assert len(sparse_layers(model)) == 0
    sparsify(model, CONFIG)


# Plain modules


def test_a_plain_sequential_and_a_module_with_two_names():
    model = perceptron(10, 20, 20, 5)
    model.append(nn.ReLU())
    shared = nn.Linear(5, 5)
    model.append(shared)
    model.append(shared)
    x = torch.randn(3, 10)
    sparsify(model, SparsityConfig(sparsity=0.5))
    assert model[6] is model[7]
    assert sorted(sparse_layers(model)) == ["0", "2", "4", "6"]
    outputs = model(x)
    densify(model)
    assert type(model[6]) is nn.Linear
    assert model[6] is model[7]
    torch.testing.assert_close(model(x), outputs)


def test_torchs_encoder_does_not_read_past_the_sparse_layers():
    layer = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True, dropout=0.0)
    model = nn.TransformerEncoder(layer, 2)
    sparsify(model, SparsityConfig(sparsity=0.5))
    x, padding = torch.randn(2, 3, 16), torch.tensor([[False] * 3, [False, False, True]])
    want = model(x, src_key_padding_mask=padding).detach()
    model.eval()
    with torch.no_grad():  # where torch would take its fused path
        torch.testing.assert_close(model(x, src_key_padding_mask=padding), want)
        torch.testing.assert_close(model(x), model.layers[1](model.layers[0](x)))


def test_conv1d_comes_back_as_conv1d():
    model = nn.Sequential(Conv1D(6, 4))
    before = model[0].weight.detach().clone()
    sparsify(model, SparsityConfig(sparsity=0.5, weight_init="keep", initial="magnitude"))
    assert (model[0].in_features, model[0].out_features) == (4, 6)
    densify(model)
    assert type(model[0]) is Conv1D
    kept = model[0].weight != 0
    assert torch.equal(model[0].weight[kept], before[kept])
    assert int(kept.sum()) == 12


def test_full_density_is_a_dense_layer():
    model, x = perceptron(6, 8, 4), torch.randn(2, 6)
    want = model(x)
    report = sparsify(model, SparsityConfig(sparsity=0.0, weight_init="keep"))
    assert all(row.density == 1 for row in report.rows)
    torch.testing.assert_close(model(x), want)


# What is kept


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("bias", [True, False])
def test_type_mode_freezing_and_bias_are_kept(dtype, bias):
    model = perceptron(8, 8, 8, bias=bias).to(dtype)
    model[0].weight.requires_grad_(False)
    model[0].eval()
    biases = [model[0].bias, model[2].bias]
    sparsify(model, SparsityConfig(sparsity=0.5, kernel="dense"))
    assert [model[i].values.dtype for i in (0, 2)] == [dtype] * 2
    assert [model[i].values.requires_grad for i in (0, 2)] == [False, True]
    assert [model[i].training for i in (0, 2)] == [False, True]
    assert all(model[i].bias is b for i, b in zip((0, 2), biases, strict=True))
    densify(model)
    assert [model[i].weight.requires_grad for i in (0, 2)] == [False, True]
    assert [model[i].training for i in (0, 2)] == [False, True]
    assert model[0].weight.dtype == dtype
    assert all(model[i].bias is b for i, b in zip((0, 2), biases, strict=True))


def test_neither_direction_draws_from_the_global_generator():
    model = perceptron(8, 8)
    state = torch.get_rng_state()
    sparsify(model, SparsityConfig(sparsity=0.5))
    densify(model)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("initial", ["er", "brf", "bsw", "bsf", "magnitude"])
def test_layers_are_drawn_for_where_they_are_not_for_the_default_device(initial):
    model, config = perceptron(8, 8), SparsityConfig(sparsity=0.5, initial=initial)
    twin = copy.deepcopy(model)
    sparsify(model, config)
    with torch.device("meta"):
        sparsify(twin, config)
    assert torch.equal(twin[0].to_dense(), model[0].to_dense())


def test_the_same_seed_draws_the_same_links_and_weights():
    def drawn(seed, **changes):
        model = perceptron(20, 30, 10)
        sparsify(model, SparsityConfig(sparsity=0.7, seed=seed, **changes))
        return [layer.to_dense() for layer in sparse_layers(model).values()]

    same, again, other = drawn(1), drawn(1), drawn(2)
    assert all(torch.equal(a, b) for a, b in zip(same, again, strict=True))
    assert not any(torch.equal(a != 0, b != 0) for a, b in zip(same, other, strict=True))
    alone = drawn(1, include=("2",))  # a layer's draw depends on its own name only
    assert torch.equal(alone[0], same[1])


def test_pretrained_models_keep_exactly_their_largest_weights(tmp_path):
    families.make("marian").save_pretrained(tmp_path)
    model = families.FAMILIES["marian"].auto.from_pretrained(tmp_path)
    dense = {n: m.weight.detach().clone() for n, m in model.named_modules() if hasattr(m, "weight")}
    report = sparsify(model, CONFIG)
    assert (report.config.weight_init, report.config.initial) == ("keep", "magnitude")
    for name, layer in sparse_layers(model).items():
        assert torch.equal(layer.values, dense[name][layer.mask])
        assert layer.values.abs().min() >= dense[name][~layer.mask].abs().max()
    model = families.FAMILIES["marian"].auto.from_pretrained(tmp_path)
    report = sparsify(model, dataclasses.replace(CONFIG, initial="er"))
    assert (report.config.weight_init, report.config.initial) == ("keep", "er")
    assert all(
        torch.equal(layer.values, dense[name][layer.mask])
        for name, layer in sparse_layers(model).items()
    )


@pytest.mark.parametrize(
    ("weight_init", "variance"),
    [("xavier", 2 / (0.25 * 400 + 0.25 * 200)), ("swi", 2 / (0.25 * 200)), ("auto", 2 / 150)],
)
@pytest.mark.parametrize("scale", [1.0, 2.0])
def test_drawn_weights_are_scaled_to_the_links_that_are_there(weight_init, variance, scale):
    model = nn.Sequential(nn.Linear(200, 400))
    sparsify(
        model,
        SparsityConfig(sparsity=0.75, initial="er", weight_init=weight_init, init_scale=scale),
    )
    values = model[0].values
    assert values.std().item() == pytest.approx(scale * variance**0.5, rel=0.03)
    assert abs(values.mean().item()) < 0.03 * scale * variance**0.5


# The method dense


def test_the_method_dense_changes_nothing_and_is_remembered():
    model = families.make("marian")
    before = families.logits(model, "marian")
    report = sparsify(model, SparsityConfig(method="dense"))
    assert sparse_layers(model) == {}
    assert torch.equal(families.logits(model, "marian"), before)
    assert model.sparsity_config.method == "dense"
    assert not hasattr(model.config, "quantization_config")
    assert str(report).startswith("dense: none of 33 linear layers sparse")
    assert total_line(report) == [n_parameters(model)] * 2


# The report


def test_the_report_names_every_layer_and_puts_families_together():
    model = families.make("marian")
    text = str(sparsify(model, dataclasses.replace(CONFIG, exclude=("q_proj",))))
    assert "chts_tied at 80.00% sparsity: 26 of 33 linear layers sparse" in text
    assert "initial topology brf(r=0.25), weights xavier" in text
    assert re.search(r"model\.decoder\.layers\.\*\.fc1 x2 +24 x 16 +154 +0\.2005  sparse", text)
    assert re.search(r"encoder\.layers\.\*\.self_attn\.q_proj x2 .* dense: excluded", text)
    assert re.search(r"lm_head +40 x 16 +640 +1\.0000  dense: tied weights", text)
    assert text.count("q_proj") == 3
    assert max(len(line) for line in text.splitlines()) < 110


def test_the_report_says_how_sparse_a_model_is_whose_density_has_yet_to_fall():
    model = families.make("marian")
    falling = SparsityConfig(method="chtss")
    assert str(sparsify(model, falling)).startswith("chtss at 90.00% sparsity (50.00% now): 32 of")
    ended = PatchReport.of_sparse(model, dataclasses.replace(model.sparsity_config, sparsity=0.5))
    assert str(ended).startswith("chtss at 50.00% sparsity: 32 of")


def test_embeddings_count_once_and_everything_adds_up():
    model = families.make("t5_gated_untied")
    report = sparsify(model, CONFIG)
    tables = {id(m.weight): m.weight.numel() for m in model.modules() if type(m) is nn.Embedding}
    assert report.embedding_parameters == sum(tables.values())
    assert report.sparse_links == sum(layer.nnz for layer in sparse_layers(model).values())
    parts = report.sparse_links + report.embedding_parameters + report.rest_parameters
    assert parts == n_parameters(model)


def test_a_plan_is_what_sparsify_does():
    model = families.make("marian")
    planned, chosen, config = plan(model, CONFIG)
    assert sparse_layers(model) == {}
    assert {finding.name for finding in chosen} == families.expected("marian", model)
    done = sparsify(model, CONFIG)
    assert (str(done), done.config) == (str(planned), config)


def test_public_names():
    assert all(getattr(hf_chts, name) is not None for name in hf_chts.__all__)
    assert hf_chts.__all__ == sorted(hf_chts.__all__)
