"""Which neurons go, by hand-worked cases; and what is not opened, with its reason."""

import itertools

import families
import pytest
import torch
import transformers as hf
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from hf_chts import SparsityConfig, sparse_layers, sparsify
from hf_chts.compaction import compact
from hf_chts.network.wiring import hidden_groups


class FeedForward(nn.Module):
    def __init__(self, activation, between=None, width=4):
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(3, width), nn.Linear(width, 3)
        self.act, self.between = activation, between

    def forward(self, x):
        x = self.act(self.fc1(x))
        return self.fc2(x if self.between is None else self.between(x))


class Skipping(nn.Sequential):
    """Hidden neurons that carry the inputs, too."""

    def forward(self, x):
        first, activation, second = self
        return second(activation(first(x)) + x)


class Pairs(nn.Module):
    """What an activation does with two neurons each, over the last dimension."""

    def __init__(self, mix):
        super().__init__()
        self.mix = mix

    def forward(self, x):
        return self.mix(x.unflatten(-1, (-1, 2))).flatten(-2)


class Gated(nn.Module):
    def __init__(self):
        super().__init__()
        self.gate_proj, self.up_proj = nn.Linear(1, 8), nn.Linear(1, 8)
        self.down_proj = nn.Linear(8, 1, bias=False)
        self.act_fn = nn.ReLU()

    def forward(self, x):
        return self.down_proj(self.act_fn(self.gate_proj(x)) * self.up_proj(x))


def sparse(model, **options):
    sparsify(model, SparsityConfig(sparsity=0.0, kernel="dense", **options))
    return model


def set_weight(layer, weight):
    weight = torch.as_tensor(weight, dtype=torch.float32)
    positions = weight.flatten().nonzero().squeeze(1)
    layer.set_links(positions, weight.flatten()[positions])


def reasons(model):
    return {row.name: row.reason for row in compact(model).rows if row.reason}


def test_constants_move_into_the_next_bias_by_hand():
    """Neuron 0 is relu(2) = 2, neuron 1 relu(-3) = 0, neuron 2 leads nowhere, neuron 3 stays."""
    model = sparse(nn.Sequential(nn.Linear(2, 4), nn.ReLU(), nn.Dropout(0.5), nn.Linear(4, 2)))
    first, second = model[0], model[3]
    set_weight(first, [[0, 0], [0, 0], [1, 1], [1, 0]])
    set_weight(second, [[5, 7, 0, 1], [0, 7, 0, 2]])
    first.bias.data = torch.tensor([2.0, -3.0, 1.0, 0.5])
    second.bias.data = torch.tensor([1.0, 1.0])
    (row,) = compact(model).rows
    assert (row.name, row.unit, row.before, row.after) == ("0 > 3", "neurons", 4, 1)
    assert torch.equal(model[0].to_dense(), torch.tensor([[1.0, 0.0]]))
    assert torch.equal(model[0].bias, torch.tensor([0.5]))
    assert torch.equal(model[3].to_dense(), torch.tensor([[1.0], [2.0]]))
    assert torch.equal(model[3].bias, torch.tensor([11.0, 1.0]))


def test_gated_neurons_go_only_where_their_product_is_constant():
    """Gate and up: weight, bias; a weight of 0 is no link. The output layer has no bias."""
    cases = [  # gate, up, whether it goes, constant it leaves
        ((1, 1), (1, 1), False, 0),
        ((0, 2), (0, 3), True, 6),
        ((0, 2), (1, 3), False, 0),  # twice the up neuron: no constant
        ((0, -2), (1, 3), True, 0),  # relu(-2) = 0
        ((0, 0), (1, 3), True, 0),
        ((1, 3), (0, 0), True, 0),
        ((1, 3), (0, 2), False, 0),
        ((0, 5), (0, -1), True, -5),
    ]
    model = sparse(Gated())
    for layer, side in ((model.gate_proj, 0), (model.up_proj, 1)):
        set_weight(layer, [[case[side][0]] for case in cases])
        layer.bias.data = torch.tensor([float(case[side][1]) for case in cases])
    set_weight(model.down_proj, [[1.0] * 8])
    x = torch.linspace(-3, 3, 7)[:, None]
    before = model(x)
    (row,) = compact(model).rows
    assert row.after == sum(not goes for _, _, goes, _ in cases) == 3
    assert model.down_proj.bias.tolist() == [sum(constant for *_, constant in cases)] == [1]
    torch.testing.assert_close(model(x), before)


