"""Whether two methods' translations differ by more than the choice of test sentences explains."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import numpy as np
from sacrebleu.metrics import BLEU
from sacrebleu.significance import PairedTest

N_RESAMPLES = 1000

Outputs = Sequence[Sequence[str]]
"""Translations of a test set, a list of sentences for each seed."""


class SeedsTogether(BLEU):
    """BLEU of several seeds' outputs as one system's, sentence by sentence.

    A hypothesis is a tuple, what each seed made of the sentence. Their n-grams are counted
    together, so that a resampled sentence brings along all of its translations. To resample
    them one by one would take three seeds for three times as many sentences.
    """

    def _extract_corpus_statistics(
        self, hypotheses: Sequence[tuple[str, ...]], references: Sequence[Sequence[str]]
    ) -> list[list[int]]:
        seeds = zip(*hypotheses, strict=True)
        counts = [
            super(SeedsTogether, self)._extract_corpus_statistics(h, references) for h in seeds
        ]
        return np.sum(counts, axis=0).tolist()  # type: ignore[no-any-return]


def paired_bootstrap(
    baseline: Outputs, system: Outputs, references: Sequence[str], signature: str
) -> tuple[float, str]:
    """Test the difference in BLEU by sacreBLEU's paired bootstrap with 1,000 resamples.

    One test spans all seeds: sentences are resampled, each with the outputs of all its seeds, of
    which the baseline has the same as the system. The spread between seeds does not enter: it is
    what standard errors are for. sacreBLEU fixes the resampling seed (``SACREBLEU_SEED``).

    Source: Koehn, *Statistical significance tests for machine translation evaluation*, EMNLP 2004.
    Deviation: the same output gives 1, where sacreBLEU's count gives its smallest value.

    Args:
        baseline: Outputs to compare with.
        system: Outputs of the same seeds, in the same order.
        references: A reference for each sentence.
        signature: sacreBLEU's signature of the scores, which names the tokenizer.

    Returns:
        The two-sided p-value, in (0, 1], and the test's signature.

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
    named = [("baseline", _by_sentence(baseline)), ("system", _by_sentence(system))]
    metric: Any = SeedsTogether(tokenize=_tokenizer(signature), force=True)
    test = PairedTest(named, {"BLEU": metric}, [references], "bs", N_RESAMPLES)
    signatures, results = test()
    same = named[0][1] == named[1][1]
    return 1.0 if same else float(results["BLEU"][1].p_value), str(signatures["BLEU"])


def _by_sentence(outputs: Outputs) -> list[tuple[str, ...]]:
    return list(zip(*outputs, strict=True))


def _tokenizer(signature: str) -> str:
    """The tokenizer of a signature, by sacreBLEU's name; versions may follow it there."""
    found = re.search(r"\|tok:([^|]+)", signature)
    named: list[str] = [n for n in BLEU.TOKENIZERS if found and found[1].startswith(n)]
    if not named:
        raise ValueError(f"no tokenizer of sacreBLEU in the signature {signature!r}")
    return max(named, key=len)
