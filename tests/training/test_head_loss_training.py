from __future__ import annotations

import pytest
import torch
import torch.distributed as dist
from families import make
from head_loss_steps import inputs_of, plain, returns_logits, step
from tiny_training import SEQ2SEQ, collate, marian, pairs, run, trainer_of
from torch.nn.parallel import DistributedDataParallel
from transformers import MarianConfig, MarianMTModel

import hf_chts.trainer as trainer_module
from hf_chts.training.head_loss import DeferredLogits, deferred_head
from hf_chts.training.loss import LabelSmoothedLoss


@pytest.fixture
def one_process():
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    yield
    dist.destroy_process_group()


@pytest.mark.parametrize("name", ["marian", "t5_gated_untied"])
@pytest.mark.parametrize("find_unused", [False, True])
def test_ddp_finds_the_head(one_process, name, find_unused) -> None:
    model = make(name)
    inputs, labels = inputs_of(model, name)
    expected, loss, _ = step(model, inputs, labels, plain)
    wrapped = DistributedDataParallel(model, find_unused_parameters=find_unused)
    for _ in range(2):  # a second forward tells of gradients that were not reduced
        found, same_loss, outputs = step(model, inputs, labels, deferred_head, wrapped)
        assert isinstance(outputs.logits, DeferredLogits)
        torch.testing.assert_close(same_loss, loss)
        for key, grad in expected.items():
            torch.testing.assert_close(found[key], grad, rtol=1e-4, atol=1e-6, msg=key)


def test_ddp_with_a_static_graph_gets_logits(one_process) -> None:
    model = make("marian")
    inputs, _ = inputs_of(model, "marian")
    assert returns_logits(DistributedDataParallel(model, static_graph=True), inputs)


class Seen(LabelSmoothedLoss):
    """Takes down what it is given."""

    def __init__(self, smoothing) -> None:
        super().__init__(smoothing)
        self.types: list[tuple[type, bool]] = []

    def __call__(self, outputs, labels, num_items_in_batch=None):
        logits = outputs["logits"]
        self.types.append((type(logits), getattr(logits, "is_made", True)))
        return super().__call__(outputs, labels, num_items_in_batch)


@pytest.mark.parametrize("options", [{}, {"bf16": True}])
def test_trainer_trains_alike(tmp_path, monkeypatch, options) -> None:
    def train():
        model = marian()
        _, steps = run(model, tmp_path, **options)
        weights = [w.detach() for w in model.parameters()]
        return torch.tensor([log["loss"] for log in steps]), torch.cat(
            [w.view(-1) for w in weights]
        )

    losses, weights = train()
    monkeypatch.setattr(trainer_module, "deferred_head", plain)
    expected, expected_weights = train()
    tolerance = {"rtol": 2e-2, "atol": 2e-2} if options else {"rtol": 1e-4, "atol": 1e-4}
    torch.testing.assert_close(losses, expected, **tolerance)
    if not options:
        assert (weights - expected_weights).norm() < 1e-3 * expected_weights.norm()


@pytest.mark.parametrize("options", [{}, {"bf16": True}])
def test_trainer_defers_in_training_alone(tmp_path, options) -> None:
    loss = Seen(0.1)
    trainer = trainer_of(marian(), tmp_path, **options)
    trainer.compute_loss_func = loss
    trainer.train()
    assert set(loss.types) == {(DeferredLogits, False)}
    loss.types.clear()
    assert trainer.evaluate()["eval_loss"] > 0
    assert set(loss.types) == {(torch.Tensor, True)}
    trainer.model.train()
    _, outputs = trainer.compute_loss(trainer.model, collate(pairs(4)), return_outputs=True)
    assert isinstance(outputs.logits, torch.Tensor)


def test_logits_are_never_made_as_a_whole() -> None:
    vocab, tokens = 5000, 2000
    model = MarianMTModel(MarianConfig(**{**SEQ2SEQ, "vocab_size": vocab})).train()
    ids = torch.randint(3, vocab, (tokens // 20, 20))
    watching = torch.profiler.profile(profile_memory=True, acc_events=True)
    with watching as profile, deferred_head(model):
        outputs = model(input_ids=ids, decoder_input_ids=ids)
        LabelSmoothedLoss(0.1)(outputs, ids).backward()
    largest = max(event.cpu_memory_usage for event in profile.events())
    assert largest < 4 * vocab * tokens / 2
