"""Batches of similar length under a token budget, and their padding."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor
from torch.utils.data import Sampler

from hf_chts.training.loss import IGNORED


def pack(lengths: Sequence[int], max_tokens: int) -> list[slice]:
    """Cut a rising sequence of lengths into batches whose padded size fits a budget.

    Args:
        lengths: Tokens of each entry, sorted from short to long.
        max_tokens: Most tokens of a batch: its longest entry times the number of entries.

    Returns:
        Consecutive slices, each as large as fits, that cover the sequence.

    Raises:
        ValueError: If an entry alone is longer than the budget.
    """
    if lengths and lengths[-1] > max_tokens:
        raise ValueError(
            f"a sentence of {lengths[-1]} tokens does not fit a batch of max_tokens={max_tokens}; "
            "raise it (training.batch_tokens in a recipe) or lower data.max_length"
        )
    slices, start = [], 0
    for i, length in enumerate(lengths):
        if (i + 1 - start) * length > max_tokens:
            slices.append(slice(start, i))
            start = i
    if len(lengths) > start:
        slices.append(slice(start, len(lengths)))
    return slices


def pad(rows: Sequence[list[int]], value: int, multiple_of: int = 1) -> Int[Tensor, "rows length"]:
    """Stack rows of different lengths, filled up on the right with ``value``."""
    length = -(-max(map(len, rows)) // multiple_of) * multiple_of
    return torch.tensor([row + [value] * (length - len(row)) for row in rows])


class TokenBatchSampler(Sampler[list[int]]):
    """Batches of pairs of similar length, in random order, every pair once an epoch.

    A batch's longest side times its number of pairs is at most ``max_tokens``, so neither the
    padded source nor the padded target exceeds it. Pairs are sorted by length, equal lengths in
    random order, and cut into batches; then batches are shuffled. Where the cuts fall depends on
    the lengths alone, so that every epoch has the same number of batches, a multiple of
    ``world_size``: the first few batches of an epoch are repeated at its end to fill up, and no
    process waits for another. The batches are a function of ``(seed, epoch)`` alone.

    All processes hold the same sampler; process ``r`` of ``n`` takes batches ``r, r + n, ...``,
    which is what ``accelerate`` does with a batch sampler.

    Attributes:
        epoch: The epoch that the next iteration draws.

    Raises:
        ValueError: If there are no pairs, a pair is longer than the budget, or ``world_size`` is
            below 1.
    """

    def __init__(
        self, lengths: Sequence[int], max_tokens: int, seed: int, world_size: int = 1
    ) -> None:
        if not lengths:
            raise ValueError("there are no pairs to make batches of")
        if world_size < 1:
            raise ValueError(f"world_size must be at least 1; got {world_size}")
        self.epoch = 0
        self._lengths = torch.tensor(lengths)
        self._seed = seed
        self._slices = pack(sorted(lengths), max_tokens)
        self._n_batches = -(-len(self._slices) // world_size) * world_size

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch, counted from 0, that the next iteration draws."""
        self.epoch = epoch

    def __len__(self) -> int:
        return self._n_batches

    def __iter__(self) -> Iterator[list[int]]:
        seed = (self._seed * 1_000_003 + self.epoch) % 2**63
        generator = torch.Generator().manual_seed(seed)
        order = torch.randperm(len(self._lengths), generator=generator)
        order = order[self._lengths[order].argsort(stable=True)]
        shuffled = torch.randperm(len(self._slices), generator=generator).tolist()
        for k in range(self._n_batches):
            yield order[self._slices[shuffled[k % len(shuffled)]]].tolist()


class Collator:
    """Pads pairs to one batch and shifts the labels right for the decoder.

    ``decoder_input_ids`` are always there, since a loss outside the model needs them and some
    models (M2M100 with NLLB, Blenderbot) cannot make them.

    Attributes:
        source_pad_id: Padding of ``input_ids``.
        target_pad_id: Padding of ``decoder_input_ids``; ``labels`` are padded with -100.
        decoder_start_token_id: First token of ``decoder_input_ids``.
        pad_to_multiple_of: Round padded lengths up to a multiple, for GPUs and ``torch.compile``.
    """

    def __init__(
        self,
        source_pad_id: int,
        target_pad_id: int,
        decoder_start_token_id: int,
        pad_to_multiple_of: int = 1,
    ) -> None:
        if pad_to_multiple_of < 1:
            raise ValueError(f"pad_to_multiple_of must be at least 1; got {pad_to_multiple_of}")
        self.source_pad_id = source_pad_id
        self.target_pad_id = target_pad_id
        self.decoder_start_token_id = decoder_start_token_id
        self.pad_to_multiple_of = pad_to_multiple_of

    @classmethod
    def of(cls, model: Any, tokenizers: Any, pad_to_multiple_of: int = 1) -> Collator:
        """The collator of a model and its :class:`~hf_chts.translation.tokenizer.TokenizerPair`.

        Raises:
            ValueError: If the model's configuration has no ``decoder_start_token_id``, or a
                tokenizer no padding.
        """
        start = model.config.decoder_start_token_id
        if start is None:
            raise ValueError(
                "model.config.decoder_start_token_id is None; set it (Marian: the padding id, "
                "mBART: the id of the target language's code)"
            )
        source, target = tokenizers.source.pad_token_id, tokenizers.target.pad_token_id
        if source is None or target is None:
            raise ValueError("the tokenizer has no pad_token; set it to that of the model")
        return cls(source, target, start, pad_to_multiple_of)

    def __call__(self, pairs: Sequence[dict[str, list[int]]]) -> dict[str, Int[Tensor, "b n"]]:
        """Collate pairs of ``input_ids`` and ``labels``.

        Returns:
            ``input_ids``, ``attention_mask`` (1 at tokens), ``labels`` and ``decoder_input_ids``.
        """
        sources, multiple = [pair["input_ids"] for pair in pairs], self.pad_to_multiple_of
        labels = pad([pair["labels"] for pair in pairs], IGNORED, multiple)
        shifted = labels.roll(1, dims=1)
        shifted[:, 0] = self.decoder_start_token_id
        return {
            "input_ids": pad(sources, self.source_pad_id, multiple),
            "attention_mask": pad([[1] * len(source) for source in sources], 0, multiple),
            "labels": labels,
            "decoder_input_ids": shifted.masked_fill(shifted == IGNORED, self.target_pad_id),
        }
