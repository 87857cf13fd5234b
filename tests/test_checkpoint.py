"""Sparse models are saved and loaded exactly, and nothing damaged is ever used."""

import copy
import json
import shutil

import families
import pytest
import torch
import transformers as hf
from safetensors.torch import load_file, save_file

import hf_chts
from hf_chts import SparsityConfig, sparse_layers
from hf_chts.layers.kernels import native

CONFIG = SparsityConfig(sparsity=0.8)


def sparse(name, config=CONFIG):
    model = families.make(name)
    hf_chts.sparsify(model, config)
    return model


def change_links(model):
    """Topologies that the configuration alone does not tell, with other numbers of links."""
    for index, layer in enumerate(sparse_layers(model).values()):
        n_links = layer.nnz // 2 + index % 3
        size = layer.in_features * layer.out_features
        layer.set_links(torch.randperm(size)[:n_links].sort().values, torch.randn(n_links) / 8)


@pytest.fixture(scope="module")
def marian(tmp_path_factory):
    """A saved sparse Marian: the model and its folder. Not to be changed."""
    torch.manual_seed(0)
    model = sparse("marian")
    folder = tmp_path_factory.mktemp("marian")
    model.save_pretrained(folder)
    return model, folder


@pytest.fixture
def damaged(marian, tmp_path):
    """A function that saves the model with its tensors changed, and gives the folder."""

    def damage(change):
        _, folder = marian
        tensors = load_file(folder / "model.safetensors")
        change(tensors)
        (tmp_path / "config.json").write_text((folder / "config.json").read_text())
        contiguous = {key: tensor.contiguous() for key, tensor in tensors.items()}
        save_file(contiguous, tmp_path / "model.safetensors", metadata={"format": "pt"})
        return tmp_path

    return damage


@pytest.mark.parametrize("name", families.FAMILIES)
def test_every_family_is_loaded_bit_for_bit_by_the_plain_auto_class(name, tmp_path):
    model = sparse(name)
    change_links(model)
    model.save_pretrained(tmp_path / "whole")
    model.save_pretrained(tmp_path / "shards", max_shard_size="6KB")
    assert len(list((tmp_path / "shards").glob("*.safetensors"))) > 1
    outputs, translations = families.logits(model, name), families.beams(model, name)
    auto = families.FAMILIES[name].auto
    loaded = [
        auto.from_pretrained(tmp_path / "whole"),
        auto.from_pretrained(tmp_path / "shards", device_map="cpu"),
        hf_chts.from_pretrained(tmp_path / "whole"),
    ]
    for again in loaded:
        assert type(again) is type(model)
        assert set(sparse_layers(again)) == set(sparse_layers(model))
        assert torch.equal(families.logits(again, name), outputs)
        frozen = {n for n, p in model.named_parameters() if not p.requires_grad}
        assert {n for n, p in again.named_parameters() if not p.requires_grad} == frozen
        assert again.sparsity_config == model.sparsity_config
    assert torch.equal(families.beams(loaded[0], name), translations)
    for layer, other in zip(
        sparse_layers(model).values(), sparse_layers(loaded[1]).values(), strict=True
    ):
        assert torch.equal(layer.positions, other.positions)


@pytest.mark.parametrize("name", families.FAMILIES)
def test_every_family_is_loaded_in_bf16_and_without_its_head(name, tmp_path):
    model = sparse(name)
    model.save_pretrained(tmp_path)
    half = families.FAMILIES[name].auto.from_pretrained(tmp_path, dtype=torch.bfloat16)
    for layer, other in zip(
        sparse_layers(model).values(), sparse_layers(half).values(), strict=True
    ):
        assert other.values.dtype == torch.bfloat16
        assert not other.crow_indices.is_floating_point()
        assert torch.equal(other.positions, layer.positions)
        assert torch.equal(other.values, layer.values.bfloat16())
    assert bool(families.logits(half, name).isfinite().all())
    if families.FAMILIES[name].base:
        base = hf.AutoModel.from_pretrained(tmp_path)
        assert len(sparse_layers(base)) == families.FAMILIES[name].n_sparse
        prefix = model.base_model_prefix + "."
        kept = {n.removeprefix(prefix): x for n, x in sparse_layers(model).items()}
        for path, layer in sparse_layers(base).items():
            assert torch.equal(layer.to_dense(), kept[path].to_dense())


def test_a_headless_model_gives_its_links_to_one_with_a_head(tmp_path):
    base = hf.MarianModel(hf.MarianConfig(**families.BART_LIKE))
    hf_chts.sparsify(base, CONFIG)
    base.save_pretrained(tmp_path)
    model = hf.MarianMTModel.from_pretrained(tmp_path)
    for path, layer in sparse_layers(base).items():
        assert torch.equal(layer.to_dense(), sparse_layers(model)["model." + path].to_dense())


