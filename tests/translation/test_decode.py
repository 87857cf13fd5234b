from __future__ import annotations

import functools
import io
import sys
import warnings
from pathlib import Path

import pytest
import torch
from transformers import (
    M2M100Config,
    M2M100ForConditionalGeneration,
    MarianConfig,
    MarianMTModel,
    T5Config,
    T5ForConditionalGeneration,
)

from hf_chts.translation.bleu import score
from hf_chts.translation.data import load_files
from hf_chts.translation.decode import translate, translate_by
from hf_chts.translation.sections import EvaluationSection
from hf_chts.translation.tokenizer import TokenizerPair, train_tokenizer

MULTI30K = Path(__file__).resolve().parents[3] / "shared" / "data" / "multi30k"
SENTENCES = ["the dog runs", "", "a man", "the man sits on a bench in the park", " \t", "a dog"]
SMALL = {
    "d_model": 16,
    "encoder_layers": 1,
    "decoder_layers": 1,
    "encoder_attention_heads": 2,
    "decoder_attention_heads": 2,
    "encoder_ffn_dim": 16,
    "decoder_ffn_dim": 16,
    "pad_token_id": 0,
    "eos_token_id": 1,
    "decoder_start_token_id": 0,
}


@functools.cache
def tokenizers() -> TokenizerPair:
    tokenizer = train_tokenizer(SENTENCES * 3, 60)
    return TokenizerPair(tokenizer, tokenizer)


def marian(positions: int = 64) -> MarianMTModel:
    torch.manual_seed(0)
    size = len(tokenizers().source)
    config = MarianConfig(
        vocab_size=size,
        max_position_embeddings=positions,
        forced_eos_token_id=None,
        init_std=1.0,
        **SMALL,
    )
    return MarianMTModel(config)


def spy(monkeypatch, model) -> list[dict]:
    """Arguments of every call of ``generate``; the calls go through."""
    calls, generate = [], model.generate
    monkeypatch.setattr(model, "generate", lambda **k: calls.append(k) or generate(**k))
    return calls


@pytest.mark.parametrize("beams", [1, 3])
def test_order_is_kept_and_blank_lines_stay_empty(monkeypatch, beams: int) -> None:
    model = marian().train()
    calls = spy(monkeypatch, model)
    out = translate(model, tokenizers(), SENTENCES, beams=beams, max_tokens=10_000)
    assert len(out) == len(SENTENCES)
    assert out[1] == out[4] == ""
    assert len(calls) == 1
    assert calls[0]["input_ids"].shape[0] == 4
    assert model.training
    for line in (0, 2, 3, 5):
        ids = torch.tensor(tokenizers().source_ids([SENTENCES[line]]))
        longest = calls[0]["max_new_tokens"]
        model.eval()
        alone = model.generate(input_ids=ids, num_beams=beams, max_new_tokens=longest)
        assert out[line] == tokenizers().decode(alone)[0] != ""


@pytest.mark.parametrize("seed", range(3))
def test_a_translation_is_one_line(seed) -> None:
    """Pairs of .jsonl and of data sets may hold line ends, and models learn to write them."""
    tokenizer = train_tokenizer(["a\n\r"] * 3, 20)
    torch.manual_seed(seed)
    config = MarianConfig(vocab_size=len(tokenizer), init_std=1.0, **SMALL)
    model = MarianMTModel(config).eval()
    pair = TokenizerPair(tokenizer, tokenizer)
    ids = torch.tensor(pair.source_ids(["\n a"]))
    limit = int(1.5 * ids.shape[1]) + 10
    raw = pair.decode(model.generate(input_ids=ids, num_beams=1, max_new_tokens=limit))[0]
    assert {"\n", "\r"} & set(raw)
    made = translate(model, pair, ["\n a"], beams=1)[0]
    assert made == raw.replace("\n", " ").replace("\r", " ")


def test_a_recipe_says_how_to_search(monkeypatch) -> None:
    model = marian().eval()
    calls = spy(monkeypatch, model)
    wanted = EvaluationSection(beams=3, length_penalty=0.4, batch_tokens=20)
    translate_by(model, tokenizers(), SENTENCES * 2, wanted)
    translate_by(model, tokenizers(), SENTENCES[:1], EvaluationSection(beams=1))
    *beams, greedy = calls
    assert len(beams) > 1
    for call in beams:
        assert (call["num_beams"], call["length_penalty"]) == (3, 0.4)
        assert call["early_stopping"] is False  # until no open hypothesis can win
        assert call["input_ids"].numel() <= 20
    assert greedy["num_beams"] == 1


def test_token_budget_and_length_limit(monkeypatch) -> None:
    model = marian().eval()
    calls = spy(monkeypatch, model)
    translate(model, tokenizers(), SENTENCES * 4, beams=1, max_tokens=40)
    assert len(calls) > 1
    lengths = [call["input_ids"].shape[1] for call in calls]
    assert lengths == sorted(lengths)
    for call in calls:
        assert call["input_ids"].numel() <= 40
        assert call["max_new_tokens"] == int(1.5 * call["input_ids"].shape[1]) + 10
        assert call["attention_mask"].sum(1).max() == call["input_ids"].shape[1]
    assert not model.training


