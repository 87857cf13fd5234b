"""Historical weights, early stop and evolution head by head."""

from __future__ import annotations

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from plain_loop import Loop
from torch import nn
from transformers import GPT2Config, GPT2LMHeadModel, T5Config, T5ForConditionalGeneration

from hf_chts import SparsityConfig, Topology, initial_mask, sparse_layers, sparsify
from hf_chts.engine.layer_memory import (
    historical_weights,
    memories,
    recall,
    remember_removed,
    start_counting,
)
from hf_chts.layers.sparse_linear import SparseLinear
from hf_chts.layers.structure import positions_of
from hf_chts.network.heads import head_counts


def test_a_regrown_link_has_the_weight_it_had() -> None:
    """With room for all, every weight follows from its last active moment."""
    loop = Loop("sgd", method="set", sparsity=0.5, zeta=0.5, historical_weights=9.0, total=30)
    last = {name: torch.zeros_like(layer.to_dense()) for name, layer in loop.layers.items()}
    came_back = 0
    for _ in range(15):
        loop.before_update()
        old = loop.masks()
        for name, layer in loop.layers.items():
            last[name] = torch.where(old[name], layer.to_dense().detach(), last[name])
        loop.topology.after_step(loop.step)
        for name, layer in loop.layers.items():
            mask = layer.mask
            assert torch.equal(layer.to_dense(), last[name] * mask)
            new = mask & ~old[name]
            came_back += int((last[name][new] != 0).sum())
            for item in loop.optimizer.state[layer.values].values():
                assert not layer.scatter(item)[new].any()  # no historical optimizer state
    assert came_back > 50


def test_memory_and_links_stay_apart_when_older_weights_are_loaded() -> None:
    """As after the best model was loaded; a checkpoint with a link in both could not be resumed."""
    loop = Loop("sgd", method="set", sparsity=0.5, zeta=0.5, historical_weights=9.0, total=30)
    older = copy.deepcopy(loop.model.state_dict())
    for _ in range(4):
        loop.go()
    loop.model.load_state_dict(older)
    last = {name: layer.to_dense().detach().clone() for name, layer in loop.layers.items()}
    loaded = loop.masks()
    for _ in range(4):
        loop.before_update()
        for name, layer in loop.layers.items():
            last[name] = torch.where(layer.mask, layer.to_dense().detach(), last[name])
        updated = loop.topology.after_step(loop.step)
        for layer in loop.layers.values():
            assert not (updated and layer.mask.flatten()[layer.past_positions].any())
    recall(loop.layers, memories(loop.layers))  # refuses a link that is there twice
    for name, layer in loop.layers.items():
        known = loaded[name].flatten()[layer.past_positions]
        expected = last[name].flatten()[layer.past_positions]
        assert torch.equal(layer.past_values[known], expected[known])
        assert known.any()


def layer_of(positions: list[int], values: list[float]) -> SparseLinear:
    layer = SparseLinear(4, 2, len(positions))
    layer.set_links(torch.tensor(positions), torch.tensor(values))
    start_counting(layer, historical=True)
    return layer


def moved(layer: SparseLinear, positions: list[int], limit: int) -> list[float]:
    """Weights that the links at ``positions`` would start with; then they are the links."""
    wanted = torch.tensor(positions)
    mask = torch.zeros(8, dtype=torch.bool)
    mask[wanted] = True
    starts = historical_weights(layer, wanted)
    remember_removed(layer, mask.view(2, 4), limit)
    layer.set_links(wanted, torch.arange(1.0, len(positions) + 1))
    return starts.tolist()


def test_the_longest_gone_are_forgotten_first() -> None:
    layer = layer_of([0, 1, 2], [10.0, 11.0, 12.0])
    assert moved(layer, [2, 3], limit=2) == [0, 0]
    assert layer.past_positions.tolist() == [0, 1]
    assert moved(layer, [3, 4], limit=2) == [0, 0]  # 2 goes with weight 1, 0 is forgotten
    assert layer.past_positions.tolist() == [1, 2]
    assert layer.past_values.tolist() == [11.0, 1.0]
    assert moved(layer, [0, 1, 2], limit=2) == [0.0, 11.0, 1.0]  # 3 and 4 go, 1 and 2 come back
    assert layer.past_positions.tolist() == [3, 4]


