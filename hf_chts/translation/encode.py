"""Parallel text to token ids for training, with a report of every pair left out."""

from __future__ import annotations

from array import array
from dataclasses import dataclass

from torch.utils.data import Dataset

from hf_chts.translation.data import ParallelText
from hf_chts.translation.tokenizer import TokenizerPair

_AT_ONCE = 4096
"""Pairs tokenised at a time."""


@dataclass(frozen=True)
class LeftOut:
    """Which pairs training leaves out, by line number counted from 1.

    Attributes:
        origin: Where the pairs come from.
        n_pairs: How many pairs there were.
        max_length: Most tokens a side may have.
        blank: Lines where a side is blank.
        too_long: Lines where a side has more than ``max_length`` tokens.
    """

    origin: str
    n_pairs: int
    max_length: int
    blank: list[int]
    too_long: list[int]

    @property
    def n_kept(self) -> int:
        """How many pairs are kept."""
        return self.n_pairs - len(self.blank) - len(self.too_long)

    def __str__(self) -> str:
        reasons = [
            (self.blank, "with a blank side"),
            (self.too_long, f"longer than {self.max_length} tokens"),
        ]
        rows = [f"{self.origin}: {self.n_kept:,} of {self.n_pairs:,} pairs kept"]
        rows += [f"  {len(n):,} {why} ({_lines(n)})" for n, why in reasons if n]
        return "\n".join(rows)


def _lines(numbers: list[int]) -> str:
    """The first few line numbers in words."""
    more = ", ..." if len(numbers) > 5 else ""
    return f"line{'s' * (len(numbers) > 1)} {', '.join(map(str, numbers[:5]))}{more}"


class EncodedText(Dataset[dict[str, list[int]]]):
    """Pairs as token ids, each ``{"input_ids": [...], "labels": [...]}``.

    Ids lie in flat arrays, 4 bytes each, so that millions of pairs fit in memory.

    Attributes:
        left_out: Report of the pairs that are not here.
    """

    def __init__(self, left_out: LeftOut) -> None:
        self.left_out = left_out
        self._ids = (array("i"), array("i"))
        self._ends = (array("q", [0]), array("q", [0]))

    def append(self, source: list[int], target: list[int]) -> None:
        """Add one pair of token ids."""
        for ids, ends, new in zip(self._ids, self._ends, (source, target), strict=True):
            ids.extend(new)
            ends.append(len(ids))

    @property
    def lengths(self) -> list[int]:
        """Tokens of the longer side of each pair."""
        source, target = self._ends
        return [max(source[i + 1] - source[i], target[i + 1] - target[i]) for i in range(len(self))]

    @property
    def longest(self) -> int:
        """Index of a pair whose longer side has the most tokens."""
        lengths = self.lengths
        return max(range(len(self)), key=lengths.__getitem__)

    def __len__(self) -> int:
        return len(self._ends[0]) - 1

    def __getitem__(self, index: int) -> dict[str, list[int]]:
        if not 0 <= index < len(self):
            raise IndexError(f"pair {index} of {len(self)}")
        sides = [
            ids[ends[index] : ends[index + 1]].tolist()
            for ids, ends in zip(self._ids, self._ends, strict=True)
        ]
        return {"input_ids": sides[0], "labels": sides[1]}


def encode(pairs: ParallelText, tokenizers: TokenizerPair, max_length: int) -> EncodedText:
    """Tokenise pairs for training; blank and over-long ones are left out and reported.

    Args:
        pairs: The text.
        tokenizers: Tokenizers of the two sides.
        max_length: Most tokens a side may have, special tokens included, at least 1.

    Returns:
        The data set; its ``left_out`` is the report.

    Raises:
        ValueError: If ``max_length`` is below 1, or no pair is left.
    """
    if max_length < 1:
        raise ValueError(f"max_length must be at least 1 token; got {max_length}")
    encoded = EncodedText(LeftOut(pairs.origin, len(pairs), max_length, [], []))
    report = encoded.left_out
    for start in range(0, len(pairs), _AT_ONCE):
        sources = pairs.source[start : start + _AT_ONCE]
        targets = pairs.target[start : start + _AT_ONCE]
        ids = zip(tokenizers.source_ids(sources), tokenizers.target_ids(targets), strict=True)
        for i, (source, target) in enumerate(ids):
            if not sources[i].strip() or not targets[i].strip():
                report.blank.append(start + i + 1)
            elif max(len(source), len(target)) > max_length:
                report.too_long.append(start + i + 1)
            else:
                encoded.append(source, target)
    if len(encoded) == 0:
        raise ValueError(f"no pair is left to train on: {report}")
    return encoded
