"""Which linear layers are found, and which are left dense and why."""

import families
import pytest
import torch
from torch import nn
from torch.nn.utils import prune
from torch.nn.utils.parametrizations import spectral_norm
from torch.nn.utils.parametrize import register_parametrization
from transformers.pytorch_utils import Conv1D

from hf_chts import SparsityConfig, sparsify
from hf_chts.network.linears import family, find_linears, linear_shape
from hf_chts.network.patch_report import PatchReport


class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        self.q_proj, self.k_proj = nn.Linear(4, 4), nn.Linear(4, 4)


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.ModuleList([Attention(), Attention()])
        self.fc1, self.lm_head = nn.Linear(4, 8), nn.Linear(8, 4)


def sparse_names(model, include=(), exclude=()):
    return {f.name for f in find_linears(model, include, exclude) if f.sparse}


def reasons(model, include=(), exclude=()):
    return {f.name: f.reason for f in find_linears(model, include, exclude)}


@pytest.mark.parametrize("name", families.FAMILIES)
def test_every_family_is_found_completely(name):
    model = families.make(name)
    findings = find_linears(model)
    assert {n for f in findings for n in f.names} == families.linears(model)
    assert {f.name for f in findings if f.sparse} == families.expected(name, model)
    assert sum(f.sparse for f in findings) == families.FAMILIES[name].n_sparse


QUERIES = {"layers.0.q_proj", "layers.1.q_proj"}


@pytest.mark.parametrize(
    ("pattern", "found"),
    [
        ("q_proj", QUERIES),
        ("1.q_proj", {"layers.1.q_proj"}),
        ("proj", set()),  # whole dotted parts only
        (r".*\.q_proj", QUERIES),
        (r"layers\.\d", set()),  # a regular expression matches the whole name
        (r"layers\.0\..*", {"layers.0.q_proj", "layers.0.k_proj"}),
        ("layers.1.q_proj", {"layers.1.q_proj"}),
        ("fc1", {"fc1"}),
    ],
)
def test_patterns_are_suffixes_or_whole_regular_expressions(pattern, found):
    if not found:
        with pytest.raises(ValueError, match="matches no linear layer; there are: layers"):
            find_linears(Net(), [pattern])
        return
    assert sparse_names(Net(), [pattern]) == found
    everything = sparse_names(Net())
    assert sparse_names(Net(), (), [pattern]) == everything - found


def test_exclude_wins_over_include():
    assert sparse_names(Net(), ["q_proj", "fc1"], ["0.q_proj"]) == {"layers.1.q_proj", "fc1"}
    why = reasons(Net(), ["q_proj"], ["0.q_proj"])
    assert why["layers.0.q_proj"] == "excluded"
    assert why["fc1"] == "not included"
    assert why["layers.1.q_proj"] == "linear layer"


def test_a_protected_layer_yields_to_its_full_name_only():
    assert reasons(Net())["lm_head"] == "output head"
    assert "lm_head" not in sparse_names(Net(), [".*"])
    assert sparse_names(Net(), ["lm_head"]) == {"lm_head"}


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("output_projection", "output head"),
        ("router", "routing"),
        ("score", "classification"),
        ("pooler", "classification"),
        ("relative_pos_embeddings", "position bias"),
        ("classifiers", None),
    ],
)
def test_layers_protected_by_name(name, reason):
    model = nn.ModuleDict({"fc": nn.Linear(2, 2), name: nn.Linear(2, 2)})
    assert reasons(model)[name] == (reason or "linear layer")


def test_other_modalities_stay_dense():
    model = nn.ModuleDict(
        {
            "text": nn.Linear(2, 2),
            "vision_tower": nn.ModuleDict({"fc": nn.Linear(2, 2)}),
            "multi_modal_projector": nn.ModuleDict({"linear_1": nn.Linear(2, 2)}),
        }
    )
    assert sparse_names(model) == {"text"}


def test_the_head_is_known_by_get_output_embeddings_too():
    class Custom(Net):
        def get_output_embeddings(self):
            return self.fc1

    assert reasons(Custom())["fc1"] == "output head"


def test_weights_shared_by_two_modules_stay_dense_even_when_named():
    model = Net()
    model.layers[1].q_proj.weight = model.layers[0].q_proj.weight
    why = reasons(model, ["layers.0.q_proj", "k_proj"])
    assert why["layers.0.q_proj"] == why["layers.1.q_proj"] == "tied weights"
    assert sparse_names(model, ["k_proj"]) == {"layers.0.k_proj", "layers.1.k_proj"}
    table = nn.Embedding(8, 4)
    tied = nn.ModuleDict({"table": table, "out": nn.Linear(4, 8), "fc": nn.Linear(4, 4)})
    tied["out"].weight = table.weight
    assert reasons(tied) == {"out": "tied weights", "fc": "linear layer"}


