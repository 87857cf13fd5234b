from __future__ import annotations

import copy
import pickle
from pathlib import Path

import pytest
import torch
from accelerate import skip_first_batches
from accelerate.data_loader import prepare_data_loader
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.data import DataLoader
from transformers import BlenderbotConfig, M2M100Config, MarianConfig, MBartConfig

from hf_chts.translation.batches import Collator, TokenBatchSampler, pack
from hf_chts.translation.data import ParallelText, load_files
from hf_chts.translation.encode import encode
from hf_chts.translation.tokenizer import TokenizerPair, train_tokenizer

MULTI30K = Path(__file__).resolve().parents[3] / "shared" / "data" / "multi30k"
TEXT = ParallelText(
    ["a b", " ", "c", "a b c a b c a b c", "b"], ["A", "B", "", "C", "A B C"], "made up"
)


def tokenizers() -> TokenizerPair:
    source = train_tokenizer(["a b c"] * 3, 10)
    return TokenizerPair(source, train_tokenizer(["A B C"] * 3, 10))


def test_encode_leaves_out_and_reports() -> None:
    pair = tokenizers()
    data = encode(TEXT, pair, max_length=8)
    assert len(data) == 2
    assert data[0] == {
        "input_ids": pair.source_ids(["a b"])[0],
        "labels": pair.target_ids(["A"])[0],
    }
    assert data[1]["labels"] == pair.target_ids(["A B C"])[0]
    assert data.lengths == [max(map(len, data[i].values())) for i in range(2)]
    assert data.left_out.blank == [2, 3]
    assert data.left_out.too_long == [4]
    assert str(data.left_out) == (
        "made up: 2 of 5 pairs kept\n"
        "  2 with a blank side (lines 2, 3)\n"
        "  1 longer than 8 tokens (line 4)"
    )
    assert pickle.loads(pickle.dumps(data))[1] == data[1]
    with pytest.raises(IndexError, match="pair 2 of 2"):
        data[2]
    assert list(data) == [data[0], data[1]]


def test_long_report_names_the_first_lines_only() -> None:
    text = ParallelText(["a"] + [""] * 9, ["A"] * 10, "x")
    assert "(lines 2, 3, 4, 5, 6, ...)" in str(encode(text, tokenizers(), 8).left_out)


def test_encode_refuses() -> None:
    with pytest.raises(ValueError, match="max_length must be at least 1 token; got 0"):
        encode(TEXT, tokenizers(), 0)
    with pytest.raises(ValueError, match="no pair is left to train on: made up: 0 of 5"):
        encode(TEXT, tokenizers(), 1)


def test_pack_by_hand() -> None:
    lengths = [1, 1, 2, 2, 3, 5, 5, 6]
    assert [lengths[s] for s in pack(lengths, 6)] == [[1, 1, 2], [2, 3], [5], [5], [6]]
    assert pack([], 6) == []


LENGTHS = st.lists(st.integers(1, 30), min_size=1, max_size=80)


@settings(max_examples=80)
@given(lengths=LENGTHS, max_tokens=st.integers(30, 100), world=st.integers(1, 4))
def test_sampler_invariants(lengths: list[int], max_tokens: int, world: int) -> None:
    sampler = TokenBatchSampler(lengths, max_tokens, seed=3, world_size=world)
    seen = []
    for epoch in range(3):
        sampler.set_epoch(epoch)
        batches = list(sampler)
        assert len(batches) == len(sampler)
        assert len(batches) % world == 0
        assert all(max(lengths[i] for i in b) * len(b) <= max_tokens for b in batches)
        n_once = len(pack(sorted(lengths), max_tokens))
        once = batches[:n_once]
        assert sorted(i for b in once for i in b) == list(range(len(lengths)))
        assert batches[n_once:] == [batches[k % n_once] for k in range(n_once, len(batches))]
        assert 0 <= len(batches) - n_once < world
        seen.append(batches)
    sampler.set_epoch(1)
    assert list(sampler) == seen[1] == list(sampler)


def test_epochs_and_seeds_differ_in_order_and_in_batches() -> None:
    lengths = [1 + i % 7 for i in range(400)]

    def draw(seed: int, epoch: int) -> list[list[int]]:
        sampler = TokenBatchSampler(lengths, 40, seed)
        sampler.set_epoch(epoch)
        return list(sampler)

    first = draw(0, 0)
    for other in (draw(0, 1), draw(1, 0)):
        assert other != first
        assert {frozenset(b) for b in other} != {frozenset(b) for b in first}
    longest = [max(lengths[i] for i in b) for b in first]
    assert longest != sorted(longest)


