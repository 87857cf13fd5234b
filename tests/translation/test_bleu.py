from __future__ import annotations

import importlib.util
import json
import math

import pytest

from hf_chts.translation.bleu import score

REFERENCES = ["The quick brown fox jumps over the lazy dog.", "Hello there, General Kenobi!"]


def test_perfect_translations() -> None:
    scores = score(REFERENCES, REFERENCES)
    assert scores.bleu.value == pytest.approx(100)
    assert scores.chrf.value == pytest.approx(100)
    assert scores.ter.value == 0
    assert scores.n_sentences == 2


def test_bleu_worked_by_hand() -> None:
    # 6 of 7 tokens, 4 of 6 pairs, 3 of 5 triples, 2 of 4 quadruples; equal lengths, no penalty
    scores = score(["a b c d e x g"], ["a b c d e f g"])
    expected = 100 * math.exp(sum(map(math.log, (6 / 7, 4 / 6, 3 / 5, 2 / 4))) / 4)
    assert scores.bleu.value == pytest.approx(expected)
    assert scores.ter.value == pytest.approx(100 / 7)


def test_case_counts_except_in_the_paper_mode() -> None:
    scores = score([line.lower() for line in REFERENCES], REFERENCES)
    assert scores.bleu.value < 100
    assert scores.paper_bleu.value == pytest.approx(100)
    assert "case:mixed" in scores.bleu.signature
    assert "case:lc" in scores.paper_bleu.signature


def test_signatures_and_json() -> None:
    scores = score(REFERENCES, REFERENCES, "de")
    data = json.loads(json.dumps(scores.as_dict()))
    assert data["bleu"]["value"] == scores.bleu.value
    assert "tok:13a" in data["bleu"]["signature"]
    assert "version:" in data["bleu"]["signature"]
    assert data["chrf"]["signature"].startswith("nrefs:1|case:mixed|eff:yes|nc:6|nw:0")
    assert "tok:tercom" in data["ter"]["signature"]
    assert "BLEU: 100.00 (nrefs:1" in str(scores)


@pytest.mark.parametrize("code", ["zh", "zh_CN", "zho_Hans", "zh-TW"])
def test_chinese_tokenizer(code: str) -> None:
    scores = score(["我喜欢吃苹果和梨。"], ["我喜欢吃苹果和桃。"], code)
    assert "tok:zh" in scores.bleu.signature
    assert 0 < scores.bleu.value < 100


@pytest.mark.skipif(
    importlib.util.find_spec("MeCab") is not None, reason="Japanese tokenizer is installed"
)
def test_missing_japanese_tokenizer() -> None:
    with pytest.raises(ImportError, match=r"pip install 'sacrebleu\[ja\]'"):
        score(["a"], ["a"], "jpn_Jpan")


def test_unequal_lengths() -> None:
    with pytest.raises(ValueError, match="got 1 translations and 2 references"):
        score(["a"], ["a", "b"])


def test_nothing_to_score() -> None:
    with pytest.raises(ValueError, match="nothing to score"):
        score([], [])
