from __future__ import annotations

import functools
import json
import unicodedata
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import (
    AutoTokenizer,
    M2M100Tokenizer,
    MarianConfig,
    MarianMTModel,
    MarianTokenizer,
    MBartTokenizer,
    NllbTokenizer,
)
from transformers.models.m2m_100.tokenization_m2m_100 import FAIRSEQ_LANGUAGE_CODES

from hf_chts.translation.tokenizer import SPECIALS, TokenizerPair, train_tokenizer

EN = ["a man sits on the bench .", "the dog runs", "two men , one dog", "a bench in the park"] * 3
DE = ["ein Mann sitzt auf der Bank .", "der Hund läuft", "zwei Männer , ein Hund", "eine Bank"] * 3
WORDS = sorted(set(" ".join(EN + DE).split()))
KINDS = ("bpe", "unigram")
M2M100_CODES = FAIRSEQ_LANGUAGE_CODES["m2m100"]


@functools.cache
def joint(kind: str) -> TokenizerPair:
    tokenizer = train_tokenizer(EN + DE, 120, kind)
    return TokenizerPair(tokenizer, tokenizer)


@functools.cache
def separate() -> TokenizerPair:
    return TokenizerPair(train_tokenizer(EN, 60), train_tokenizer(DE, 70))


@pytest.mark.parametrize("kind", KINDS)
def test_specials_and_size(kind: str) -> None:
    tokenizer = joint(kind).source
    assert tokenizer.convert_tokens_to_ids(["<pad>", "</s>", "<unk>"]) == [0, 1, 2]
    assert tokenizer.pad_token_id == 0
    assert len(tokenizer) <= 120
    ids = tokenizer("the dog")["input_ids"]
    assert ids[-1] == 1
    assert 2 not in ids
    assert 2 in tokenizer("Ω")["input_ids"]
    assert set(tokenizer("a")) == {"input_ids", "attention_mask"}


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=60)
@given(words=st.lists(st.sampled_from([*WORDS, "ﬁne", "\uff2dan", "Ma\u0308nner"]), min_size=1))
def test_round_trip(kind: str, words: list[str]) -> None:
    text = " ".join(words)
    pair = joint(kind)
    assert pair.decode(pair.source_ids([text])) == [unicodedata.normalize("NFKC", text)]


RAW = [
    "the dog runs.",
    "two men, one dog.",
    'a "dog" runs...',
    "the man's dog, a well-fed dog.",
] * 9


@pytest.mark.parametrize("kind", KINDS)
def test_a_word_has_the_same_token_before_punctuation_as_elsewhere(kind: str) -> None:
    tokenizer = train_tokenizer(RAW, 80, kind)
    learned = [token for token in tokenizer.get_vocab() if token not in SPECIALS]
    assert any(len(token) > 1 for token in learned)
    for token in learned:
        marks = [not character.isalpha() for character in token.replace("▁", "")]
        assert all(marks) or not any(marks), token
    alone, before_a_stop = (tokenizer(text)["input_ids"] for text in ("a dog", "a dog."))
    assert before_a_stop[: len(alone) - 1] == alone[:-1]
    for text in RAW:
        assert tokenizer.decode(tokenizer(text)["input_ids"], skip_special_tokens=True) == text


@pytest.mark.parametrize("kind", KINDS)
def test_training_is_deterministic(kind: str) -> None:
    first = joint(kind).source.backend_tokenizer.to_str()
    for _ in range(4):
        assert train_tokenizer(EN + DE, 120, kind).backend_tokenizer.to_str() == first


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("n_tokens", [3, 12])
def test_too_small_a_vocabulary(kind: str, n_tokens: int) -> None:
    with pytest.raises(ValueError, match=f"vocab_size={n_tokens} is too small"):
        train_tokenizer(EN, n_tokens, kind)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("sentences", [[], ["", " "]])
def test_no_text(kind: str, sentences: list[str]) -> None:
    with pytest.raises(ValueError, match="at least one sentence"):
        train_tokenizer(iter(sentences), 100, kind)


def test_unknown_kind() -> None:
    with pytest.raises(ValueError, match="kind must be 'bpe' or 'unigram'; got 'word'"):
        train_tokenizer(EN, 100, "word")


def test_text_that_cannot_be_read_is_not_taken_for_a_small_vocabulary() -> None:
    def broken():
        yield "a"
        raise OSError("disk")

    with pytest.raises(Exception, match="disk"):
        train_tokenizer(broken(), 100, "unigram")


@pytest.mark.parametrize("kind", KINDS)
def test_joint_save_and_load(tmp_path: Path, kind: str) -> None:
    pair = joint(kind)
    pair.save(tmp_path)
    loaded = TokenizerPair.load(tmp_path)
    assert loaded.joint
    assert loaded.source_ids(EN) == pair.source_ids(EN)
    assert loaded.target_ids(DE) == pair.target_ids(DE)
    assert AutoTokenizer.from_pretrained(tmp_path)(EN)["input_ids"] == pair.source_ids(EN)