@pytest.mark.parametrize(
    ("lengths", "max_tokens", "world", "message"),
    [
        ([], 10, 1, "no pairs"),
        ([3, 11], 10, 1, "11 tokens does not fit a batch of max_tokens=10"),
        ([3], 10, 0, "world_size must be at least 1; got 0"),
    ],
)
def test_sampler_refuses(lengths: list[int], max_tokens: int, world: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TokenBatchSampler(lengths, max_tokens, 0, world)


def prepared(sampler: TokenBatchSampler, world: int, rank: int) -> DataLoader:
    loader = DataLoader(
        range(60), batch_sampler=sampler, collate_fn=lambda rows: torch.tensor(rows)
    )
    return prepare_data_loader(loader, num_processes=world, process_index=rank, put_on_device=False)


@pytest.mark.parametrize("world", [1, 2, 3])
def test_sharded_over_processes(world: int) -> None:
    lengths = [1 + i % 9 for i in range(60)]
    whole = TokenBatchSampler(lengths, 20, seed=5, world_size=world)
    whole.set_epoch(2)
    expected = list(whole)
    for rank in range(world):
        sampler = TokenBatchSampler(lengths, 20, seed=5, world_size=world)
        loader = prepared(sampler, world, rank)
        assert len(loader) == len(whole) // world
        loader.set_epoch(2)
        sampler.set_epoch(2)
        assert [b.tolist() for b in loader] == expected[rank::world]
        skipping = skip_first_batches(loader, 3)
        sampler.set_epoch(2)
        skipping.set_epoch(2)
        assert [b.tolist() for b in skipping] == expected[rank::world][3:]


PAIRS = [{"input_ids": [5, 6, 1], "labels": [7, 1]}, {"input_ids": [8, 1], "labels": [9, 4, 3, 1]}]


def test_collator_by_hand() -> None:
    batch = Collator(source_pad_id=0, target_pad_id=2, decoder_start_token_id=11)(PAIRS)
    assert {k: v.tolist() for k, v in batch.items()} == {
        "input_ids": [[5, 6, 1], [8, 1, 0]],
        "attention_mask": [[1, 1, 1], [1, 1, 0]],
        "labels": [[7, 1, -100, -100], [9, 4, 3, 1]],
        "decoder_input_ids": [[11, 7, 1, 2], [11, 9, 4, 3]],
    }
    assert all(v.dtype == torch.int64 for v in batch.values())


def test_collator_pads_to_a_multiple() -> None:
    plain, batch = Collator(0, 0, 0)(PAIRS), Collator(0, 0, 0, pad_to_multiple_of=8)(PAIRS)
    assert all(v.shape == (2, 8) for v in batch.values())
    for name, value in plain.items():
        assert torch.equal(batch[name][:, : value.shape[1]], value)
    assert batch["attention_mask"].sum() == 5
    with pytest.raises(ValueError, match="pad_to_multiple_of must be at least 1; got 0"):
        Collator(0, 0, 0, 0)


def tiny(config_class: type, **more: object) -> object:
    from transformers import AutoModelForSeq2SeqLM

    torch.manual_seed(0)
    config = config_class(
        vocab_size=16,
        d_model=16,
        encoder_layers=1,
        decoder_layers=1,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        encoder_ffn_dim=16,
        decoder_ffn_dim=16,
        max_position_embeddings=32,
        pad_token_id=0,
        eos_token_id=1,
        forced_eos_token_id=None,
        **more,
    )
    return AutoModelForSeq2SeqLM.from_config(config).eval()


@pytest.mark.parametrize("config_class", [MarianConfig, M2M100Config, BlenderbotConfig])
def test_shifted_labels_are_those_of_the_model(config_class: type) -> None:
    model = tiny(config_class, decoder_start_token_id=3)
    pair = tokenizers()
    batch = Collator.of(model, pair)(PAIRS)
    own = {k: v for k, v in batch.items() if k != "decoder_input_ids"}
    given = model(**batch).logits[batch["labels"] != -100]
    torch.testing.assert_close(given, model(**own).logits[batch["labels"] != -100])


def test_model_without_a_start_token() -> None:
    model = tiny(MBartConfig)
    with pytest.raises(ValueError, match="decoder_start_token_id is None; set it"):
        Collator.of(model, tokenizers())


def test_tokenizer_without_padding() -> None:
    pair = copy.deepcopy(tokenizers())
    pair.source.pad_token = None
    with pytest.raises(ValueError, match="the tokenizer has no pad_token; set it"):
        Collator.of(tiny(MarianConfig), pair)


@pytest.mark.skipif(not MULTI30K.is_dir(), reason="no shared/data/multi30k beside the project")
def test_multi30k_batches_waste_little() -> None:
    text = load_files(MULTI30K / "val.en.gz", MULTI30K / "val.de.gz")
    tokenizer = train_tokenizer(text.source + text.target, 2000)
    data = encode(text, TokenizerPair(tokenizer, tokenizer), max_length=60)
    assert data.left_out.n_kept == len(data) >= 1000
    collate, n_tokens, n_places = Collator(0, 0, 0), 0, 0
    for batch in TokenBatchSampler(data.lengths, 1024, seed=0):
        padded = collate([data[i] for i in batch])
        assert padded["input_ids"].numel() <= 1024
        assert padded["labels"].numel() <= 1024
        n_tokens += int(padded["attention_mask"].sum() + (padded["labels"] != -100).sum())
        n_places += padded["input_ids"].numel() + padded["labels"].numel()
    assert n_tokens / n_places > 0.8