def test_no_bias_is_made_for_constants_of_zero():
    model = sparse(Gated())
    set_weight(model.up_proj, [[1.0]] * 4 + [[0.0]] * 4)
    with torch.no_grad():
        model.up_proj.bias.zero_()
    (row,) = compact(model).rows
    assert row.after == 4
    assert model.down_proj.bias is None


@settings(max_examples=40)
@given(st.integers(0, 10**6), st.floats(0.05, 0.6), st.booleans())
def test_perceptrons_compute_the_same_and_come_to_rest(seed, density, bias):
    torch.manual_seed(seed)
    widths = (3, 6, 5, 6, 2)
    steps = [nn.Tanh(), nn.GELU(), nn.Sigmoid()]
    modules = []
    for inputs, outputs in itertools.pairwise(widths):
        modules += [nn.Linear(inputs, outputs, bias=bias), *steps[:1]]
        steps = steps[1:]
    model = sparse(nn.Sequential(*modules)).eval()
    for layer in sparse_layers(model).values():
        positions = (torch.rand(layer.mask.numel()) < density).nonzero().squeeze(1)
        layer.set_links(positions, torch.randn(len(positions)))
        if bias:
            layer.bias.data.normal_()
    x = torch.randn(5, 3)
    before = model(x)
    compact(model)
    torch.testing.assert_close(model(x), before, atol=1e-5, rtol=1e-5)
    layers = list(sparse_layers(model).values())
    assert (layers[0].in_features, layers[-1].out_features) == (3, 2)
    for layer, behind in itertools.pairwise(layers):
        if layer.out_features > 1:
            assert bool(layer.mask.any(1).all())
            assert bool(behind.mask.any(0).all())
    assert not compact(model).changed


@pytest.mark.parametrize(
    ("activation", "reason"),
    [
        (nn.Softmax(-1), "its activation mixes neurons"),
        (nn.GLU(), "its activation mixes neurons"),
        (nn.LayerNorm(4, elementwise_affine=False), "its activation mixes neurons"),
        (nn.Softmax(1), "its activation mixes neurons"),
        (nn.BatchNorm1d(4, affine=False), "its activation mixes neurons"),
        (nn.Bilinear, "its activation mixes neurons"),  # called with three numbers
        (Pairs(lambda pair: pair.sort(-1).values), "its activation mixes neurons"),
        (Pairs(lambda pair: pair.softmax(-1)), "its activation mixes neurons"),
        (nn.PReLU(4), "its activation has weights"),
        (None, "its activation was not found"),
    ],
)
def test_activations_that_are_not_sure_keep_their_neurons(activation, reason):
    assert reasons(sparse(FeedForward(activation))) == {"fc1 > fc2": reason}


def test_active_neurons_are_those_that_percolation_leaves():
    """The last neuron behind the first layer feeds only one that nobody reads."""
    model = sparse(nn.Sequential(*(nn.Linear(3, 3) for _ in range(3))))
    for layer, weight in zip(model, (torch.ones(3, 3), torch.eye(3), torch.eye(3)), strict=True):
        set_weight(layer, weight)
    set_weight(model[2], [[1, 0, 0], [0, 1, 0], [0, 0, 0]])
    assert compact(model).active_neuron_rate == pytest.approx(4 / 6)


def test_a_step_between_two_layers_keeps_their_neurons():
    for step in (nn.LayerNorm(4), nn.Conv1d(4, 4, 1)):
        model = sparse(FeedForward(nn.ReLU(), step))
        assert reasons(model) == {"fc1 > fc2": "between may stand between its layers"}
    assert reasons(sparse(FeedForward(nn.ReLU(), nn.Dropout()))) == {}


def test_two_activations_keep_their_neurons():
    model = FeedForward(nn.ReLU())
    model.activation_fn = nn.GELU()
    assert reasons(sparse(model)) == {"fc1 > fc2": "it has several activations"}