def test_a_loaded_model_is_an_ordinary_model(marian, tmp_path):
    _, folder = marian
    model = hf.AutoModelForSeq2SeqLM.from_pretrained(folder)
    assert not getattr(model, "is_quantized", False)
    outputs = families.logits(copy.deepcopy(model), "marian")
    model.save_pretrained(tmp_path / "again")
    again = hf.AutoModelForSeq2SeqLM.from_pretrained(tmp_path / "again")
    assert torch.equal(families.logits(again, "marian"), outputs)
    model.half()
    with pytest.raises(ValueError, match="sparse already"):
        hf_chts.sparsify(model)


def test_densified_models_are_saved_as_dense_ones(marian, tmp_path):
    _, folder = marian
    model = hf.AutoModelForSeq2SeqLM.from_pretrained(folder)
    hf_chts.densify(model)
    outputs = families.logits(model, "marian")
    model.save_pretrained(tmp_path)
    assert "quantization_config" not in json.loads((tmp_path / "config.json").read_text())
    again = hf.AutoModelForSeq2SeqLM.from_pretrained(tmp_path)
    assert sparse_layers(again) == {}
    assert torch.equal(families.logits(again, "marian"), outputs)


@pytest.mark.parametrize(
    ("values_dtype", "most"), [(None, 0.2), (torch.float16, 0.11), (torch.bfloat16, 0.11)]
)
def test_sparse_layers_take_a_fraction_of_their_dense_bytes(values_dtype, most, tmp_path):
    sizes = {**families.BART_LIKE, "d_model": 256, "encoder_ffn_dim": 1024, "decoder_layers": 1}
    model = hf.MarianMTModel(hf.MarianConfig(**{**sizes, "decoder_ffn_dim": 1024}))
    hf_chts.sparsify(model, SparsityConfig(sparsity=0.9, initial="er"))
    hf_chts.save_pretrained(model, tmp_path, values_dtype=values_dtype)
    tensors = load_file(tmp_path / "model.safetensors")
    layers = sparse_layers(model)
    parts = ("values", "crow_indices", "col_indices")
    stored = sum(tensors[f"{name}.{part}"].nbytes for name in layers for part in parts)
    dense = sum(4 * layer.in_features * layer.out_features for layer in layers.values())
    assert stored / dense <= most
    again = hf_chts.from_pretrained(tmp_path)
    for name, layer in sparse_layers(again).items():
        assert layer.values.dtype == torch.float32
        want = layers[name].values
        assert torch.equal(layer.values, want.to(values_dtype or torch.float32).float())


def test_weights_are_not_saved_as_integers(marian, tmp_path):
    with pytest.raises(ValueError, match=r"a floating-point type; got torch\.int8"):
        hf_chts.save_pretrained(marian[0], tmp_path / "model", values_dtype=torch.int8)
    assert not (tmp_path / "model").exists()


def _swap(tensor):
    tensor[:2] = tensor[:2].flip(0)


LAYER = "model.encoder.layers.0.fc1"
COLUMNS, ROWS = f"{LAYER}.col_indices", f"{LAYER}.crow_indices"
DAMAGE = {
    "out of range": (lambda t: t[COLUMNS].__setitem__(0, 16), r"columns must lie in \[0, 16\)"),
    "negative": (lambda t: t[COLUMNS].__setitem__(0, -1), "columns must lie in"),
    "unsorted": (lambda t: _swap(t[COLUMNS]), "out of order or stored twice"),
    "duplicate": (lambda t: t[COLUMNS].__setitem__(1, t[COLUMNS][0]), "stored twice"),
    "row pointers": (lambda t: t[ROWS].__setitem__(-1, 2**31 - 1), "row pointers must rise"),
    "fewer values": (
        lambda t: t.update({f"{LAYER}.values": t[f"{LAYER}.values"][1:]}),
        "values for .* links",
    ),
}


@pytest.mark.parametrize("kind", DAMAGE)
@pytest.mark.parametrize(
    "load", [hf.AutoModelForSeq2SeqLM.from_pretrained, hf_chts.from_pretrained]
)
def test_damaged_links_are_refused(kind, load, damaged):
    change, says = DAMAGE[kind]
    with pytest.raises(ValueError, match=rf"{LAYER} are damaged: .*{says}"):
        load(damaged(change))


def _drop(tensors, *leaves):
    for key in [key for key in tensors if key.endswith(leaves)]:
        del tensors[key]


@pytest.mark.parametrize(
    "load", [hf.AutoModelForSeq2SeqLM.from_pretrained, hf_chts.from_pretrained]
)
def test_a_file_without_the_links_it_promises_is_refused(load, damaged):
    folder = damaged(lambda t: _drop(t, "values", "crow_indices", "col_indices"))
    with pytest.raises(ValueError, match=r"no topology for model\..*: its links were not saved"):
        load(folder)


