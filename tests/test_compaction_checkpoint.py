"""Compacted models are saved and loaded exactly; damaged configurations are refused."""

import copy
import dataclasses
import json

import families
import pytest
import torch
import transformers as hf
from safetensors.torch import load_file, save_file

import hf_chts
from hf_chts import SparsityConfig, sparse_layers
from hf_chts.compaction import compact

LOADERS = [hf.AutoModelForSeq2SeqLM.from_pretrained, hf_chts.from_pretrained]
FC1, FC2 = "model.encoder.layers.0.fc1", "model.encoder.layers.0.fc2"
VALUE = "model.encoder.layers.0.self_attn.v_proj"


def compacted(name):
    model = families.make(name)
    hf_chts.sparsify(model, SparsityConfig(sparsity=0.5, initial="er"))
    families.make_idle(model)
    compact(model)
    return model


@pytest.fixture(scope="module")
def marian(tmp_path_factory):
    """A saved compacted Marian: the model and its folder. Not to be changed."""
    model = compacted("marian")
    folder = tmp_path_factory.mktemp("marian")
    model.save_pretrained(folder)
    return model, folder


@pytest.fixture
def rewritten(marian, tmp_path):
    """A function that changes the quantization_config on disk, and gives the folder."""

    def rewrite(change):
        _, folder = marian
        written = json.loads((folder / "config.json").read_text())
        change(written["quantization_config"])
        (tmp_path / "config.json").write_text(json.dumps(written))
        (tmp_path / "model.safetensors").symlink_to(folder / "model.safetensors")
        return tmp_path

    return rewrite


@pytest.mark.parametrize("name", families.FAMILIES)
def test_every_family_is_restored_with_its_smaller_layers(name, tmp_path):
    model = compacted(name)
    outputs, translations = families.logits(model, name), families.beams(model, name)
    model.save_pretrained(tmp_path, max_shard_size="6KB")
    again = families.FAMILIES[name].auto.from_pretrained(tmp_path)
    assert torch.equal(families.logits(again, name), outputs)
    assert torch.equal(families.beams(again, name), translations)
    assert again.config.quantization_config == model.config.quantization_config
    assert not compact(again).changed
    again.save_pretrained(tmp_path / "again")
    third = hf_chts.from_pretrained(tmp_path / "again")
    assert torch.equal(families.logits(third, name), outputs)


def test_the_file_names_what_differs_from_the_architecture(marian):
    _, folder = marian
    written = json.loads((folder / "config.json").read_text())
    assert written["encoder_ffn_dim"] == 24
    assert written["quantization_config"]["layers"][FC1] == [12, 16]
    assert written["quantization_config"]["compacted"][FC1] == {
        "dense_shape": [24, 16],
        "bias": True,
    }


def test_a_compacted_model_is_loaded_without_its_head_and_copied(marian):
    model, folder = marian
    base = hf.AutoModel.from_pretrained(folder)
    kept = sparse_layers(model)
    for path, layer in sparse_layers(base).items():
        assert torch.equal(layer.to_dense(), kept[f"model.{path}"].to_dense())
    assert base.encoder.layers[0].self_attn.num_heads == 1
    twin = copy.deepcopy(hf_chts.from_pretrained(folder))
    assert torch.equal(families.logits(twin, "marian"), families.logits(model, "marian"))


def test_a_bias_that_compaction_made_is_restored_and_missed(tmp_path):
    config = hf.T5Config(**families.T5_LIKE, feed_forward_proj="sigmoid")
    model = hf.T5ForConditionalGeneration(config)
    hf_chts.sparsify(model, SparsityConfig(sparsity=0.5))
    families.make_idle(model)
    compact(model)
    model.save_pretrained(tmp_path)
    again = hf_chts.from_pretrained(tmp_path)
    assert torch.equal(families.logits(again, "t5"), families.logits(model, "t5"))
    wo = "encoder.block.0.layer.1.DenseReluDense.wo"
    assert sparse_layers(again)[wo].bias is not None
    tensors = load_file(tmp_path / "model.safetensors")
    del tensors[f"{wo}.bias"]
    save_file(tensors, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ValueError, match=rf"does not fit .* exactly: missing.*{wo}\.bias"):
        hf_chts.from_pretrained(tmp_path)


def test_a_density_chosen_after_compaction_is_in_checkpoints(tmp_path):
    model = families.make("marian")
    hf_chts.sparsify(model, SparsityConfig(sparsity=0.5, initial="er"))
    families.make_idle(model)
    share = compact(model).sparsity
    model.sparsity_config = dataclasses.replace(model.sparsity_config, sparsity=share)
    args = hf.Seq2SeqTrainingArguments(str(tmp_path / "run"), use_cpu=True, report_to=[])
    hf_chts.SparseSeq2SeqTrainer(model=model, args=args)
    model.save_pretrained(tmp_path / "model")
    again = hf_chts.from_pretrained(tmp_path / "model")
    assert again.sparsity_config.sparsity == share != 0.5
    assert again.config.quantization_config["compacted"]