def test_layers_that_do_not_fit_or_are_dense_or_shared_keep_their_neurons():
    model = FeedForward(nn.ReLU())
    model.fc2 = nn.Linear(2, 3)
    assert "do not fit each other: [2, 4] neurons" in reasons(sparse(model))["fc1 > fc2"]
    half = FeedForward(nn.ReLU())
    assert reasons(sparse(half, include=("fc1",))) == {"fc1 > fc2": "fc2 is dense"}
    one, other = FeedForward(nn.ReLU()), FeedForward(nn.ReLU())
    other.fc1 = one.fc1
    both = sparse(nn.ModuleDict({"one": one, "other": other}))
    shared = "the model uses a layer of it in several places"
    assert reasons(both) == {"one.fc1 > fc2": shared, "other.fc1 > fc2": shared}


def test_layers_of_unknown_wiring_are_named():
    model = sparse(nn.ModuleDict({"mystery": nn.Linear(3, 3)}))
    assert reasons(model) == {"mystery": "what lies behind it is not known"}


def test_attention_with_a_dense_or_misfit_layer_keeps_its_heads():
    model = families.make("marian")
    sparsify(model, SparsityConfig(sparsity=0.5, exclude=(r".*encoder\.layers\.0.*k_proj",)))
    assert reasons(model) == {"model.encoder.layers.0.self_attn": "k_proj is dense"}
    model = sparse(families.make("marian"))
    model.model.encoder.layers[0].self_attn.head_dim = 5
    (reason,) = reasons(model).values()
    assert reason == "its layers do not fit each other: [16, 16, 16] neurons, heads of 5"


def test_torch_transformer_layers_lose_feed_forward_neurons():
    torch.manual_seed(0)
    model = sparse(nn.Transformer(8, 2, 1, 1, 12, dropout=0.0, batch_first=True))
    for path, layer in sparse_layers(model).items():
        mask = layer.mask
        (mask if path.endswith("linear1") else mask.t())[:3] = False
        positions = mask.flatten().nonzero().squeeze(1)
        layer.set_links(positions, torch.randn(len(positions)))
        layer.bias.data.normal_()
    x, y = torch.randn(2, 5, 8), torch.randn(2, 4, 8)
    before = model.eval()(x, y)
    report = compact(model)
    assert [(row.before, row.after) for row in report.rows] == [(12, 9), (12, 9)]
    torch.testing.assert_close(model(x, y), before, atol=1e-5, rtol=1e-5)


def test_gates_with_biases_in_a_real_family():
    config = hf.LlamaConfig(**families.LLAMA_LIKE, mlp_bias=True, attention_bias=True)
    model = sparse(hf.LlamaForCausalLM(config))
    families.make_idle(model)
    before = families.logits(model, "llama")
    report = compact(model)
    assert report.changed
    torch.testing.assert_close(families.logits(model, "llama"), before, atol=1e-5, rtol=1e-5)
    assert {row.after for row in report.rows if row.unit == "heads"} == {1}


def test_a_layer_used_twice_in_a_row_keeps_its_neurons():
    layer = nn.Linear(6, 6)
    model = sparse(nn.Sequential(layer, nn.ReLU(), layer, nn.ReLU(), nn.Linear(6, 3)))
    assert set(reasons(model).values()) == {"the model uses a layer of it in several places"}
    assert hidden_groups(model) == []
    before = {name: x.mask for name, x in sparse_layers(model).items()}
    x = torch.randn(5, 6)
    y = model(x)
    compact(model)
    assert all(torch.equal(x.mask, before[name]) for name, x in sparse_layers(model).items())
    torch.testing.assert_close(model(x), y)


def test_a_sequence_with_a_forward_of_its_own_keeps_its_neurons():
    model = sparse(Skipping(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 2)))
    set_weight(model[0], [[0] * 4, *torch.eye(4).tolist()[1:]])
    x = torch.randn(5, 4)
    before = model(x)
    assert set(reasons(model)) == {"0", "2"}
    assert hidden_groups(model) == []
    torch.testing.assert_close(model(x), before)


def test_neurons_of_a_shared_layer_are_in_no_group():
    one, other = FeedForward(nn.ReLU()), FeedForward(nn.ReLU())
    other.fc1 = one.fc1
    assert hidden_groups(sparse(nn.ModuleDict({"one": one, "other": other}))) == []
    block = FeedForward(nn.ReLU())  # a block that is shared as a whole is one place
    assert len(hidden_groups(sparse(nn.ModuleDict({"one": block, "other": block})))) == 1
