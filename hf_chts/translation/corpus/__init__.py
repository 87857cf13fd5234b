"""The embedded corpus: English-German sentence pairs from a bilingual grammar.

A sentence is drawn as a tree of dictionary entries and features (``sentences``, ``tree``), which
``english`` and ``german`` both render. One English sentence has one translation: past becomes
Perfekt (Präteritum for sein, haben, modals and a few more), "you" is du, "it" agrees with the noun
it stands for. To extend it, add rows to the tables (``verbs.txt``, ``nouns.txt``, ...).
"""

from __future__ import annotations

import re
from typing import NamedTuple

from . import english, german
from .phrases import Dice
from .sentences import sentence
from .tree import Compound, Sentence

N_MAX = 100_000
MIN_WORDS, MAX_WORDS = 4, 22


class Pair(NamedTuple):
    """An English sentence and its German translation."""

    source: str
    target: str


def _polish(text: str, question: bool) -> str:
    """Capitalise, and let punctuation marks join the word before and absorb one another."""
    text = re.sub(r"\s*(,\s*)+", ", ", " ".join(text.split())).rstrip(", ")
    return text[0].upper() + text[1:] + ("?" if question else ".")


def render(tree: Sentence) -> Pair:
    """Say an abstract sentence in both languages."""
    if isinstance(tree, Compound):
        conjunction = tree.conjunction
        comma = " ," if conjunction.german == "aber" else ""
        source = f"{english.clause_text(tree.first)} , {conjunction.english} "
        target = f"{german.main_text(tree.first)}{comma} {conjunction.german} "
        source += english.clause_text(tree.second)
        target += german.main_text(tree.second)
        return Pair(_polish(source, False), _polish(target, False))
    source, target = english.clause_text(tree), german.main_text(tree)
    return Pair(_polish(source, tree.question), _polish(target, tree.question))


def sentence_pairs(n: int, seed: int = 0) -> list[Pair]:
    """Generate ``n`` pairs, no two of which share a source or a target.

    Args:
        n: Number of pairs, in [1, N_MAX].
        seed: Seed of all randomness, not negative. A smaller ``n`` gives the beginning of a larger.

    Raises:
        ValueError: If ``n`` or ``seed`` is out of range.
    """
    if not 1 <= n <= N_MAX:
        raise ValueError(f"n must be in [1, {N_MAX}], got {n}; ask for fewer pairs")
    if seed < 0:
        raise ValueError(f"seed must not be negative, got {seed}")
    dice = Dice(seed)
    pairs: list[Pair] = []
    sources: set[str] = set()
    targets: set[str] = set()
    while len(pairs) < n:
        pair = render(sentence(dice))
        words = pair.target.count(" ") + 1
        if not MIN_WORDS <= words <= MAX_WORDS:
            continue
        if pair.source in sources or pair.target in targets:
            continue
        sources.add(pair.source)
        targets.add(pair.target)
        pairs.append(pair)
    return pairs


def splits(
    n_train: int = 30_000, n_valid: int = 1_000, n_test: int = 1_000, seed: int = 0
) -> dict[str, list[Pair]]:
    """Generate the three splits; none shares a source or a target with another.

    The test split comes first out of the generator, so that it does not depend on ``n_train``.

    Args:
        n_train: Number of training pairs, at least 1.
        n_valid: Number of validation pairs, at least 1.
        n_test: Number of test pairs, at least 1.
        seed: Seed of all randomness, not negative.

    Returns:
        The pairs under "train", "validation" and "test".

    Raises:
        ValueError: If a size or the seed is out of range; the sum is at most N_MAX.
    """
    if min(n_train, n_valid, n_test) < 1:
        raise ValueError(f"every split needs at least 1 pair, got {(n_train, n_valid, n_test)}")
    pairs = sentence_pairs(n_test + n_valid + n_train, seed)
    held_out = n_test + n_valid
    return {
        "train": pairs[held_out:],
        "validation": pairs[n_test:held_out],
        "test": pairs[:n_test],
    }