def test_compacting_again_after_loading_remembers_the_first_shape(marian, tmp_path):
    _, folder = marian
    model = hf_chts.from_pretrained(folder)
    layer = sparse_layers(model)[FC1]
    mask = layer.mask
    mask[0] = False
    positions = mask.flatten().nonzero().squeeze(1)
    layer.set_links(positions, layer.to_dense().detach().flatten()[positions])
    outputs = families.logits(model, "marian")
    assert compact(model).changed
    torch.testing.assert_close(families.logits(model, "marian"), outputs, atol=1e-5, rtol=1e-5)
    model.save_pretrained(tmp_path)
    again = hf_chts.from_pretrained(tmp_path)
    assert sparse_layers(again)[FC1].out_features == 11
    entry = again.config.quantization_config["compacted"][FC1]
    assert entry["dense_shape"] == [24, 16]


@pytest.mark.parametrize("load", LOADERS)
@pytest.mark.parametrize(
    ("part", "change", "says"),
    [
        ("col_indices", lambda t: t.__setitem__(0, 16), r"columns must lie in \[0, 16\)"),
        ("crow_indices", lambda t: t.__setitem__(-1, 2**31 - 1), "row pointers must rise"),
    ],
)
def test_damaged_links_of_a_compacted_layer_are_refused(load, part, change, says, marian, tmp_path):
    _, folder = marian
    tensors = load_file(folder / "model.safetensors")
    change(tensors[f"{FC1}.{part}"])
    save_file(tensors, tmp_path / "model.safetensors", metadata={"format": "pt"})
    (tmp_path / "config.json").write_text((folder / "config.json").read_text())
    with pytest.raises(ValueError, match=rf"{FC1} are damaged: .*{says}"):
        load(tmp_path)


SIZES = "two integers of at least 1"
BROKEN = {
    "layers is a list": (lambda q: q.update(layers=["fc1"]), "layers must be a mapping"),
    "layers is a number": (lambda q: q.update(layers=7), "layers must be a mapping; got 7"),
    "sparsity is a text": (lambda q: q.update(sparsity="chts"), "sparsity must be a mapping"),
    "compacted is a list": (lambda q: q.update(compacted=[FC1]), "compacted must be a mapping"),
    "negative": (lambda q: q["layers"].update({FC1: [-12, 16]}), SIZES),
    "zero": (lambda q: q["layers"].update({FC1: [0, 16]}), SIZES),
    "three sizes": (lambda q: q["layers"].update({FC1: [12, 16, 1]}), SIZES),
    "one size": (lambda q: q["layers"].update({FC1: 12}), SIZES),
    "text": (lambda q: q["layers"].update({FC1: "12"}), SIZES),
    "text sizes": (lambda q: q["layers"].update({FC1: ["12", "16"]}), SIZES),
    "fraction": (lambda q: q["layers"].update({FC1: [12.0, 16]}), SIZES),
    "truth": (lambda q: q["layers"].update({FC1: [True, 16]}), SIZES),
    "nothing": (lambda q: q["layers"].update({FC1: None}), SIZES),
    "traversal": (lambda q: q["layers"].update({"../../etc": [1, 1]}), "no layer of a model"),
    "empty part": (lambda q: q["layers"].update({"model..fc1": [1, 1]}), "no layer of a model"),
    "empty name": (lambda q: q["layers"].update({"": [1, 1]}), "no layer of a model"),
    "line end": (lambda q: q["layers"].update({"model\n": [1, 1]}), "no layer of a model"),
    "an entry of no layer": (
        lambda q: q["compacted"].update(fc9={"dense_shape": [1, 1], "bias": True}),
        "compacted 'fc9' must be a layer",
    ),
    "an entry without shape": (lambda q: q["compacted"].update({FC1: {}}), "dense_shape"),
    "an entry that is a list": (lambda q: q["compacted"].update({FC1: [24, 16]}), "dense_shape"),
    "an entry of text": (
        lambda q: q["compacted"][FC1].update(dense_shape="24x16"),
        "dense_shape",
    ),
    "an odd bias": (lambda q: q["compacted"][FC1].update(bias="yes"), r"bias \(true or false\)"),
    "grown": (lambda q: q["layers"].update({FC1: [48, 16]}), "no less than the layer's"),
    "not as built": (
        lambda q: q["compacted"].pop(FC1),
        f"{FC1} is 12 x 16, the model's is 24 x 16",
    ),
    "a width that never goes": (
        lambda q: q["layers"].update({FC1: [12, 15]}),
        f"{FC1} is 12 x 15 instead of 24 x 16",
    ),
    "outputs that never go": (
        lambda q: q["layers"].update({FC2: [15, 12]}),
        f"{FC2} is 15 x 12 instead of 16 x 24",
    ),
    "one layer of a pair": (
        lambda q: q["layers"].update({FC1: [11, 16]}),
        "does not fit the layers around it",
    ),
    "half a head": (
        lambda q: q["layers"].update({VALUE: [4, 16]}),
        "does not fit the layers around it",
    ),
}


@pytest.mark.parametrize("kind", BROKEN)
@pytest.mark.parametrize("load", LOADERS)
def test_broken_configurations_are_refused(kind, load, rewritten):
    change, says = BROKEN[kind]
    with pytest.raises(ValueError, match=says):
        load(rewritten(change))
