"""What cannot be patched is refused before anything changes."""

import families
import pytest
import torch
from peft import LoraConfig, get_peft_model
from small_models import perceptron
from torch import nn

from hf_chts import SparsityConfig, densify, sparse_layers, sparsify
from hf_chts.patching import plan

# Refusals leave the model as it was

REFUSALS = {
    "nothing matches": (SparsityConfig(include=("fc9",)), "pattern 'fc9' matches no linear layer"),
    "nothing left": (SparsityConfig(exclude=(".*",)), "nothing to patch: all 33"),
    "bad regex": (SparsityConfig(include=("(",)), "is no regular expression"),
    "method": (SparsityConfig(method="chst"), "no method 'chst': did you mean 'cht'"),
    "initial": (SparsityConfig(initial="bfr"), "no initial rule 'bfr': did you mean"),
    "removal": (SparsityConfig(removal="magnitud"), "no removal rule 'magnitud'"),
    "regrowth": (SparsityConfig(regrowth="gradients"), "no regrowth rule 'gradients'"),
    "parameter": (SparsityConfig(initial={"rule": "brf", "q": 1}), "takes r, degrees; got q"),
    "value": (SparsityConfig(initial={"rule": "brf", "r": 7.0}), r"r must be in \[0, 1\]; got 7"),
    "obd": (SparsityConfig(layer_density="obd"), "'obd' moves .* method 'chts' keeps its"),
    "word": (
        SparsityConfig(initial={"rule": "brf", "r": "x"}),
        "initial rule .*: .x.} cannot be used",
    ),
    "empty": (SparsityConfig(initial={}), "no initial rule ''"),
    "late value": (
        SparsityConfig(removal={"rule": "relative_importance", "alpha": 2.0}),
        r"alpha must be in \[0, 1\]; got 2",
    ),
    "late word": (
        SparsityConfig(regrowth={"rule": "ch2_l3n_normalised", "power": "high"}),
        "regrowth rule .*: .high.} cannot be used",
    ),
    "endless": (
        SparsityConfig(decay={"rule": "mest", "gradient_weight": float("inf")}),
        r"gradient_weight must be in \[0, inf\); got inf",
    ),
    "percolation": (
        SparsityConfig(method="gmp", percolation=True),
        "percolation takes links .* method 'gmp' regrows none",
    ),
    "idle regrowth": (
        SparsityConfig(method="static", regrowth="random"),
        "regrowth 'random' would bring no link: method 'static' takes none away",
    ),
    "no link": (SparsityConfig(sparsity=0.9999), "would get no link at density|without a link"),
}


@pytest.mark.parametrize("kind", REFUSALS)
def test_refusals_change_nothing(kind):
    config, says = REFUSALS[kind]
    model = families.make("marian")
    state = {key: tensor.clone() for key, tensor in model.state_dict().items()}
    with pytest.raises(ValueError, match=says):
        sparsify(model, config)
    assert sparse_layers(model) == {}
    assert not hasattr(model, "sparsity_config")
    assert not hasattr(model.config, "quantization_config")
    assert state.keys() == model.state_dict().keys()
    assert all(torch.equal(state[key], tensor) for key, tensor in model.state_dict().items())


def test_one_layer_too_small_for_a_link_keeps_all_layers_dense():
    model = nn.Sequential(nn.Linear(50, 50), nn.Linear(50, 2))
    with pytest.raises(ValueError, match=r"'?1'? \(2 x 50\)"):
        sparsify(model, SparsityConfig(sparsity=0.996, method="set"))
    assert type(model[0]) is type(model[1]) is nn.Linear


def test_the_native_kernel_is_refused_before_anything_changes():
    model = perceptron(8, 8, 8).double()
    with pytest.raises(ValueError, match="native kernel cannot run"):
        sparsify(model, SparsityConfig(sparsity=0.5, kernel="native"))
    assert type(model[0]) is type(model[2]) is nn.Linear


def test_twice_sparse_and_never_sparse_are_refused():
    model = perceptron(8, 8)
    with pytest.raises(ValueError, match="no sparse layer: nothing to make dense"):
        densify(model)
    sparsify(model, SparsityConfig(sparsity=0.5))
    weight = model[0].to_dense()
    with pytest.raises(ValueError, match=r"sparse already: call hf_chts\.densify"):
        sparsify(model, SparsityConfig(sparsity=0.5))
    assert torch.equal(model[0].to_dense(), weight)


def test_a_model_without_linears_or_without_data_is_refused():
    with pytest.raises(ValueError, match=r"nothing to patch: ReLU has no nn\.Linear"):
        sparsify(nn.ReLU())
    with torch.device("meta"):
        model = perceptron(8, 8)
    with pytest.raises(ValueError, match=r"0 has no data \(meta device\)"):
        sparsify(model, SparsityConfig(sparsity=0.5))
    assert type(model[0]) is nn.Linear
    assert plan(model, SparsityConfig(sparsity=0.5))[0].sparse_links == 32


@pytest.mark.parametrize("where", ["wrapped", "inside"])
def test_adapters_are_to_be_merged_first(where):
    model, adapters = families.make("marian"), LoraConfig(r=4, target_modules=["q_proj", "fc1"])
    adapted = get_peft_model(model, adapters)
    whole = adapted if where == "wrapped" else model
    with pytest.raises(ValueError, match=r"has adapters \(PEFT\): .* \(merge_and_unload\)"):
        sparsify(whole)
    assert sparse_layers(whole) == {}
    merged = adapted.merge_and_unload()
    sparsify(merged)
    assert "model.encoder.layers.0.self_attn.q_proj" in sparse_layers(merged)


@pytest.mark.parametrize(
    "hook",
    [
        lambda layer: layer.register_forward_hook(lambda *_: None),
        lambda layer: layer.register_forward_pre_hook(lambda *_: None),
        lambda layer: layer.register_full_backward_hook(lambda *_: None),
        lambda layer: layer.register_full_backward_pre_hook(lambda *_: None),
    ],
)
def test_a_hook_that_would_be_lost_is_refused(hook):
    model = perceptron(8, 8, 8)
    hook(model[2])
    with pytest.raises(ValueError, match=r"^2 has a hook, .* exclude$"):
        sparsify(model, SparsityConfig(sparsity=0.5))
    assert type(model[0]) is nn.Linear
    sparsify(model, SparsityConfig(sparsity=0.5, exclude=("2",)))
    assert type(model[2]) is nn.Linear
