"""Programs that train on a device that is not the CPU; each runs in a process of its own.

python programs.py LIBRARY NAME
"""

from __future__ import annotations

import os
import sys
import tempfile
import types
from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from transformers import MarianConfig, MarianMTModel, Seq2SeqTrainingArguments

import hf_chts
from hf_chts.methods import METHODS
from hf_chts.training.loss import LabelSmoothedLoss
from hf_chts.translation.beam_cache import BeamCache

DEVICE = "pretended"
IDS = torch.randint(3, 40, (4, 8), generator=torch.Generator().manual_seed(1))


def pretend(library: str) -> None:
    """Let torch know the device."""
    torch.ops.load_library(library)
    torch.utils.rename_privateuse1_backend(DEVICE)
    module: Any = types.ModuleType(DEVICE)
    module.is_available = lambda: True
    module.device_count = lambda: 1
    module.current_device = lambda: 0
    module._is_in_bad_fork = lambda: False
    module.manual_seed_all = lambda seed: None
    module.get_rng_state = lambda device=0: torch.get_rng_state()
    module.set_rng_state = lambda state, device=0: torch.set_rng_state(state)
    module.get_amp_supported_dtype = lambda: [torch.bfloat16]
    module.synchronize = lambda: None
    torch._register_device_module(DEVICE, module)
    torch.utils.generate_methods_for_privateuse1_backend()


def devices(module: nn.Module) -> set[str]:
    """Where parameters and buffers are."""
    return {t.device.type for t in (*module.parameters(), *module.buffers())}


class Block(nn.Module):
    """A feed-forward block beside its residual stream."""

    def __init__(self) -> None:
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(16, 32), nn.Linear(32, 16)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.fc2(self.fc1(x).relu())


def links_after(method: str, device: str) -> tuple[dict[str, torch.Tensor], list[int]]:
    """Links after 20 steps of a plain loop, and how often each step waited for the device."""
    torch.manual_seed(0)
    layers = [nn.Linear(16, 32), nn.ReLU(), nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 16)]
    tied = METHODS[method].settings.get("tied_links", False)
    model = nn.Sequential(*([Block(), Block()] if tied else layers)).to(device)
    config = hf_chts.SparsityConfig(
        method=method,
        sparsity=0.8,
        update_interval=4,
        kernel="dense",
        historical_weights=1.0,
        new_links="warm",
    )
    hf_chts.sparsify(model, config)
    optimizer = torch.optim.AdamW(model.parameters(), 1e-2)
    topology = hf_chts.Topology(model, optimizer, total_steps=20)
    waits = []
    for step in range(1, 21):
        x = torch.randn(8, 16).to(device)
        torch.ops.pretended.take_waits()
        topology.before_backward(step)
        ((model(x) - x) ** 2).mean().backward()
        optimizer.step()
        topology.after_step(step)
        optimizer.zero_grad()
        waits.append(torch.ops.pretended.take_waits())
    assert devices(model) == {device}, devices(model)
    topology.load_state_dict(topology.state_dict())
    optimizer.load_state_dict(optimizer.state_dict())
    masks = {n: x.mask.cpu() for n, x in hf_chts.sparse_layers(model).items()}
    return masks, waits


def methods() -> None:
    """Every method changes the same links as on the CPU, and waits at updates alone."""
    for method in METHODS:
        if method == "dense":
            continue
        there, waits = links_after(method, DEVICE)
        here, _ = links_after(method, "cpu")
        assert all(torch.equal(there[name], here[name]) for name in here), method
        assert not any(n for step, n in enumerate(waits, 1) if step % 4), (method, waits)
        assert max(waits) <= 50 * len(here), (method, waits)


def translator() -> Any:
    """A small sparse Marian on the device."""
    torch.manual_seed(0)
    config = MarianConfig(
        vocab_size=40, d_model=16, encoder_layers=2, decoder_layers=2, encoder_attention_heads=2,
        decoder_attention_heads=2, encoder_ffn_dim=32, decoder_ffn_dim=32, pad_token_id=0,
        eos_token_id=1, decoder_start_token_id=0, max_position_embeddings=64,
    )  # fmt: skip
    model = MarianMTModel(config).to(DEVICE)
    model.tie_weights()  # torch moves parameters to such a device one by one
    hf_chts.sparsify(model, hf_chts.SparsityConfig(sparsity=0.7, update_interval=2))
    return model


def translation() -> None:
    """A step with all that makes it faster, precisions, saving, compaction, beam search."""
    ids = IDS.to(DEVICE)

    def logits(model: Any) -> torch.Tensor:
        return model.eval()(input_ids=ids, decoder_input_ids=ids).logits.float().cpu()

    model = translator().train()
    with hf_chts.faster_step(model), torch.autocast(DEVICE, torch.bfloat16):
        outputs = model(input_ids=ids, decoder_input_ids=ids)
        LabelSmoothedLoss(0.1)(outputs, ids).backward()
    assert all(x.values.grad.device.type == DEVICE for x in hf_chts.sparse_layers(model).values())
    before = logits(model)
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        assert torch.equal(logits(hf_chts.from_pretrained(folder).to(DEVICE)), before)
    found = [
        model.generate(ids, num_beams=3, max_new_tokens=8, past_key_values=cache).cpu()
        for cache in (None, BeamCache(9, 3))
    ]
    assert torch.equal(*found)
    hf_chts.compact(model)
    torch.testing.assert_close(logits(model), before, atol=1e-5, rtol=0)
    hf_chts.densify(model)
    torch.testing.assert_close(logits(model), before, atol=1e-5, rtol=0)
    assert devices(model) == {DEVICE}
    halved = translator().bfloat16()
    halved(input_ids=ids, labels=ids).loss.backward()
    assert devices(halved.cpu()) == {"cpu"}


def trainer() -> None:
    """A trainer with live measures and the best model, and the same resumed from a checkpoint."""
    os.environ["ACCELERATE_TORCH_DEVICE"] = DEVICE
    row = {"input_ids": [5, 6, 7, 1], "labels": [7, 6, 5, 1], "attention_mask": [1] * 4}

    def collate(rows: list[dict[str, list[int]]]) -> dict[str, torch.Tensor]:
        return {key: torch.tensor([row[key] for row in rows]) for key in rows[0]}

    with tempfile.TemporaryDirectory() as folder:
        arguments = Seq2SeqTrainingArguments(
            folder, max_steps=12, per_device_train_batch_size=4, save_steps=4, eval_steps=4,
            eval_strategy="steps", load_best_model_at_end=True, logging_steps=4, report_to=[],
            learning_rate=1e-3, dataloader_pin_memory=False, disable_tqdm=True,
        )  # fmt: skip
        assert arguments.device.type == DEVICE

        def train(resume: str | None) -> nn.Module:
            trained = hf_chts.SparseSeq2SeqTrainer(
                model=translator(), args=arguments, data_collator=collate,
                train_dataset=[row] * 32, eval_dataset=[row] * 8,
                callbacks=[hf_chts.TopologyMonitor(f"{folder}/links")],
            )  # fmt: skip
            trained.train(resume_from_checkpoint=resume)
            return trained.model

        whole, resumed = train(None), train(f"{folder}/checkpoint-8")
    assert devices(whole) == {DEVICE}
    states = whole.state_dict(), resumed.state_dict()
    assert all(torch.equal(states[0][name].cpu(), states[1][name].cpu()) for name in states[0])


if __name__ == "__main__":
    programs: dict[str, Callable[[], None]] = {
        "methods": methods,
        "translation": translation,
        "trainer": trainer,
    }
    pretend(sys.argv[1])
    programs[sys.argv[2]]()
