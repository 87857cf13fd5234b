"""Rules that read correlations get those of the step that the update follows, and no others."""

from __future__ import annotations

import pytest
import torch
from plain_loop import Loop
from tiny_training import marian, run
from torch import nn

from hf_chts import sparse_layers
from hf_chts.layers.sparse_linear import SparseLinear
from hf_chts.rules.links import Links
from hf_chts.rules.removal import removal

RANKED = {
    "method": "hebbian", "zeta": 0.4, "zeta_schedule": "constant", "removal_exponent": "ranked",
    "regrowth_exponent": "ranked", "percolation": False,
}  # fmt: skip


def neurons(loop):
    """Inputs and outputs of each layer for the loop's data."""
    found, x = {}, loop.data[0]
    for name, module in loop.model.named_children():
        y = module(x)
        if isinstance(module, SparseLinear):
            found[name] = x.detach(), y.detach()
        x = y
    return found


def test_hebbian_grows_the_largest_correlations() -> None:
    loop = Loop(**RANKED)
    loop.go()
    seen, old = neurons(loop), loop.masks()
    loop.before_update()
    weights = loop.dense_state()
    loop.topology.after_step(loop.step)
    for name, layer in loop.layers.items():
        x, y = seen[name]
        scores = torch.corrcoef(torch.cat([x, y], 1).T)[x.shape[1] :, : x.shape[1]].abs()
        n_removed = int(0.4 * layer.nnz)
        size = weights[name, "weight"].abs().masked_fill(~old[name], -1).flatten()
        expected = torch.zeros_like(old[name])
        expected.view(-1)[size.argsort(descending=True)[: layer.nnz - n_removed]] = True
        rest = scores.nan_to_num(0).masked_fill(expected, -1).flatten()
        expected.view(-1)[rest.topk(n_removed).indices] = True
        assert torch.equal(layer.mask, expected)
        assert bool((layer.mask & ~old[name]).any())


def links_after(loop, step_of, steps=6):
    moved = False
    for step in range(1, steps + 1):
        old = loop.masks()
        loop.optimizer.zero_grad()
        step_of(loop, step)
        loop.optimizer.step()
        loop.topology.after_step(step)
        moved |= any(not torch.equal(old[n], mask) for n, mask in loop.masks().items())
    assert moved
    return loop.masks()


def usual(loop, step):
    loop.topology.before_backward(step)
    loop.loss().backward()


def forward_first(loop, step):
    loss = loop.loss()
    loop.topology.before_backward(step)
    loss.backward()


def looked_at(loop, step):
    loop.model.eval()
    loop.model(torch.randn(9, 12)).sum()
    loop.model.train()
    usual(loop, step)
    with torch.no_grad():
        loop.model(torch.randn(9, 12))


def micro_batches(loop, step):
    for x, y in zip(loop.data[0].split(16), loop.data[1].split(16), strict=True):
        loop.topology.before_backward(step)
        (nn.functional.cross_entropy(loop.model(x), y) / 4).backward()


@pytest.mark.parametrize("other", [forward_first, looked_at, micro_batches])
@pytest.mark.parametrize("method", ["hebbian", "hebbian_ch", "rigl"])
def test_the_same_tokens_give_the_same_links(method, other) -> None:
    want, found = (links_after(Loop(method=method), step_of) for step_of in (usual, other))
    assert all(torch.equal(want[name], found[name]) for name in want)


def test_gradients_that_are_cleared_before_they_are_read_are_told() -> None:
    loop = Loop(method="mest")
    loop.go()
    loop.before_update()
    loop.optimizer.zero_grad()
    old = loop.masks()
    with pytest.raises(ValueError, match=r"call topology\.after_step\(step\) before optimizer"):
        loop.topology.after_step(loop.step)
    assert all(torch.equal(old[name], mask) for name, mask in loop.masks().items())
    for layer in loop.layers.values():  # where no link trains, none has a gradient
        layer.values.requires_grad_(False)
    assert loop.topology.after_step(loop.step)


