"""A plain training loop of a small perceptron, for tests of the engine."""

from __future__ import annotations

import torch
from torch import nn
from transformers.optimization import Adafactor

from hf_chts import SparsityConfig, Topology, sparse_layers, sparsify

OPTIMIZERS = {
    "adamw_loop": lambda p: torch.optim.AdamW(p, lr=1e-2, foreach=False),
    "adamw_foreach": lambda p: torch.optim.AdamW(p, lr=1e-2, foreach=True),
    "adamw_fused": lambda p: torch.optim.AdamW(p, lr=1e-2, fused=True),
    "adamw_amsgrad": lambda p: torch.optim.AdamW(p, lr=1e-2, amsgrad=True),
    "sgd": lambda p: torch.optim.SGD(p, lr=1e-2, momentum=0.9),
    "adagrad": lambda p: torch.optim.Adagrad(p, lr=1e-2),
    "rmsprop": lambda p: torch.optim.RMSprop(p, lr=1e-2, momentum=0.9),
    "adafactor": lambda p: torch.optim.Adafactor(p, lr=1e-2),
    "adafactor_hf": lambda p: Adafactor(
        p, lr=1e-2, scale_parameter=False, relative_step=False, warmup_init=False
    ),
}


class Loop:
    """A plain training loop of a small perceptron that keeps what it sees at each update."""

    def __init__(self, optimizer="adamw_loop", total=12, **config) -> None:
        torch.manual_seed(0)
        self.model = nn.Sequential(
            nn.Linear(12, 16), nn.ReLU(), nn.Linear(16, 10), nn.Tanh(), nn.Linear(10, 4)
        )
        chosen = {"sparsity": 0.6, "update_interval": 2, "stop_fraction": 1.0, **config}
        sparsify(self.model, SparsityConfig(**chosen))
        self.optimizer = OPTIMIZERS[optimizer](self.model.parameters())
        self.topology = Topology(self.model, self.optimizer, total_steps=total)
        self.layers = sparse_layers(self.model)
        self.data = torch.randn(64, 12), torch.randint(4, (64,))
        self.step = 0

    def loss(self):
        return nn.functional.cross_entropy(self.model(self.data[0]), self.data[1])

    def masks(self):
        return {name: layer.mask for name, layer in self.layers.items()}

    def before_update(self):
        """One step up to, and without, the topology's part."""
        self.step += 1
        self.optimizer.zero_grad()
        self.topology.before_backward(self.step)
        self.loss().backward()
        self.optimizer.step()

    def go(self, **kwargs):
        self.before_update()
        return self.topology.after_step(self.step, **kwargs)

    def dense_state(self):
        """Weights and optimizer state of every layer as dense matrices."""
        found = {}
        for name, layer in self.layers.items():
            found[name, "weight"] = layer.to_dense().detach().clone()
            for key, item in self.optimizer.state[layer.values].items():
                if isinstance(item, torch.Tensor) and item.dim():
                    assert item.shape == layer.values.shape
                    found[name, key] = layer.scatter(item)
        return found


def check_moved(loop: Loop, before: dict, old: dict) -> None:
    """Kept links keep weight and state bit for bit; new ones have none; inactive ones nothing."""
    after = loop.dense_state()
    assert after.keys() == before.keys()
    for (name, key), data in after.items():
        mask = loop.layers[name].mask
        kept, new = mask & old[name], mask & ~old[name]
        assert torch.equal(data[kept], before[name, key][kept]), (name, key)
        assert not data[new].any(), (name, key)
        assert not data[~mask].any(), (name, key)
