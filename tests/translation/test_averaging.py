from __future__ import annotations

import copy
import json
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file
from transformers import LlamaConfig, LlamaForCausalLM

from hf_chts import SparsityConfig, sparse_layers, sparsify
from hf_chts.safe_saving import checkpoints, seal
from hf_chts.translation import run
from hf_chts.translation.averaging import average_checkpoints


def llama(**config):
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=16, hidden_size=16, intermediate_size=16, num_hidden_layers=1,
            num_attention_heads=2, tie_word_embeddings=True,
        )
    )  # fmt: skip
    sparsify(model, SparsityConfig(method="static", sparsity=0.5, **config))
    return model


def test_mean_of_the_last_checkpoints_by_step(tmp_path) -> None:
    model = llama()
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


def test_the_best_checkpoint_does_not_take_the_place_of_one_of_the_last(recipe, tmp_path) -> None:
    """The rate grows until the loss does, and the best checkpoint has other links."""
    training = replace(
        recipe.training, max_steps=18, average_last=2, learning_rate=20.0, warmup_steps=400,
        schedule="constant_with_warmup",
    )  # fmt: skip
    sparsity = replace(recipe.sparsity, method="rigl", stop_fraction=0.7)
    run.train(replace(recipe, training=training, sparsity=sparsity), tmp_path / "run")
    rows = map(json.loads, (tmp_path / "run" / "metrics.jsonl").read_text().splitlines())
    losses = {row["step"]: row["eval_loss"] for row in rows if "eval_loss" in row}
    assert min(losses, key=losses.__getitem__) == 9
    last = checkpoints(tmp_path / "run" / "checkpoints")
    assert list(last) == [15, 18]
    one, two = (load_file(path / "model.safetensors") for path in last.values())
    mean = load_file(tmp_path / "run" / "model" / "model.safetensors")
    key = "model.encoder.layers.0.fc1.values"
    torch.testing.assert_close(mean[key], (one[key] + two[key]) / 2)


def test_checkpoints_with_other_links_are_refused(tmp_path) -> None:
    for step, seed in ((5, 0), (10, 1)):
        model = llama(seed=seed)
        model.save_pretrained(tmp_path / f"checkpoint-{step}")
        seal(tmp_path / f"checkpoint-{step}")
    before = copy.deepcopy(model.state_dict())
    with pytest.raises(ValueError, match=r"links in .*checkpoint-5 are not those in check"):
        average_checkpoints(model, tmp_path, 2)
    with pytest.raises(ValueError, match=r"the last 3 checkpoints of .*: there are 2"):
        average_checkpoints(model, tmp_path, 3)
    assert all(torch.equal(before[key], x) for key, x in model.state_dict().items())
