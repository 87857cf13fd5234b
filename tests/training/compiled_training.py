"""Training with and without ``torch.compile``; a program, as checked shapes are not compiled."""

from __future__ import annotations

import json
import sys
import tempfile
from typing import Any

import torch
from plain_loop import Loop
from tiny_training import collate, marian, pairs, run
from torch._dynamo.utils import counters

from hf_chts import Topology

STEPS = 12


def perceptron(method: str, backend: str | None) -> Any:
    """Losses, and numbers of links, step by step, and the model they lead to."""
    loop = Loop(method=method, total=STEPS)
    plain, losses, sizes = loop.model, [], []
    if backend:
        loop.model = torch.compile(plain, backend=backend)
    for _ in range(STEPS):
        loop.go()
        losses.append(float(loop.loss().detach()))
        sizes.append(sum(layer.nnz for layer in loop.layers.values()))
    return losses, sizes, plain


def marian_loop(method: str, backend: str | None) -> Any:
    """The same of a Transformer."""
    model, batch = marian(method=method), collate(pairs(8))
    compiled = torch.compile(model, backend=backend) if backend else model
    optimizer = torch.optim.AdamW(model.parameters(), 1e-2, eps=1e-5)
    topology = Topology(model, optimizer, total_steps=STEPS)
    losses, sizes = [], []
    for step in range(1, STEPS + 1):
        topology.before_backward(step)
        loss = compiled(**batch).loss
        loss.backward()
        optimizer.step()
        topology.after_step(step)
        optimizer.zero_grad()
        losses.append(float(loss.detach()))
        sizes.append(sum(layer.nnz for layer in topology.layers.values()))
    return losses, sizes, model


def by_trainer(method: str, backend: str | None) -> Any:
    """The same by a trainer, which evaluates twice; its logs tell of links removed."""
    chosen = {"torch_compile": True, "torch_compile_backend": backend} if backend else {}
    with tempfile.TemporaryDirectory() as folder:
        trainer, logs = run(
            marian(method=method), folder, max_steps=STEPS, eval_strategy="steps",
            eval_steps=STEPS // 2, adam_epsilon=1e-5, **chosen,
        )  # fmt: skip
    updates = [log.get("topology_removed") for log in logs]
    return [log["loss"] for log in logs], updates, trainer.model


def main() -> None:
    """Compare, and print what the compiler did."""
    how, method, backend = sys.argv[1:]
    train = {"perceptron": perceptron, "marian": marian_loop, "trainer": by_trainer}[how]
    losses, links, plain = train(method, None)
    counters.clear()
    compiled = train(method, backend)
    state = plain.state_dict()
    differences = [
        float((state[key].double() - value.double()).abs().max())
        for key, value in compiled[2].state_dict().items()
    ]
    found = {
        "loss": max(abs(a - b) for a, b in zip(losses, compiled[0], strict=True)),
        "weights": max(differences),
        "same_links": links == compiled[1],
        "link_numbers": len(set(links)),
        "graphs": counters["stats"]["unique_graphs"],
        "frames": [counters["frames"]["ok"], counters["frames"]["total"]],
        "breaks": list(counters["graph_break"]),
    }
    print(json.dumps(found))


if __name__ == "__main__":
    main()