@settings(max_examples=20)
@given(st.floats(0.1, 3.0), st.sampled_from(["set", "chts", "rigl"]))
def test_memory_is_bounded(multiple, method) -> None:
    loop = Loop(method=method, sparsity=0.7, zeta=0.6, historical_weights=multiple, kernel="dense")
    for _ in range(8):
        loop.go()
        for layer in loop.layers.values():
            assert layer.past_positions.numel() <= int(multiple * layer.nnz)
            assert layer.past_values.shape == layer.past_positions.shape
            assert not layer.mask.flatten()[layer.past_positions].any()


@pytest.mark.parametrize("multiple", [0.1, 0.5])
def test_memory_is_as_large_as_asked_for_when_the_density_falls(multiple) -> None:
    """Its size follows from the links that are left, not from those that were there before."""
    loop = Loop(
        method="granet", density_schedule="linear", sparsity=0.7, historical_weights=multiple
    )
    for _ in range(12):
        loop.go()
    for layer in loop.layers.values():
        assert layer.past_positions.numel() == int(multiple * layer.nnz)


def test_without_it_nothing_is_kept() -> None:
    loop = Loop(method="set")
    for _ in range(4):
        loop.go()
    assert {key.rpartition(".")[2] for key in memories(loop.layers)} == {"explored"}


def test_early_stop_rests_a_layer_and_keeps_its_links() -> None:
    """Everything is removed and, where all links fit, everything comes back: overlap 1."""
    loop = Loop(method="set", sparsity=0.0, zeta=1.0, early_stop=0.9)
    first = [row.overlap for row in (loop.go(), loop.go())[1]]
    assert first == [1.0, 1.0, 1.0]
    assert all(layer.resting for layer in loop.layers.values())
    second = (loop.go(), loop.go())[1]
    assert [row.overlap for row in second] == [0.0, 0.0, 0.0]  # nothing was taken


def test_early_stop_is_each_layers_own() -> None:
    loop = Loop(method="set", sparsity=0.5, zeta=0.5, early_stop=0.9, total=20)
    next(iter(loop.layers.values())).resting = True
    for _ in range(4):
        before = loop.masks()
        updates = loop.go()
        after = loop.masks()
        same = [torch.equal(before[name], after[name]) for name in before]
        assert same == ([True, False, False] if updates else [True] * 3)


def test_neurons_that_die_next_to_it_take_no_link_of_a_resting_layer() -> None:
    loop = Loop(method="chts", sparsity=0.85, zeta=0.5, update_interval=1, total=20)
    loop.layers["2"].resting = True
    before = loop.masks()
    for _ in range(6):
        loop.go()
    assert torch.equal(loop.layers["2"].mask, before["2"])
    assert not torch.equal(loop.layers["0"].mask, before["0"])
    assert loop.topology.active_neuron_rate() < 1


def test_the_threshold_of_early_stop_is_exceeded_not_met() -> None:
    loop = Loop(method="set", sparsity=0.0, zeta=1.0, early_stop=1.0)
    for _ in range(2):
        loop.go()
    assert not any(layer.resting for layer in loop.layers.values())


def test_overlap_is_the_share_that_came_back() -> None:
    loop = Loop(method="set", sparsity=0.4, zeta=0.5, update_interval=1)
    n_before = {name: layer.nnz for name, layer in loop.layers.items()}
    for row in loop.go():
        taken = int(0.5 * n_before[row.name])
        assert row.overlap == pytest.approx(1 - row.removed / taken)
        assert row.removed == row.regrown > 0
        assert 0 < row.overlap < 1


def attention_model(kind: str) -> nn.Module:
    torch.manual_seed(0)
    if kind == "t5":
        shape = {"d_model": 24, "d_kv": 4, "num_heads": 3, "d_ff": 32, "num_layers": 1,
                 "decoder_start_token_id": 0}  # fmt: skip
        return T5ForConditionalGeneration(T5Config(vocab_size=20, **shape))
    return GPT2LMHeadModel(GPT2Config(vocab_size=20, n_embd=24, n_head=3, n_layer=1))


