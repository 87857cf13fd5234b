from __future__ import annotations

import pytest
import torch
from families import FAMILIES, LENGTH, VOCABULARY

import hf_chts
from hf_chts.layers.kernels import native_dropout
from hf_chts.training.head_loss import DeferredLogits
from hf_chts.training.loss import LabelSmoothedLoss


def gradients(model, faster: bool):
    torch.manual_seed(2)
    ids = torch.randint(3, VOCABULARY, (4, LENGTH))
    model.zero_grad()
    if faster:
        with hf_chts.faster_step(model):
            outputs = model(input_ids=ids, decoder_input_ids=ids)
            assert isinstance(outputs.logits, DeferredLogits)
            LabelSmoothedLoss(0.1)(outputs, ids).backward()
    else:
        outputs = model(input_ids=ids, decoder_input_ids=ids)
        LabelSmoothedLoss(0.1)(outputs, ids).backward()
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("method", ["dense", "chts"])
def test_gradients_stay_the_same_without_dropout(method) -> None:
    model = FAMILIES["marian"].make().train()
    model.config.dropout = 0.0
    for module in model.modules():
        if hasattr(module, "dropout"):
            module.dropout = 0.0
    hf_chts.sparsify(model, hf_chts.SparsityConfig(method=method, sparsity=0.5))
    plain, faster = gradients(model, False), gradients(model, True)
    assert plain.keys() == faster.keys()
    for name, grad in plain.items():
        torch.testing.assert_close(faster[name], grad, rtol=1e-4, atol=1e-6)


@pytest.mark.skipif(not native_dropout.takes(torch.ones(1)), reason="needs the native binary")
def test_dropout_is_the_native_one_inside_alone() -> None:
    x = torch.ones(1000)

    def drop():
        torch.manual_seed(0)
        return torch.nn.functional.dropout(x)

    plain = drop()
    with hf_chts.faster_step(torch.nn.Linear(2, 2)):
        native = drop()
    assert not torch.equal(native, plain)
    assert torch.equal(drop(), plain)


def test_what_is_no_model_is_refused() -> None:
    message = "faster_step takes the model that trains; got str"
    with pytest.raises(TypeError, match=message), hf_chts.faster_step("model"):
        pass
