"""The README's example of a rule from outside the package works in training."""

import re
from pathlib import Path

import torch
from torch import nn

from hf_chts import SparsityConfig, Topology, sparse_layers, sparsify
from hf_chts.rules.regrowth import regrowth

README = Path(__file__).resolve().parents[1] / "README.md"


def test_the_readme_rule_regrows_between_neurons_of_low_degree() -> None:
    block = next(
        code
        for code in re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), re.S)
        if "low_degree" in code
    )
    exec(compile(block, "README.md", "exec"), {})
    try:
        model = nn.Sequential(nn.Linear(20, 20))
        sparsify(
            model, SparsityConfig(method="set", regrowth="low_degree", sparsity=0.8, zeta=0.5,
                                  update_interval=1, stop_fraction=1.0)
        )  # fmt: skip
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        topology = Topology(model, optimizer, total_steps=3)
        layer = sparse_layers(model)["0"]
        topology.before_backward(1)
        model(torch.randn(8, 20)).square().sum().backward()
        optimizer.step()
        before = layer.mask
        (update,) = topology.after_step(1)
        kept = before & layer.mask
        grown = layer.mask & ~before
        assert int(grown.sum()) == update.regrown > 0
        degrees = kept.sum(1, keepdim=True) * kept.sum(0, keepdim=True)
        assert degrees[grown].float().mean() < degrees[~layer.mask].float().mean()
    finally:
        del regrowth["low_degree"]