@pytest.mark.parametrize(("kind", "heads"), [("t5", {3}), ("gpt2", {9})])
def test_heads_are_found(kind, heads) -> None:
    model = attention_model(kind)
    sparsify(model, SparsityConfig(sparsity=0.5))
    counts = head_counts(model)
    assert set(counts.values()) == heads
    leaves = {name.rpartition(".")[2] for name in counts}
    assert leaves == ({"q", "k", "v"} if kind == "t5" else {"c_attn"})


@pytest.mark.parametrize("method", ["set", "rigl", "chts", "cht", "chtss"])
@pytest.mark.parametrize("kind", ["t5", "gpt2"])
def test_heads_keep_their_number_of_links(kind, method) -> None:
    model = attention_model(kind)
    config = SparsityConfig(
        method=method, sparsity=0.6, update_interval=1, head_wise=True, zeta=0.5, initial="er"
    )
    sparsify(model, config)
    layers = sparse_layers(model)
    heads = head_counts(model)
    counts = {n: layers[n].mask.view(h, -1).sum(1) for n, h in heads.items()}
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    topology = Topology(model, optimizer, total_steps=6)
    ids = torch.randint(20, (2, 7))
    regrown = 0
    for step in range(1, 5):
        optimizer.zero_grad()
        topology.before_backward(step)
        model(input_ids=ids, labels=ids).loss.backward()
        optimizer.step()
        regrown += sum(row.regrown for row in topology.after_step(step))
        for name, count in heads.items():
            now = layers[name].mask.view(count, -1).sum(1)
            share = counts[name] * layers[name].nnz / counts[name].sum()
            assert bool(((now - share).abs() < step).all())  # rounded at every update
            if method != "chtss":
                assert torch.equal(now, counts[name])
    assert regrown > 0


def test_head_wise_regrowth_scores_each_head_by_itself() -> None:
    """Two heads: one's links are all at input 0, so paths across heads would say otherwise."""
    loop_config = SparsityConfig(
        method="chts", sparsity=0.5, head_wise=True, update_interval=1, percolation=False,
        regrowth_exponent="ranked", removal_exponent="ranked", zeta=0.25, zeta_schedule="constant",
    )  # fmt: skip
    model = attention_model("t5")
    sparsify(model, loop_config)
    name = "encoder.block.0.layer.0.SelfAttention.q"
    topology = Topology(model, torch.optim.SGD(model.parameters(), lr=0.0), total_steps=10)
    mask = initial_mask("er", 12, 24, 0.5, seed=1)
    layer = sparse_layers(model)[name]
    layer.set_links(positions_of(mask), torch.rand(layer.nnz))
    whole = topology._regrow(name, mask, mask & torch.rand(12, 24).gt(0.3), layer.nnz, 1)
    for rows in topology.parts[name]:
        assert int(whole[rows].sum()) == int(mask[rows].sum())
    assert [rows.stop - rows.start for rows in topology.parts[name]] == [4, 4, 4]


def test_memory_of_other_layers_or_shapes_is_refused() -> None:
    loop = Loop(method="set", historical_weights=1.0)
    for _ in range(4):
        loop.go()
    found = memories(loop.layers)
    other = Loop(method="set", historical_weights=1.0)
    recall(other.layers, found)
    assert memories(other.layers).keys() == found.keys()
    assert all(torch.equal(memories(other.layers)[key], found[key]) for key in found)
    bad = {
        "no.explored": ("which no sparse layer here has", found["0.explored"]),
        "0.weights": ("which no sparse layer here has", found["0.explored"]),
        "0.explored": ("takes 24 bytes", found["0.explored"][:3]),
        "0.past_positions": ("lists of one length", found["0.past_positions"][:1]),
    }
    for key, (message, tensor) in bad.items():
        with pytest.raises(ValueError, match=message):
            recall(other.layers, {**found, key: tensor})
    with pytest.raises(ValueError, match=r"must lie in \[0, 192\)"):
        recall(other.layers, {**found, "0.past_positions": found["0.past_positions"] + 192})
    with pytest.raises(ValueError, match="int64"):
        recall(other.layers, {**found, "0.past_positions": found["0.past_positions"].int()})
    assert all(torch.equal(memories(other.layers)[key], found[key]) for key in found)
