"""Tokenizers of translation: trained here, or those of a pretrained model."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from tokenizers import (
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)
from transformers import AutoTokenizer, PreTrainedTokenizerFast

SPECIALS = ("<pad>", "</s>", "<unk>")
TARGET_FOLDER = "target_tokenizer"
UNHEARD_OF = "\u2603 \U0001f996"
"""Characters that no vocabulary is likely to have."""


@dataclass(frozen=True)
class TokenizerPair:
    """The tokenizers of the two sides; a joint tokenizer stands on both.

    Attributes:
        source: Tokenizer of the source side.
        target: Tokenizer of the target side; the same object as ``source`` when joint.
        forced_bos_token_id: Token that every translation must begin with: the target language's
            code of NLLB, M2M100 and mBART; None for other models.
    """

    source: Any
    target: Any
    forced_bos_token_id: int | None = None

    @property
    def joint(self) -> bool:
        """Whether both sides share one tokenizer."""
        return self.source is self.target

    def source_ids(self, texts: Sequence[str], max_length: int | None = None) -> list[list[int]]:
        """Token ids of source sentences, special tokens included.

        Args:
            texts: The sentences.
            max_length: Cut longer ones to so many tokens, the closing ones kept; None: keep all.
        """
        cut = {"truncation": True, "max_length": max_length} if max_length is not None else {}
        ids: list[list[int]] = self.source(
            text=list(texts), return_attention_mask=False, verbose=False, **cut
        )["input_ids"]
        return ids

    def target_ids(self, texts: Sequence[str]) -> list[list[int]]:
        """Token ids of target sentences, special tokens included."""
        ids: list[list[int]] = self.target(
            text_target=list(texts), return_attention_mask=False, verbose=False
        )["input_ids"]
        return ids

    def decode(self, ids: Any) -> list[str]:
        """Target sentences of token ids, without special tokens."""
        texts: list[str] = self.target.batch_decode(
            ids, skip_special_tokens=True, clean_up_tokenization_spaces=False
        )
        return texts

    def save(self, directory: str | Path) -> None:
        """Write the tokenizers; ``AutoTokenizer`` reads the directory as the source tokenizer.

        Args:
            directory: Gets the source tokenizer's files, and a separate target tokenizer's in the
                folder ``target_tokenizer``.
        """
        self.source.save_pretrained(directory)
        if not self.joint:
            self.target.save_pretrained(Path(directory) / TARGET_FOLDER)

    @classmethod
    def load(
        cls, name_or_path: str | Path, src_lang: str | None = None, tgt_lang: str | None = None
    ) -> TokenizerPair:
        """Read tokenizers that :meth:`save` wrote, or those of any pretrained model.

        Args:
            name_or_path: Directory, or model id of the hub.
            src_lang: Code of the source language in the tokenizer's own spelling, such as
                ``"eng_Latn"`` (NLLB), ``"en_XX"`` (mBART) or ``"en"`` (M2M100). These tokenizers
                need both codes; others take none.
            tgt_lang: Code of the target language, likewise.

        Raises:
            ValueError: If codes are missing, unknown, or given to a tokenizer that has none.
        """
        source = _read(name_or_path)
        folder = Path(name_or_path) / TARGET_FOLDER
        target = _read(folder) if folder.is_dir() else source
        if not isinstance(getattr(type(source), "src_lang", None), property):
            if src_lang is not None or tgt_lang is not None:
                raise ValueError(
                    f"the tokenizer of {name_or_path} ({type(source).__name__}) knows no language "
                    f"codes; leave out src_lang={src_lang!r} and tgt_lang={tgt_lang!r}"
                )
            return cls(source, target)
        forced_bos_token_id = _language_id(source, "tgt_lang", tgt_lang)
        _language_id(source, "src_lang", src_lang)
        source.tgt_lang, source.src_lang = tgt_lang, src_lang
        return cls(source, source, forced_bos_token_id)


def _read(name_or_path: str | Path) -> Any:
    """A tokenizer; what it brings of its own code is never run."""
    folder = Path(name_or_path)
    if folder.is_dir() and not any(folder.glob("*token*")) and not any(folder.glob("*vocab*")):
        raise ValueError(
            f"{folder} has no tokenizer: give the folder of a run or of a model that was saved "
            "with its tokenizer; checkpoints have none"
        )
    try:
        tokenizer = AutoTokenizer.from_pretrained(name_or_path, trust_remote_code=False)
        tokenizer(UNHEARD_OF, verbose=False)  # a missing <unk> shows only where it is needed
        return tokenizer
    except (ValueError, OSError, KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:  # panics of the Rust reader are no Exception
        raise ValueError(f"the tokenizer of {name_or_path} cannot be read: {error}") from error


def _language_id(tokenizer: Any, name: str, code: str | None) -> int:
    """Token id of a language code of a multilingual tokenizer.

    Raises:
        ValueError: If the code is missing or not one of the tokenizer's.
    """
    languages: dict[str, int] = getattr(tokenizer, "lang_code_to_id", None) or {
        token: tokenizer.convert_tokens_to_ids(token)
        for token in map(str, tokenizer.extra_special_tokens)
    }
    if code not in languages:
        raise ValueError(
            f"{name} must be a language code of {type(tokenizer).__name__}; got {code!r}, "
            f"known: {', '.join(sorted(languages))}"
        )
    return languages[code]


def train_tokenizer(
    sentences: Iterable[str], vocab_size: int, kind: Literal["bpe", "unigram"] = "bpe"
) -> Any:
    """Train a subword tokenizer: NFKC, spaces kept as ``▁``, every sentence closed by ``</s>``.

    No token holds both punctuation and letters: otherwise a word would have another token before a
    full stop than elsewhere, and raw text would fill a tenth of a small vocabulary with those.
    For a joint tokenizer pass the sentences of both sides. ``<pad>``, ``</s>`` and ``<unk>`` have
    ids 0, 1 and 2. The same sentences in the same order give the same tokenizer.

    Args:
        sentences: Training text.
        vocab_size: Most tokens it may have, special ones included; little text yields fewer.
        kind: ``"bpe"`` (byte-pair merges of characters) or ``"unigram"``.

    Returns:
        A ``PreTrainedTokenizerFast``.

    Raises:
        ValueError: If ``kind`` is unknown, there is no text, or ``vocab_size`` is too small for
            the characters of the text and the special tokens.

    Source: Sennrich et al., "Neural Machine Translation of Rare Words with Subword Units", ACL
        2016 (bpe); Kudo, "Subword Regularization", ACL 2018 (unigram).
    """
    tokenizer, trainer = _untrained(kind, vocab_size)
    n_characters = 0

    def counted() -> Iterable[str]:
        nonlocal n_characters
        for sentence in sentences:
            n_characters += len(sentence.strip())
            yield sentence

    try:
        tokenizer.train_from_iterator(counted(), trainer)
        needed = tokenizer.get_vocab_size()
    except Exception as error:  # the only class that the unigram trainer raises
        if "vocabulary is not large enough" not in str(error):
            raise
        needed = vocab_size + 1
    if n_characters == 0:
        raise ValueError("training a tokenizer takes at least one sentence with text; got none")
    if needed > vocab_size:
        raise ValueError(
            f"vocab_size={vocab_size} is too small: the characters of the text and "
            f"{len(SPECIALS)} special tokens need more; take a larger one"
        )
    if kind == "unigram":
        tokenizer = _settled(tokenizer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="$A </s>", special_tokens=[("</s>", SPECIALS.index("</s>"))]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<pad>",
        eos_token="</s>",
        unk_token="<unk>",
        model_input_names=["input_ids", "attention_mask"],
    )


def _untrained(kind: str, vocab_size: int) -> tuple[Any, Any]:
    """A tokenizer without vocabulary and its trainer."""
    specials = list(SPECIALS)
    tokenizer: Any
    trainer: Any
    if kind == "bpe":
        tokenizer = Tokenizer(models.BPE(unk_token="<unk>"))
        trainer = trainers.BpeTrainer(
            vocab_size=vocab_size, special_tokens=specials, show_progress=False
        )
    elif kind == "unigram":
        tokenizer = Tokenizer(models.Unigram())
        trainer = trainers.UnigramTrainer(
            vocab_size=vocab_size, special_tokens=specials, unk_token="<unk>", show_progress=False
        )
    else:
        raise ValueError(f"kind must be 'bpe' or 'unigram'; got {kind!r}")
    tokenizer.normalizer = normalizers.NFKC()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Metaspace(), pre_tokenizers.Punctuation("contiguous")]
    )
    tokenizer.decoder = decoders.Metaspace()
    return tokenizer, trainer


def _settled(tokenizer: Any) -> Any:
    """The same unigram tokenizer with ties in one order.

    The trainer leaves rounding noise in the scores, and hands the characters that it lost and
    must put back scores of ``lowest + k * 1e-4`` in the order of a hash table: the same text would
    give other ids at each training.
    """
    state = json.loads(tokenizer.to_str())
    vocab = state["model"]["vocab"]
    specials, pieces = vocab[: len(SPECIALS)], vocab[len(SPECIALS) :]
    lowest = min(score for _, score in pieces)

    def settle(piece: str, score: float) -> float:
        k = (score - lowest) / 1e-4
        return round(lowest if len(piece) == 1 and abs(k - round(k)) < 1e-6 else score, 6)

    settled = [[piece, settle(piece, score)] for piece, score in pieces]
    state["model"]["vocab"] = specials + sorted(settled, key=lambda entry: (-entry[1], entry[0]))
    return Tokenizer.from_str(json.dumps(state))
