from __future__ import annotations

import copy

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from hf_chts import SparsityConfig, sparse_layers, sparsify
from hf_chts.safe_saving import seal
from hf_chts.translation.averaging import average_checkpoints


def test_mean_of_the_last_checkpoints_by_step(tmp_path) -> None:
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=16, hidden_size=16, intermediate_size=16, num_hidden_layers=1,
            num_attention_heads=2, tie_word_embeddings=True,
        )
    )  # fmt: skip
    sparsify(model, SparsityConfig(method="static", sparsity=0.5))
    saved = {}
    for step in (5, 10, 90, 100):  # by number, not by name
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(torch.randn_like(parameter))
        model.save_pretrained(tmp_path / f"checkpoint-{step}")
        seal(tmp_path / f"checkpoint-{step}")
        saved[step] = copy.deepcopy(model.state_dict())
    links = {name: layer.positions for name, layer in sparse_layers(model).items()}
    average_checkpoints(model, tmp_path, 3)
    for key, value in model.state_dict().items():
        if value.is_floating_point():
            mean = sum(saved[step][key].double() for step in (10, 90, 100)) / 3
            torch.testing.assert_close(value, mean.float())
    for name, layer in sparse_layers(model).items():
        assert torch.equal(layer.positions, links[name])
    x = torch.arange(6)[None]
    layer = model.model.layers[0].mlp.up_proj
    assert torch.allclose(layer(torch.eye(16)), layer.to_dense().T, atol=1e-6)
    assert model(x).logits.isfinite().all()
    assert model.lm_head.weight is model.model.embed_tokens.weight
    (tmp_path / "checkpoint-90" / "config.json").unlink()
    with pytest.raises(ValueError, match=r"checkpoint-90 is damaged: config\.json is missing"):
        average_checkpoints(model, tmp_path, 3)
