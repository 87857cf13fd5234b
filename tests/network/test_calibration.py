"""Initial topologies that follow the data."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from transformers import MarianConfig, MarianMTModel

from hf_chts import SparsityConfig, sparse_layers, sparsify
from hf_chts.network.calibration import MAX_SAMPLES, layer_inputs
from hf_chts.network.linears import find_linears


def perceptron() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Flatten(), nn.Linear(12, 12), nn.Dropout(0.5), nn.ReLU(), nn.Linear(12, 8)
    )


def correlated(n: int = 400) -> torch.Tensor:
    """Features 2 i and 2 i + 1 go together, all others do not; shape (n, 3, 4)."""
    draw = torch.Generator().manual_seed(3)
    pairs = torch.randn(n, 6, generator=draw).repeat_interleave(2, 1)
    return (pairs + 0.1 * torch.randn(n, 12, generator=draw)).view(n, 3, 4)


def partners() -> torch.Tensor:
    return torch.block_diag(*[torch.ones(2, 2)] * 6).bool()


@pytest.mark.parametrize("method", ["cht", "chts", "chtss"])
def test_layers_that_see_the_data_link_correlated_inputs(method) -> None:
    model = perceptron()
    config = SparsityConfig(method=method, sparsity=1 - 24 / 144, initial_sparsity=1 - 24 / 144)
    sparsify(model, config, calibration=correlated())
    first, second = sparse_layers(model).values()
    assert torch.equal(first.mask, partners())
    plain = perceptron()
    sparsify(plain, config)
    others = list(sparse_layers(plain).values())
    assert not torch.equal(others[0].mask, first.mask)
    assert torch.equal(others[1].mask, second.mask)  # a hidden layer keeps the method's start


def test_csti_everywhere_follows_hidden_features() -> None:
    model = perceptron()
    nn.init.eye_(model[1].weight)  # hidden features are the positive parts of the inputs
    nn.init.zeros_(model[1].bias)
    config = SparsityConfig(method="static", initial="csti", sparsity=1 - 16 / 96)
    sparsify(model, config, calibration=[correlated(), {"input": correlated(30)}])
    second = list(sparse_layers(model).values())[1].mask
    features = torch.arange(8) * 12 // 8
    assert torch.equal(second, partners()[features])
    assert model.training


def test_without_calibration_csti_says_what_it_needs() -> None:
    model = perceptron()
    before = [type(module) for module in model.modules()]
    with pytest.raises(ValueError, match="csti needs input features over a calibration set"):
        sparsify(model, SparsityConfig(method="static", initial="csti"))
    assert [type(module) for module in model.modules()] == before


@pytest.mark.parametrize(
    ("data", "error", "message"),
    [
        ([], ValueError, "holds no batch"),
        ([[1.0]], TypeError, "a tensor or a mapping of the model's arguments; got a list"),
    ],
)
def test_calibration_that_is_no_data(data, error, message) -> None:
    model = perceptron()
    with pytest.raises(error, match=message):
        sparsify(model, SparsityConfig(method="chts"), calibration=data)
    assert not sparse_layers(model)
    assert not any(module._forward_pre_hooks for module in model.modules())


def test_what_layers_of_a_translation_model_see() -> None:
    config = MarianConfig(
        vocab_size=30, d_model=16, encoder_layers=1, decoder_layers=1, encoder_attention_heads=2,
        decoder_attention_heads=2, encoder_ffn_dim=24, decoder_ffn_dim=24, pad_token_id=0,
        eos_token_id=1, decoder_start_token_id=0,
    )  # fmt: skip
    model = MarianMTModel(config)
    findings = [finding for finding in find_linears(model) if finding.sparse]
    ids = torch.randint(2, 30, (5, 7))
    seen = layer_inputs(model, findings, {"input_ids": ids, "decoder_input_ids": ids[:, :3]})
    assert set(seen) == {finding.name for finding in findings}
    for finding in findings:
        samples, raw = seen[finding.name]
        tokens = 15 if finding.name.startswith("model.decoder") else 35
        if "encoder_attn.k" in finding.name or "encoder_attn.v" in finding.name:
            tokens = 35
        assert samples.shape == (tokens, finding.shape[1])
        assert not raw
    sparsify(
        model,
        SparsityConfig(initial="csti", sparsity=0.5),
        calibration={"input_ids": ids, "decoder_input_ids": ids},
    )
    assert all(
        layer.density == pytest.approx(0.5, abs=1e-2) for layer in sparse_layers(model).values()
    )


def test_memory_is_bounded() -> None:
    model = perceptron()
    findings = find_linears(model)
    batches = (torch.randn(9000, 12) for _ in range(3))
    seen = layer_inputs(model, findings, batches)
    assert {len(samples) for samples, _ in seen.values()} == {MAX_SAMPLES}
    assert [seen[finding.name].raw for finding in findings] == [True, False]
