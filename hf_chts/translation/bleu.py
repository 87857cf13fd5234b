"""Scores of translations, by sacreBLEU, each with its signature."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from sacrebleu.metrics import BLEU, CHRF, TER

_TWO_LETTERS = {"zho": "zh", "jpn": "ja", "kor": "ko"}


@dataclass(frozen=True)
class Score:
    """One number of a metric, never without the signature that says how it was made.

    Attributes:
        value: The score; BLEU and chrF lie in [0, 100] (higher is better), TER in [0, inf)
            (edits per 100 reference words, lower is better).
        signature: sacreBLEU's signature.
    """

    value: float
    signature: str


@dataclass(frozen=True)
class Scores:
    """Scores of one test set.

    Attributes:
        bleu: Corpus BLEU of detokenised, cased output against raw references.
        chrf: chrF2.
        ter: Translation edit rate.
        paper_bleu: BLEU with both sides lower-cased before sacreBLEU tokenises them: the mode of
            papers that score tokenised, lower-cased output. For comparison with such papers only.
        n_sentences: Number of sentences.
    """

    bleu: Score
    chrf: Score
    ter: Score
    paper_bleu: Score
    n_sentences: int

    def as_dict(self) -> dict[str, Any]:
        """The scores as plain JSON data."""
        return asdict(self)

    def __str__(self) -> str:
        rows = [("BLEU", self.bleu), ("chrF", self.chrf), ("TER", self.ter)]
        rows.append(("BLEU lower-cased", self.paper_bleu))
        return "\n".join(f"{name}: {s.value:.2f} ({s.signature})" for name, s in rows)


def score(
    hypotheses: Sequence[str], references: Sequence[str], target_lang: str | None = None
) -> Scores:
    """Score translations against one reference each.

    BLEU uses sacreBLEU's 13a tokenizer, or its own one for Chinese, Japanese and Korean (the last
    two need the extras ``sacrebleu[ja]`` and ``sacrebleu[ko]``). The paper mode is the same but
    lower-cased.

    Args:
        hypotheses: Detokenised translations.
        references: Raw references, in the same order.
        target_lang: Language code; only its language part is read: ``"de"``, ``"zh_CN"`` and
            ``"zho_Hans"`` all serve. None: 13a.

    Raises:
        ValueError: If the lengths differ or there is nothing to score.
        ImportError: If the language's tokenizer is not installed.
    """
    if len(hypotheses) != len(references):
        raise ValueError(
            f"every translation takes one reference; got {len(hypotheses)} translations and "
            f"{len(references)} references"
        )
    if not hypotheses:
        raise ValueError("nothing to score: there is no translation")
    bleu, paper_bleu = scorers(target_lang)

    def run(metric: Any) -> Score:
        value = metric.corpus_score(list(hypotheses), [list(references)]).score
        return Score(float(value), str(metric.get_signature()))

    return Scores(run(bleu), run(CHRF()), run(TER()), run(paper_bleu), len(hypotheses))


def scorers(target_lang: str | None) -> tuple[BLEU, BLEU]:
    """BLEU as it is and lower-cased, by the language's tokenizer; see :func:`score`.

    Raises:
        ImportError: If the language's tokenizer is not installed.
    """
    language = (target_lang or "").replace("-", "_").split("_")[0].lower()
    language = _TWO_LETTERS.get(language, language)
    try:
        return BLEU(trg_lang=language), BLEU(trg_lang=language, lowercase=True)
    except (ImportError, RuntimeError) as error:
        raise ImportError(
            f"scoring {target_lang!r} takes sacreBLEU's tokenizer for it: "
            f"pip install 'sacrebleu[{language}]'"
        ) from error