def test_a_module_with_two_names_is_one_finding():
    model = Net()
    model.layers[1] = model.layers[0]
    findings = {f.name: f for f in find_linears(model)}
    assert findings["layers.0.q_proj"].names == ("layers.0.q_proj", "layers.1.q_proj")
    assert "layers.1.q_proj" not in findings
    assert sparse_names(model, (), ["1.q_proj"]) == {"layers.0.k_proj", "fc1"}


def test_subclasses_of_linear_are_left_alone():
    class Mine(nn.Linear):
        pass

    attention = nn.MultiheadAttention(4, 2)
    model = nn.ModuleDict({"mine": Mine(2, 2), "mha": attention, "fc": nn.Linear(2, 2)})
    of_torch = type(attention.out_proj).__name__
    assert reasons(model) == {
        "mine": "of class Mine",
        "mha.out_proj": f"of class {of_torch}",
        "fc": "linear layer",
    }
    with pytest.raises(ValueError, match=r"all 3 linear layers stay dense .*mine: of class Mine"):
        find_linears(model, ["mine"])


def test_a_model_without_linear_layers_is_refused():
    with pytest.raises(ValueError, match=r"nothing to patch: Conv2d has no nn\.Linear"):
        find_linears(nn.Conv2d(1, 1, 1))


def test_a_lazy_layer_must_have_seen_a_batch():
    model = nn.Sequential(nn.LazyLinear(3), nn.Linear(3, 2))
    with pytest.raises(ValueError, match=r"^0\.weight has no shape yet, .*: pass one batch"):
        find_linears(model)
    model(torch.ones(1, 5))
    assert find_linears(model)[0].shape == (3, 5)


def test_shapes_are_out_by_in_for_both_kinds():
    assert linear_shape(nn.Linear(3, 5)) == linear_shape(Conv1D(5, 3)) == (5, 3)
    assert find_linears(nn.Sequential(Conv1D(5, 3)))[0].shape == (5, 3)


def test_nothing_left_says_why():
    with pytest.raises(ValueError, match=r"all 2 linear layers stay dense \(0: excluded; 1: "):
        find_linears(nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2)), (), [r"\d"])


def test_a_broken_regular_expression_is_named():
    with pytest.raises(ValueError, match=r"'fc\(' is no regular expression: missing \)"):
        find_linears(Net(), ["fc("])
    with pytest.raises(ValueError, match="is no regular expression"):
        find_linears(Net(), (), ["*"])


def test_families_of_names():
    assert family("decoder.layers.11.fc1") == "decoder.layers.*.fc1"
    assert family("wi_0") == "wi_0"
    assert [family(name) for name in ("2", "net.2")] == ["2", "net.2"]


def test_models_without_data_are_read_too():
    with torch.device("meta"):
        model = families.FAMILIES["marian"].make()
    assert sparse_names(model) == families.expected("marian", model)


@pytest.mark.filterwarnings("ignore:.*weight_norm:FutureWarning")
def test_layers_whose_weights_are_computed_stay_dense():
    net = Net()
    prune.l1_unstructured(net.fc1, "weight", amount=0.5)
    nn.utils.weight_norm(net.layers[0].q_proj)
    why = reasons(net)
    assert why["fc1"] == why["layers.0.q_proj"] == "its weights are computed from others"
    assert why["layers.0.k_proj"] == "linear layer"


@pytest.mark.parametrize("of", ["weight", "bias"])
@pytest.mark.parametrize("kind", [nn.Linear, Conv1D])
def test_layers_with_parametrizations_stay_dense_and_are_listed(kind, of):
    model = nn.ModuleDict({"fc": nn.Linear(6, 4), "with": kind(3, 5)})
    register_parametrization(model["with"], of, nn.Identity())
    why = reasons(model)
    assert why == {"fc": "linear layer", "with": "its weights are computed from others"}
    assert reasons(model, ["fc"])["with"] == "its weights are computed from others"
    report = sparsify(model, SparsityConfig(method="static", sparsity=0.5))
    size = (5, 3) if kind is nn.Linear else (3, 5)
    for told in (report, PatchReport.of_sparse(model, report.config)):
        (row,) = (row for row in told.rows if row.name == "with")
        assert (row.sparse, row.out_features, row.in_features) == (False, *size)
    assert "1 of 2 linear layers sparse" in str(report)


def test_looking_for_layers_changes_no_spectral_norm():
    model = nn.Sequential(nn.Linear(4, 4), spectral_norm(nn.Linear(4, 4)))
    before = {key: x.clone() for key, x in model.state_dict().items()}
    find_linears(model)
    assert all(torch.equal(x, before[key]) for key, x in model.state_dict().items())