def test_nothing_is_kept_after_an_update() -> None:
    loop = Loop(method="hebbian")
    for _ in range(4):
        loop.before_update()
        due = loop.topology.is_due(loop.step)
        assert all((layer.coactivation is not None) == due for layer in loop.layers.values())
        loop.topology.after_step(loop.step)
        for layer in loop.layers.values():
            assert layer.coactivation is None
            assert layer.capture_coactivation == loop.topology.is_due(loop.step + 1)
            assert not layer.capture_dense_grad


@pytest.mark.parametrize("method", ["hebbian", "rigl"])
def test_what_came_too_late_is_told(method) -> None:
    loop = Loop(method=method, update_interval=1)
    old = loop.masks()
    loop.loss().backward()
    loop.optimizer.step()
    with pytest.raises(ValueError, match=r"call topology\.before_backward\(step\) before the forw"):
        loop.topology.after_step(1)
    loop.topology.before_backward(1)
    with pytest.raises(ValueError, match="nothing was collected for a rule that reads"):
        loop.topology.after_step(1)
    assert all(torch.equal(old[name], mask) for name, mask in loop.masks().items())


def test_a_falling_density_may_be_ranked_by_a_rule_of_its_own() -> None:
    """The decay alone reads the gradient: removal goes by magnitude."""
    config = {"decay": "mest", "density_schedule": "linear", "initial_sparsity": 0.0}
    loop = Loop(method="static", removal="magnitude", **config)
    for _ in range(2):
        loop.before_update()
        expected = {
            name: removal["mest"].function(
                Links(
                    layer.to_dense().detach(),
                    layer.mask,
                    torch.Generator(),
                    grad=layer.scatter(layer.values.grad),
                )
            )
            for name, layer in loop.layers.items()
        }
        loop.topology.after_step(loop.step)
    assert len(expected) == 3
    for name, layer in loop.layers.items():
        assert layer.nnz < layer.in_features * layer.out_features
        scores, kept = expected[name], layer.mask
        assert scores[kept].min() >= scores[~kept].max()


# With a trainer, on sentences of different lengths


def masks_after(folder, config, **options):
    model = marian(method="hebbian", **config)
    trainer, _ = run(model, folder, max_steps=4, **options)
    return {name: layer.mask for name, layer in sparse_layers(trainer.model).items()}


def test_head_by_head(tmp_path) -> None:
    """Each head keeps its number of links, and so does each layer."""
    before = {n: x.mask for n, x in sparse_layers(marian(method="hebbian")).items()}
    after = masks_after(tmp_path, {"head_wise": True, "zeta": 0.5, "percolation": False})
    for name, mask in after.items():
        parts = 2 if name.endswith(("q_proj", "k_proj", "v_proj")) else 1
        for old, new in zip(before[name].chunk(parts), mask.chunk(parts), strict=True):
            assert int(old.sum()) == int(new.sum())
        assert not torch.equal(before[name], mask)


@pytest.mark.parametrize(
    "options",
    [
        {"gradient_checkpointing": True},
        {
            "gradient_checkpointing": True,
            "gradient_checkpointing_kwargs": {"use_reentrant": False},
        },
        {"per_device_train_batch_size": 2, "gradient_accumulation_steps": 4},
    ],
    ids=["checkpointing", "checkpointing without re-entry", "accumulation"],
)
def test_neither_checkpointing_nor_padding_changes_links(options, tmp_path) -> None:
    """Micro-batches are padded to other lengths than the whole batch."""
    config = {"zeta": 0.4, "removal_exponent": "ranked", "regrowth_exponent": "ranked"}
    want, found = masks_after(tmp_path, config), masks_after(tmp_path, config, **options)
    assert all(torch.equal(want[name], found[name]) for name in want)


def test_bf16(tmp_path) -> None:
    model = marian(method="hebbian", zeta=0.4)
    before = {name: layer.mask for name, layer in sparse_layers(model).items()}
    _, steps = run(model, tmp_path, bf16=True, max_steps=8)
    assert steps[-1]["loss"] < steps[0]["loss"]
    assert any(not torch.equal(x.mask, before[n]) for n, x in sparse_layers(model).items())