def test_never_beyond_the_positions_and_one_warning(monkeypatch) -> None:
    model = marian(positions=8)
    calls = spy(monkeypatch, model)
    with pytest.warns(UserWarning, match=r"2 of 3 sentences .* more than 8 tokens .*line 1\)") as w:
        out = translate(model, tokenizers(), [SENTENCES[3], "a man", SENTENCES[3]], beams=2)
    assert len(w) == 1
    assert out[0] == out[2]
    assert max(call["input_ids"].shape[1] for call in calls) == 8
    assert all(call["max_new_tokens"] <= 7 for call in calls)
    long = calls[-1]["input_ids"][-1].tolist()
    assert long == tokenizers().source_ids([SENTENCES[3]], max_length=8)[0]
    assert long[-1] == 1


def test_nothing_to_translate() -> None:
    assert translate(marian(), tokenizers(), []) == []
    assert translate(marian(), tokenizers(), ["", " "]) == ["", ""]


def test_mode_is_restored_after_an_error(monkeypatch) -> None:
    model = marian().train()

    def fail(**kwargs: object) -> None:
        assert not model.training
        raise RuntimeError("out of memory")

    monkeypatch.setattr(model, "generate", fail)
    with pytest.raises(RuntimeError, match="out of memory"):
        translate(model, tokenizers(), ["a man"])
    assert model.training


@pytest.mark.parametrize("name", ["beams", "max_tokens", "max_length"])
def test_bad_numbers(name: str) -> None:
    with pytest.raises(ValueError, match=f"{name} must be at least 1; got 0"):
        translate(marian(), tokenizers(), ["a man"], **{name: 0})


def test_forced_language_code() -> None:
    torch.manual_seed(0)
    size = len(tokenizers().source)
    model = M2M100ForConditionalGeneration(M2M100Config(vocab_size=size, **SMALL))
    code = size - 1
    tokenizer = tokenizers().source
    pair = TokenizerPair(tokenizer, tokenizer, forced_bos_token_id=code)
    (out,) = translate(model, pair, ["a man"], beams=2)
    first = tokenizer.convert_ids_to_tokens(code).replace("▁", "")
    assert out.startswith(first)


@pytest.mark.parametrize("words", [[[7], [9]], [[7], [1]], [[7], [9, 7]]])
def test_words_that_are_not_wanted(monkeypatch, words) -> None:
    """Single ones are suppressed, but for the end of a sentence; longer ones stay words."""
    model = marian().eval()
    settings = model.generation_config
    settings.eos_token_id = 1
    ids = torch.tensor(tokenizers().source_ids([SENTENCES[0]]))
    usual = model.generate(input_ids=ids, num_beams=2, max_new_tokens=20)
    first, second, *_ = dict.fromkeys(token for token in usual[0].tolist() if token > 3)
    settings.bad_words_ids = [[{7: first, 9: second}.get(n, n) for n in word] for word in words]
    calls = spy(monkeypatch, model)
    (found,) = translate(model, tokenizers(), SENTENCES[:1], beams=2)
    longest, suppressed = calls[0]["max_new_tokens"], calls[0].get("suppress_tokens")
    assert suppressed == {9: sorted([first, second]), 1: [first]}.get(words[1][-1])
    expected = model.generate(input_ids=ids, num_beams=2, max_new_tokens=longest)
    assert found == tokenizers().decode(expected)[0] != tokenizers().decode(usual)[0]
    assert first not in expected[0]


def test_model_without_position_limit() -> None:
    config = T5Config(
        vocab_size=60, d_model=16, d_kv=8, d_ff=16, num_layers=1, num_heads=2,
        decoder_start_token_id=0, pad_token_id=0, eos_token_id=1,
    )  # fmt: skip
    torch.manual_seed(0)
    model = T5ForConditionalGeneration(config)
    assert len(translate(model, tokenizers(), ["a man"] * 3, max_tokens=20)) == 3


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(("terminal", "progress"), [(True, True), (True, False), (False, True)])
def test_progress_bar_on_terminals_only(monkeypatch, terminal: bool, progress: bool) -> None:
    stream = Terminal() if terminal else io.StringIO()
    monkeypatch.setattr(sys, "stderr", stream)
    translate(marian(), tokenizers(), ["a man"], beams=1, progress=progress)
    assert ("translating" in stream.getvalue()) == (terminal and progress)


def test_quiet(caplog) -> None:
    model = marian()
    model.generation_config.max_length = 20
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        translate(model, tokenizers(), SENTENCES, beams=2)
        translate(model, tokenizers(), SENTENCES, beams=1)
    assert caplog.records == []


@pytest.mark.skipif(not MULTI30K.is_dir(), reason="no shared/data/multi30k beside the project")
def test_multi30k_end_to_end() -> None:
    text = load_files(MULTI30K / "val.en.gz", MULTI30K / "val.de.gz")
    tokenizer = train_tokenizer(text.source + text.target, 500)
    torch.manual_seed(0)
    model = MarianMTModel(MarianConfig(vocab_size=500, max_position_embeddings=128, **SMALL))
    out = translate(model, TokenizerPair(tokenizer, tokenizer), text.source[:20], beams=2)
    assert len(out) == 20
    assert 0 <= score(out, text.target[:20], "de").bleu.value < 5