def test_separate_save_and_load_beside_a_model(tmp_path: Path) -> None:
    config = MarianConfig(
        vocab_size=60, d_model=16, encoder_layers=1, decoder_layers=1, pad_token_id=0,
        decoder_start_token_id=0, eos_token_id=1, forced_eos_token_id=1,
    )  # fmt: skip
    MarianMTModel(config).save_pretrained(tmp_path)
    separate().save(tmp_path)
    loaded = TokenizerPair.load(tmp_path)
    assert not loaded.joint
    assert loaded.source_ids(EN) == separate().source_ids(EN) != separate().source_ids(DE)
    assert loaded.target_ids(DE) == separate().target_ids(DE)
    assert loaded.decode(loaded.target_ids(DE)) == DE


def test_cut_keeps_the_closing_token() -> None:
    (ids,) = joint("bpe").source_ids([EN[0] * 5], max_length=7)
    assert len(ids) == 7
    assert ids[-1] == 1


def test_language_codes_where_there_are_none(tmp_path: Path) -> None:
    joint("bpe").save(tmp_path)
    with pytest.raises(ValueError, match="knows no language codes; leave out src_lang='en'"):
        TokenizerPair.load(tmp_path, src_lang="en")


def pieces(path: Path, text: list[str]) -> str:
    """A small sentencepiece model; returns its file."""
    import sentencepiece

    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(text),
        model_prefix=str(path),
        vocab_size=60,
        hard_vocab_limit=False,
        minloglevel=2,
    )
    return f"{path}.model"


def vocabulary(path: Path, *models: str) -> str:
    import sentencepiece

    names = ["<s>", "<pad>", "</s>", "<unk>"]
    for model in models:
        processor = sentencepiece.SentencePieceProcessor(model_file=model)
        names += [processor.id_to_piece(i) for i in range(3, processor.get_piece_size())]
    path.write_text(json.dumps({name: i for i, name in enumerate(dict.fromkeys(names))}))
    return str(path)


@pytest.mark.filterwarnings("ignore:Recommended. pip install sacremoses")
def test_marian_with_two_sentencepiece_models(tmp_path: Path) -> None:
    pytest.importorskip("sentencepiece")
    en, de = pieces(tmp_path / "en", EN), pieces(tmp_path / "de", DE)
    MarianTokenizer(en, de, vocabulary(tmp_path / "v.json", en, de)).save_pretrained(
        tmp_path / "opus"
    )
    pair = TokenizerPair.load(tmp_path / "opus")
    assert pair.forced_bos_token_id is None
    assert pair.target_ids(DE) != pair.source_ids(DE)
    assert pair.decode(pair.target_ids(DE)) == DE
    assert pair.source_ids(EN[:1])[0][-1] == pair.source.eos_token_id


def multilingual(tmp_path: Path, family: str) -> tuple[str, str]:
    """A tiny multilingual tokenizer in a directory; its two language codes."""
    if family == "m2m100":
        spm = pieces(tmp_path / "all", EN + DE)
        vocab, codes = vocabulary(tmp_path / "v.json", spm), [f"__{c}__" for c in M2M100_CODES]
        M2M100Tokenizer(vocab, spm, additional_special_tokens=codes).save_pretrained(tmp_path / "t")
        return "en", "de"
    letters = sorted(set("▁" + "".join(EN + DE)) - {" "})
    if family == "nllb":
        specials = ["<s>", "<pad>", "</s>", "<unk>"]
        vocab = {token: i for i, token in enumerate([*specials, *letters])}
        NllbTokenizer(vocab=vocab, merges=[]).save_pretrained(tmp_path / "t")
        return "eng_Latn", "deu_Latn"
    specials = ["<s>", "<pad>", "</s>", "<unk>"]
    scores = [(token, 0.0) for token in specials] + [(letter, -2.0) for letter in letters]
    MBartTokenizer(vocab=scores).save_pretrained(tmp_path / "t")
    return "en_XX", "de_DE"


@pytest.mark.parametrize("family", ["nllb", "m2m100", "mbart"])
def test_multilingual(tmp_path: Path, family: str) -> None:
    pytest.importorskip("sentencepiece")
    english, german = multilingual(tmp_path, family)
    pair = TokenizerPair.load(tmp_path / "t", src_lang=english, tgt_lang=german)
    tokenizer = pair.source
    token = f"__{german}__" if family == "m2m100" else german
    assert pair.forced_bos_token_id == tokenizer.convert_tokens_to_ids(token)
    assert pair.forced_bos_token_id != tokenizer.unk_token_id
    assert pair.forced_bos_token_id in pair.target_ids(DE)[0]
    assert pair.forced_bos_token_id not in pair.source_ids(DE)[0]
    assert pair.decode(pair.target_ids(DE)) == DE
    with pytest.raises(ValueError, match=r"tgt_lang must be a language code of .*; got 'xx'"):
        TokenizerPair.load(tmp_path / "t", src_lang=english, tgt_lang="xx")
    with pytest.raises(ValueError, match=r"src_lang must be a language code of .*; got None"):
        TokenizerPair.load(tmp_path / "t", tgt_lang=german)
