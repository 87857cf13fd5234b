"""Model folders and tokenizers of any content end in success or in an error of ours."""

from __future__ import annotations

import json
import shutil
import struct

import pytest
import torch
from fuzz_cases import attempt, fuzz
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from transformers import LlamaConfig, LlamaForCausalLM

import hf_chts
from hf_chts.translation.tokenizer import TokenizerPair, train_tokenizer

NUMBERS = st.integers(-3, 40) | st.sampled_from([2**15, 2**31, 2**63 - 1, -(2**63)])
VALUES = st.one_of(
    NUMBERS, st.none(), st.booleans(), st.floats(), st.text(max_size=8),
    st.lists(NUMBERS, max_size=3), st.dictionaries(st.text(max_size=5), NUMBERS, max_size=2),
    st.sampled_from(["chts", "../../x", "I64", "F32", [16, 16], [2**40, 2**40], [-1, 16]]),
)  # fmt: skip


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A sparse model's folder, kept, and one to spoil."""
    folder = tmp_path_factory.mktemp("saved")
    torch.manual_seed(0)
    model = LlamaForCausalLM(
        LlamaConfig(vocab_size=12, hidden_size=8, intermediate_size=8, num_hidden_layers=1,
                    num_attention_heads=2, num_key_value_heads=2)
    )  # fmt: skip
    hf_chts.sparsify(model, hf_chts.SparsityConfig(method="set", sparsity=0.7))
    model.save_pretrained(folder / "sound")
    shutil.copytree(folder / "sound", folder / "spoiled")
    return folder


def load(saved):
    """The spoiled folder's model, which must be of use where one comes."""
    model = attempt(lambda: hf_chts.from_pretrained(saved / "spoiled"))
    if model is not None:
        assert all(x.what_is_wrong() is None for x in hf_chts.sparse_layers(model).values())
        with torch.no_grad():
            model(torch.arange(6)[None])
    shutil.copytree(saved / "sound", saved / "spoiled", dirs_exist_ok=True)
    return model


def test_the_sound_folder_loads(saved) -> None:
    assert load(saved) is not None


@fuzz
@given(st.data())
def test_headers_of_any_content(saved, data) -> None:
    path = saved / "spoiled" / "model.safetensors"
    content = (saved / "sound" / "model.safetensors").read_bytes()
    (length,) = struct.unpack("<Q", content[:8])
    header = json.loads(content[8 : 8 + length])
    body = content[8 + length :]
    kind = data.draw(st.sampled_from(["field", "key", "length", "cut", "byte"]))
    name = data.draw(st.sampled_from(sorted(header)))
    if kind == "field":
        field = data.draw(st.sampled_from(["dtype", "shape", "data_offsets"]))
        header[name] = {**header[name], field: data.draw(VALUES)}
    elif kind == "key":
        header[data.draw(st.text(max_size=9))] = header.pop(name)
    packed = json.dumps(header).encode()
    length = data.draw(NUMBERS) % 2**64 if kind == "length" else len(packed)
    spoiled = bytearray(struct.pack("<Q", length) + packed + body)
    if kind == "cut":
        del spoiled[data.draw(st.integers(0, len(spoiled) - 1)) :]
    elif kind == "byte":
        spoiled[data.draw(st.integers(0, len(packed) + 8))] ^= data.draw(st.integers(1, 255))
    path.write_bytes(spoiled)
    load(saved)


@fuzz
@given(st.data())
def test_indices_of_any_content(saved, data) -> None:
    path = saved / "spoiled" / "model.safetensors"
    state = load_file(saved / "sound" / "model.safetensors")
    keys = sorted(key for key in state if key.endswith(("indices", ".values")))
    key = data.draw(st.sampled_from(keys))
    tensor = state[key].clone()
    kind = data.draw(st.sampled_from(["entry", "length", "type", "shape"]))
    if kind == "entry" and not tensor.is_floating_point():
        place = data.draw(st.integers(0, tensor.numel() - 1))
        tensor = tensor.long()
        tensor[place] = data.draw(NUMBERS)
        tensor = tensor.to(data.draw(st.sampled_from([state[key].dtype, torch.int64])))
    elif kind == "length":
        tensor = tensor[: data.draw(st.integers(0, tensor.numel()))].clone()
    elif kind == "type":
        tensor = tensor.to(data.draw(st.sampled_from([torch.uint8, torch.float16, torch.int64])))
    else:
        tensor = tensor[None]
    save_file({**state, key: tensor}, path, metadata={"format": "pt"})
    load(saved)


@fuzz
@given(st.data())
def test_configurations_of_any_content(saved, data) -> None:
    path = saved / "spoiled" / "config.json"
    config = json.loads((saved / "sound" / "config.json").read_text())
    sparse = config["quantization_config"]
    place = data.draw(st.sampled_from([sparse, sparse["sparsity"], sparse["layers"]]))
    key = data.draw(st.sampled_from(sorted(place)) | st.text(max_size=5))
    place[key] = data.draw(VALUES)
    path.write_text(json.dumps(config))
    load(saved)


def test_no_code_of_a_folder_runs(saved, tmp_path) -> None:
    path = saved / "spoiled" / "config.json"
    config = json.loads((saved / "sound" / "config.json").read_text())
    config["auto_map"] = {"AutoConfig": "evil.Config", "AutoModelForCausalLM": "evil.Model"}
    config["model_type"] = "evil"
    path.write_text(json.dumps(config))
    (saved / "spoiled" / "evil.py").write_text(f"import os; os.mkdir({str(tmp_path / 'ran')!r})")
    assert load(saved) is None
    assert not (tmp_path / "ran").exists()


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tokenizer")
    made = train_tokenizer(["a b c ab bc", "abc cab"], 20)
    TokenizerPair(made, made).save(folder)
    return folder, {path.name: path.read_bytes() for path in folder.iterdir()}


@fuzz
@given(st.data())
def test_tokenizers_of_any_content(tokenizer, data) -> None:
    name = data.draw(st.sampled_from(["tokenizer.json", "tokenizer_config.json"]))
    folder, files = tokenizer
    content = json.loads(files[name])
    place = content
    while isinstance(place, dict) and place:
        key = data.draw(st.sampled_from(sorted(place)))
        if not isinstance(place[key], dict) or data.draw(st.booleans()):
            place[key] = data.draw(VALUES)
            break
        place = place[key]
    (folder / name).write_text(json.dumps(content))
    try:
        pair = attempt(lambda: TokenizerPair.load(folder))
    finally:
        (folder / name).write_bytes(files[name])
    if pair is not None:
        attempt(lambda: pair.source_ids(["a b zz"]))


def test_a_tokenizer_that_names_no_token_of_its_own_for_the_unknown(tokenizer) -> None:
    folder, files = tokenizer
    content = json.loads(files["tokenizer.json"])
    content["model"]["unk_token"] = ""
    (folder / "tokenizer.json").write_text(json.dumps(content))
    try:
        with pytest.raises(ValueError, match="cannot be read"):
            TokenizerPair.load(folder)
    finally:
        (folder / "tokenizer.json").write_bytes(files["tokenizer.json"])
