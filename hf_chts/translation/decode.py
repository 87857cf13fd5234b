"""Translation of plain sentences by beam search."""

from __future__ import annotations

import contextlib
import sys
import warnings
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from rich.console import Console
from rich.progress import Progress

from hf_chts.engine.ranks import gather_over_ranks, own_rank, world_size
from hf_chts.translation.batches import pack, pad
from hf_chts.translation.beam_cache import CACHE_ARGUMENT, BeamCache
from hf_chts.translation.positions import positions
from hf_chts.translation.sections import EvaluationSection
from hf_chts.translation.tokenizer import TokenizerPair


def translate(
    model: Any,
    tokenizers: TokenizerPair,
    sentences: Sequence[str],
    *,
    beams: int = 4,
    length_penalty: float = 1.0,
    max_tokens: int = 4096,
    max_length: int | None = None,
    progress: bool = True,
    shared: bool = False,
) -> list[str]:
    """Translate sentences where the model is, in batches of similar length, in order.

    A batch may grow to 1.5 times its longest source plus 10 tokens, and never beyond the model's
    positions. Beam search goes on until no open hypothesis can win; nothing is sampled. The model
    is left in the mode (training or not) it came in.

    Args:
        model: Any encoder-decoder model with ``generate``.
        tokenizers: Its tokenizers.
        sentences: Source sentences; a blank one becomes an empty line without a call of the model.
        beams: Beam width, at least 1 (greedy).
        length_penalty: Exponent of the length that divides a hypothesis' log-probability.
        max_tokens: Most padded source tokens in a batch.
        max_length: Cut sources to so many tokens, with one warning that tells how many were cut;
            None: as many as the model has positions, and no more than ``max_tokens``.
        progress: Show a progress bar when standard error is a terminal.
        shared: Share batches out over the processes that train together: all of them call this,
            and get all translations, the same as one process makes.

    Returns:
        One translation a sentence, each on one line.

    Raises:
        ValueError: If ``beams``, ``max_tokens`` or ``max_length`` is below 1.
    """
    if max_length is None:
        max_length = min(positions(model.config) or max_tokens, max_tokens)
    for name, value in (("beams", beams), ("max_tokens", max_tokens), ("max_length", max_length)):
        if value < 1:
            raise ValueError(f"{name} must be at least 1; got {value}")
    ids = _source_ids(tokenizers, sentences, max_length)
    order = sorted(ids, key=lambda line: len(ids[line]))
    search: dict[str, Any] = {"num_beams": beams, "length_penalty": length_penalty}
    if beams > 1:
        search["early_stopping"] = False
    if tokenizers.forced_bos_token_id is not None:
        search["forced_bos_token_id"] = tokenizers.forced_bos_token_id
    batches = pack([len(ids[line]) for line in order], max_tokens)
    if shared:
        batches = batches[own_rank() :: world_size()]
    made: dict[int, str] = {}
    with _evaluating(model), torch.inference_mode(), _bar(progress) as bar:
        task = bar.add_task("translating", total=sum(len(order[batch]) for batch in batches))
        for batch in batches:
            rows = [ids[line] for line in order[batch]]
            outputs = _generate(model, rows, tokenizers.source.pad_token_id, search)
            made.update(zip(order[batch], map(_one_line, tokenizers.decode(outputs)), strict=True))
            bar.advance(task, len(rows))
    for other in gather_over_ranks(made) if shared else ():
        made.update(other)
    return [made.get(line, "") for line in range(len(sentences))]


def _generate(model: Any, rows: list[list[int]], pad_id: int, search: dict[str, Any]) -> Any:
    """Token ids of the translations of one batch."""
    inputs, mask = pad(rows, pad_id), pad([[1] * len(row) for row in rows], 0)
    limit = int(1.5 * inputs.shape[1]) + 10
    most = positions(model.config)
    limit = limit if most is None else min(limit, most - 1)
    search = {**search, **_suppressed(getattr(model, "generation_config", None))}
    if search["num_beams"] > 1 and _takes_beam_cache(model):
        search[CACHE_ARGUMENT] = BeamCache(limit + 1, search["num_beams"])
    return model.generate(
        input_ids=inputs.to(model.device),
        attention_mask=mask.to(model.device),
        do_sample=False,
        max_new_tokens=limit,
        max_length=None,  # a model's own limit stands back
        **search,
    )


def _one_line(text: str) -> str:
    """A translation for a file of lines, whatever ends of lines a model has learnt to write."""
    return text.replace("\n", " ").replace("\r", " ")


def _suppressed(settings: Any) -> dict[str, Any]:
    """Single tokens that are never made, such as Marian's padding, by the faster of two ways.

    As words that are not wanted, they would be looked for at every token anew.
    """
    words = getattr(settings, "bad_words_ids", None) or []
    if not words or any(len(word) > 1 for word in words):
        return {}
    ends = settings.eos_token_id
    ends = ends if isinstance(ends, list) else [ends]  # not taken for words that are not wanted
    tokens = {token for (token,) in words if token not in ends} | {
        *(settings.suppress_tokens or [])
    }
    return {"bad_words_ids": None, "suppress_tokens": sorted(tokens)}


def _takes_beam_cache(model: Any) -> bool:
    """Whether Transformers would give this model a cache of the kind that ours stands in for."""
    usual = getattr(model, "_supports_default_dynamic_cache", None)
    return usual is not None and usual() and not hasattr(model, "_reorder_cache")


def translate_by(
    model: Any, tokenizers: TokenizerPair, sentences: list[str], evaluation: EvaluationSection
) -> list[str]:
    """Translate with a recipe's decoding settings, on all processes that train together."""
    return translate(
        model,
        tokenizers,
        sentences,
        beams=evaluation.beams,
        length_penalty=evaluation.length_penalty,
        max_tokens=evaluation.batch_tokens,
        shared=True,
    )


def _source_ids(
    tokenizers: TokenizerPair, sentences: Sequence[str], max_length: int
) -> dict[int, list[int]]:
    """Token ids of the sentences that are not blank, by line, cut to ``max_length``."""
    lines = [line for line, text in enumerate(sentences) if text.strip()]
    if not lines:
        return {}
    ids = dict(zip(lines, tokenizers.source_ids([sentences[n] for n in lines]), strict=True))
    long = [line for line in lines if len(ids[line]) > max_length]
    if long:
        warnings.warn(
            f"{len(long)} of {len(sentences)} sentences have more than {max_length} tokens and "
            f"were cut (the first is line {long[0] + 1})",
            stacklevel=3,
        )
        cut = tokenizers.source_ids([sentences[n] for n in long], max_length)
        ids.update(zip(long, cut, strict=True))
    return ids


@contextlib.contextmanager
def _evaluating(model: Any) -> Iterator[None]:
    """The model in evaluation mode for a while."""
    training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(training)


def _bar(wanted: bool) -> Progress:
    """A progress bar on standard error that stays silent unless that is a terminal."""
    return Progress(
        console=Console(stderr=True), transient=True, disable=not (wanted and sys.stderr.isatty())
    )