def test_missing_row_pointers_are_refused(damaged):
    with pytest.raises(ValueError, match=rf"{LAYER} are damaged"):
        hf_chts.from_pretrained(damaged(lambda t: t.pop(ROWS)))


def test_strict_loading_refuses_missing_and_unexpected_tensors(damaged):
    bias = f"{LAYER}.bias"
    with pytest.raises(ValueError, match=rf"does not fit MarianMTModel exactly: missing.*{bias}"):
        hf_chts.from_pretrained(damaged(lambda t: t.pop(bias)))
    extra = {"model.extra.weight": torch.zeros(2)}
    with pytest.raises(ValueError, match=r"unexpected_keys: model\.extra\.weight"):
        hf_chts.from_pretrained(damaged(lambda t: t.update(extra)))


def test_a_dense_checkpoint_has_no_topology(tmp_path):
    families.make("marian").save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="holds no sparse topology: load it with"):
        hf_chts.from_pretrained(tmp_path)
    with pytest.raises(ValueError, match="no sparse layer: use"):
        hf_chts.save_pretrained(families.make("marian"), tmp_path)


def test_another_architecture_is_refused(marian, tmp_path):
    _, folder = marian
    with pytest.raises(ValueError, match="do not exist in T5ForConditionalGeneration"):
        hf.T5ForConditionalGeneration.from_pretrained(folder)
    written = json.loads((folder / "config.json").read_text())
    (tmp_path / "model.safetensors").symlink_to(folder / "model.safetensors")
    for key, says in [("encoder_ffn_dim", "24 x 16, the model's is 16 x 16"), ("d_model", "8 x 8")]:
        smaller = {**written, key: 16 if key == "encoder_ffn_dim" else 8}
        (tmp_path / "config.json").write_text(json.dumps(smaller))
        with pytest.raises(ValueError, match=says):
            hf.AutoModelForSeq2SeqLM.from_pretrained(tmp_path)


def test_a_transposed_layer_is_another_architecture(marian, tmp_path):
    """fc1 and fc2 have each other's shape in a model whose width is the other's."""
    _, folder = marian
    written = json.loads((folder / "config.json").read_text())
    fc1 = {LAYER: [16, 24]}
    written["quantization_config"]["layers"] = fc1
    (tmp_path / "config.json").write_text(json.dumps(written))
    (tmp_path / "model.safetensors").symlink_to(folder / "model.safetensors")
    with pytest.raises(ValueError, match="is 16 x 24, the model's is 24 x 16"):
        hf.AutoModelForSeq2SeqLM.from_pretrained(tmp_path)
    written["quantization_config"]["layers"] = {"model.shared": [40, 16]}
    (tmp_path / "config.json").write_text(json.dumps(written))
    with pytest.raises(ValueError, match=r"model\.shared"):
        hf.AutoModelForSeq2SeqLM.from_pretrained(tmp_path)


def test_a_configuration_from_the_future_is_refused(marian, tmp_path):
    _, folder = marian
    written = json.loads((folder / "config.json").read_text())
    written["quantization_config"]["sparsity"]["colour"] = "red"
    (tmp_path / "config.json").write_text(json.dumps(written))
    (tmp_path / "model.safetensors").symlink_to(folder / "model.safetensors")
    with pytest.raises(ValueError, match="unknown key colour"):
        hf.AutoModelForSeq2SeqLM.from_pretrained(tmp_path)


def test_a_dense_checkpoint_is_not_made_sparse_on_the_fly(tmp_path):
    families.make("marian").save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="pre-quantized"):
        hf.AutoModelForSeq2SeqLM.from_pretrained(
            tmp_path, quantization_config=hf_chts.checkpoint.ChtsQuantizationConfig()
        )


def test_a_kernel_asked_for_elsewhere_is_taken_where_it_can_run(tmp_path):
    if reason := native.why_unavailable(torch.ones(1)):
        pytest.skip(f"native kernel: {reason}")
    sparse("marian", SparsityConfig(sparsity=0.8, kernel="native")).save_pretrained(tmp_path)
    same = hf_chts.from_pretrained(tmp_path)
    assert {layer.kernel for layer in hf_chts.sparse_layers(same).values()} == {"native"}
    narrow = hf_chts.from_pretrained(tmp_path, dtype=torch.bfloat16)
    assert {layer.kernel for layer in hf_chts.sparse_layers(narrow).values()} == {"auto"}


def test_a_file_that_was_cut_off_is_named(marian, tmp_path):
    shutil.copytree(marian[1], tmp_path / "cut")
    weights = tmp_path / "cut" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:100])
    with pytest.raises(
        ValueError, match=r"cut/model.safetensors is damaged or no safetensors file"
    ):
        hf_chts.from_pretrained(tmp_path / "cut")
