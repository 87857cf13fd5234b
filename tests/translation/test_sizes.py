from __future__ import annotations

import families
import pytest
import torch
from torch import nn
from transformers import AutoModelForSeq2SeqLM, LlamaConfig, LlamaForCausalLM

from hf_chts import SparsityConfig, densify, sparsify
from hf_chts.translation.model import keep_frozen
from hf_chts.translation.sizes import Sizes


def test_hand_count(tmp_path) -> None:
    model = nn.Sequential(nn.Linear(10, 8), nn.ReLU(), nn.Linear(8, 6))
    model[2].bias.requires_grad_(False)
    sparsify(model, SparsityConfig(method="static", sparsity=0.75))
    links, dense = 20 + 12, 80 + 48
    (tmp_path / "a.safetensors").write_bytes(b"." * 900)
    (tmp_path / "b.safetensors").write_bytes(b"." * 100)
    (tmp_path / "other.bin").write_bytes(b"." * 5)
    # values 4 bytes, columns 2 bytes a link; 9 + 7 row pointers of 4 bytes
    stored = 6 * links + 4 * 16
    assert Sizes.of(model, tmp_path) == Sizes(
        parameters=links + 14,
        linear_parameters=links,
        optimizer_bytes=8 * (links + 8),
        file_bytes=1000,
        dense_parameters=dense + 14,
        dense_linear_parameters=dense,
        dense_optimizer_bytes=8 * (dense + 8),
        dense_file_bytes=1000 - stored + 4 * dense,
    )


def test_dense_figures_are_those_of_the_dense_model(tmp_path) -> None:
    shape = LlamaConfig(
        vocab_size=24, hidden_size=32, intermediate_size=48, num_hidden_layers=1,
        num_attention_heads=2,
    )  # fmt: skip
    for dtype in (torch.float32, torch.bfloat16):
        model = LlamaForCausalLM(shape)
        sparsify(model, SparsityConfig(method="static", sparsity=0.8))
        for name, parameter in model.named_parameters():
            if name.endswith("values"):
                parameter.data = parameter.data.to(dtype)
        folder = tmp_path / str(dtype)
        model.save_pretrained(folder / "sparse")
        sparse = Sizes.of(model, folder / "sparse")
        densify(model.float()).save_pretrained(folder / "dense")
        dense = Sizes.of(model, folder / "dense")
        assert sparse.dense_parameters == dense.parameters == dense.dense_parameters
        assert sparse.dense_optimizer_bytes == dense.optimizer_bytes
        assert dense.dense_file_bytes == dense.file_bytes
        assert abs(sparse.dense_file_bytes - dense.file_bytes) < 3000  # the files' headers
        assert sparse.file_bytes < 0.7 * dense.file_bytes


@pytest.mark.parametrize("sparse", [False, True])
def test_what_is_never_trained_is_not_counted_after_loading(sparse, tmp_path) -> None:
    model = families.make("marian")
    if sparse:
        sparsify(model, SparsityConfig(sparsity=0.5))
    model.save_pretrained(tmp_path)
    loaded = AutoModelForSeq2SeqLM.from_pretrained(tmp_path)
    keep_frozen(loaded)
    positions = {n for n, p in loaded.named_parameters() if not p.requires_grad}
    assert positions == {f"model.{side}.embed_positions.weight" for side in ("encoder", "decoder")}
    assert Sizes.of(loaded, tmp_path) == Sizes.of(model, tmp_path)


def test_rows() -> None:
    sizes = Sizes(1_234, 100, 2_000_000, 500_000, 12_340, 1_000, 20_000_000, 1_000_000)
    assert sizes.rows() == [
        ("parameters in linear layers made sparse", "1,000", "100", "0.100"),
        ("parameters in all", "12,340", "1,234", "0.100"),
        ("optimizer state (Adam)", "20.00 MB", "2.00 MB", "0.100"),
        ("file of the weights", "1.00 MB", "0.50 MB", "0.500"),
    ]
    assert Sizes(5, 0, 40, 20, 5, 0, 40, 20).rows()[0][1:] == ("0", "0", "-")
    assert sizes.as_dict()["dense_parameters"] == 12_340
