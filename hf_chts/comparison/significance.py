"""Whether two methods' translations differ by more than the choice of test sentences explains."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import numpy as np
from sacrebleu.metrics import BLEU, CHRF
from sacrebleu.significance import PairedTest

N_RESAMPLES = 1000

Outputs = Sequence[Sequence[str]]
"""Translations of a test set, a list of sentences for each seed."""


class _SeedsTogether:
    """Counts several seeds' outputs as one system's, sentence by sentence.

    A hypothesis is a tuple, what each seed made of the sentence. Their n-grams are counted
    together, so that a resampled sentence brings along all of its translations. To resample
    them one by one would take three seeds for three times as many sentences.
    """

    def _extract_corpus_statistics(
        self, hypotheses: Sequence[tuple[str, ...]], references: Sequence[Sequence[str]]
    ) -> list[list[int]]:
        one_seed: Any = super()._extract_corpus_statistics
        counts = [one_seed(lines, references) for lines in zip(*hypotheses, strict=True)]
        return np.sum(counts, axis=0).tolist()  # type: ignore[no-any-return]


class BLEUOfSeeds(_SeedsTogether, BLEU):
    """BLEU of all seeds' outputs as one text."""


class CHRFOfSeeds(_SeedsTogether, CHRF):
    """chrF of all seeds' outputs as one text."""


def paired_bootstrap(
    baseline: Outputs, system: Outputs, references: Sequence[str], signature: str
) -> tuple[dict[str, float], dict[str, str]]:
    """Test the differences in BLEU and chrF by sacreBLEU's paired bootstrap, 1,000 resamples.

    One test spans all seeds: sentences are resampled, each with the outputs of all its seeds, of
    which the baseline has the same as the system. The spread between seeds does not enter: it is
    what standard errors are for. sacreBLEU fixes the resampling seed (``SACREBLEU_SEED``).

    Source: Koehn, *Statistical significance tests for machine translation evaluation*, EMNLP 2004.
    Deviation: the same output gives 1, where sacreBLEU's count gives its smallest value.

    Args:
        baseline: Outputs to compare with.
        system: Outputs of the same seeds, in the same order.
        references: A reference for each sentence.
        signature: sacreBLEU's signature of the BLEU scores, which names the tokenizer.

    Returns:
        The p-values, in (0, 1], and the test's signatures, each by ``"bleu"`` and ``"chrf"``.
        sacreBLEU counts how often a resampled difference, without its sign, exceeds its own mean
        by the difference found. From about 1.5 standard errors on, that is one tail of the
        distribution and half of a two-sided p-value; without a difference it is about 0.43.

    Raises:
        ValueError: If there are no seeds, or numbers of seeds or sentences differ.
    """
    if not system or len(baseline) != len(system):
        raise ValueError(
            "a paired test takes the same seeds of both, at least one; "
            f"got {len(baseline)} and {len(system)}"
        )
    lengths = {len(lines) for lines in (*baseline, *system, references)}
    if len(lengths) > 1:
        raise ValueError(f"outputs and references differ in sentences: {sorted(lengths)}")
    named: Any = [("baseline", _by_sentence(baseline)), ("system", _by_sentence(system))]
    bleu = BLEUOfSeeds(tokenize=_tokenizer(signature), force=True)
    metrics: Any = {"BLEU": bleu, "chrF2": CHRFOfSeeds()}
    signatures, results = PairedTest(named, metrics, [references], "bs", N_RESAMPLES)()
    names = {"bleu": "BLEU", "chrf": "chrF2"}  # what sacreBLEU calls them by their parameters
    same = named[0][1] == named[1][1]
    p_values = {k: 1.0 if same else float(results[v][1].p_value) for k, v in names.items()}
    return p_values, {k: str(signatures[v]) for k, v in names.items()}


def _by_sentence(outputs: Outputs) -> list[tuple[str, ...]]:
    return list(zip(*outputs, strict=True))


def _tokenizer(signature: str) -> str:
    """The tokenizer of a signature, by sacreBLEU's name; versions may follow it there."""
    found = re.search(r"\|tok:([^|]+)", signature)
    named: list[str] = [n for n in BLEU.TOKENIZERS if found and found[1].startswith(n)]
    if not named:
        raise ValueError(f"no tokenizer of sacreBLEU in the signature {signature!r}")
    return max(named, key=len)
