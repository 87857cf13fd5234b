"""Time of translating sentences by beam search: a sparse model beside the same model dense.

Both compute the same function (the dense one is the sparse one made dense), so both write the same
translations and do the same work. A third side is the dense model with the caches of Transformers
alone, without ours for beam search (``hf_chts.translation.beam_cache``). They take turns in one
process; medians are shown, and medians of the ratios of a turn: how many times as fast as
Transformers alone, and as the dense model in ``hf_chts``.

    python scripts/bench_translate.py [--sentences 1000] [--beams 4] [--run RUN_DIR]
                                      [--files SOURCE TARGET] [--ctranslate2] [--json FILE]

Without ``--run`` the model is a 6+6-layer Marian of width 512 with random weights, and every
translation is as long as its source.

``--ctranslate2`` converts the dense model to CTranslate2 and takes turns with it, too, in fp32 and
in int8, on as many threads, with the same tokenizers, batches, beams and longest translations. The
columns BLEU (against the references) and "same" (translations equal to the dense model's) tell how
well they agree. Two things differ: CTranslate2's beam search stops as soon as it has as many
finished translations as beams, that of Transformers when no open one can win; and a translation
that reaches the longest length loses its last token in Transformers, which closes it there.
"""

from __future__ import annotations

import argparse
import copy
import importlib
import importlib.util
import json
import platform
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Int
from sacrebleu.metrics import BLEU
from torch import Tensor, nn
from transformers import MarianConfig, MarianMTModel

import hf_chts
from hf_chts.translation.corpus import sentence_pairs
from hf_chts.translation.data import load_files
from hf_chts.translation.decode import translate
from hf_chts.translation.run import load_model
from hf_chts.translation.tokenizer import TokenizerPair, train_tokenizer

INSTALL = "pip install 'hf-chts[bench]'"


def random_model(sparsity: float) -> tuple[Any, TokenizerPair]:
    """A sparse model that cannot stop early, and a tokenizer of the embedded corpus."""
    text = [sentence for pair in sentence_pairs(4000) for sentence in pair]
    tokenizer = train_tokenizer(text, 4000)
    torch.manual_seed(0)
    config = MarianConfig(
        vocab_size=10_000,
        d_model=512,
        encoder_layers=6,
        decoder_layers=6,
        encoder_attention_heads=8,
        decoder_attention_heads=8,
        encoder_ffn_dim=2048,
        decoder_ffn_dim=2048,
        pad_token_id=0,
        eos_token_id=1,
        decoder_start_token_id=0,
        forced_eos_token_id=None,
    )
    model = MarianMTModel(config)
    hf_chts.sparsify(model, hf_chts.SparsityConfig(method="chts", sparsity=sparsity))
    model.generation_config.max_length = None
    return model.eval(), TokenizerPair(tokenizer, tokenizer)


class TransformersAlone(nn.Module):
    """A model that ``translate`` gives no cache."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model, self.config, self.device = model, model.config, model.device

    def generate(self, **search: Any) -> Any:
        """Token ids of the translations of one batch."""
        return self.model.generate(**search)


class CTranslate2Model(nn.Module):
    """A converted Marian model that ``translate`` takes for one of Transformers.

    Its tokens are named by their ids, so that the tokenizers stay outside.
    """

    device = torch.device("cpu")

    def __init__(self, folder: str, config: MarianConfig, compute_type: str) -> None:
        super().__init__()
        self.config = config
        self.translator = importlib.import_module("ctranslate2").Translator(
            folder, compute_type=compute_type, intra_threads=torch.get_num_threads()
        )

    def generate(
        self,
        input_ids: Int[Tensor, "rows length"],
        attention_mask: Int[Tensor, "rows length"],
        **search: Any,
    ) -> list[list[int]]:
        """Token ids of the translations of one batch."""
        lengths = attention_mask.sum(1).tolist()
        rows = [row[:n] for row, n in zip(input_ids.tolist(), lengths, strict=True)]
        results = self.translator.translate_batch(
            [[str(token) for token in row] for row in rows],
            beam_size=search["num_beams"],
            length_penalty=search["length_penalty"],
            max_decoding_length=search["max_new_tokens"],
        )
        return [[int(token) for token in result.hypotheses[0]] for result in results]


@torch.no_grad()
def convert(model: Any, folder: str) -> None:
    """Write a dense Marian model for CTranslate2.

    Its own converter of Marian models takes for granted that the padding token comes last and that
    decoding starts from a zero vector. Here padding has id 0, and its embedding is trained where it
    is also a row of the output layer; so the model is handed over whole.
    """
    converters = importlib.import_module("ctranslate2.converters.transformers")
    model = copy.deepcopy(model)
    config = model.config
    config.normalize_before = config.normalize_embedding = False
    spec = converters.BartLoader().get_model_spec(model)
    spec.register_source_vocabulary([str(n) for n in range(config.vocab_size)])
    spec.register_target_vocabulary([str(n) for n in range(config.decoder_vocab_size)])
    spec.config.bos_token = spec.config.decoder_start_token = str(config.decoder_start_token_id)
    spec.config.eos_token = str(config.eos_token_id)
    spec.config.unk_token = str(config.pad_token_id)  # it must have one; every id is known
    spec.validate()
    spec.optimize()
    spec.save(folder)


def with_ctranslate2(dense: Any) -> dict[str, Any]:
    """The dense model by CTranslate2, in fp32 and int8; empty, with a line that says why."""
    if importlib.util.find_spec("ctranslate2") is None:
        print(f"CTranslate2 is left out: {INSTALL}")
        return {}
    if not isinstance(dense, MarianMTModel):
        print(f"CTranslate2 is left out: it takes a Marian model, not {type(dense).__name__}")
        return {}
    with tempfile.TemporaryDirectory() as folder:
        convert(dense, folder)
        return {
            f"ctranslate2 {name}": CTranslate2Model(folder, dense.config, compute_type)
            for name, compute_type in (("fp32", "float32"), ("int8", "int8"))
        }


def timed(
    model: Any, tokenizers: TokenizerPair, sentences: list[str], beams: int
) -> tuple[float, list[str]]:
    """Seconds of one translation of all sentences, and the translations."""
    start = time.perf_counter()
    made = translate(model, tokenizers, sentences, beams=beams, progress=False)
    return time.perf_counter() - start, made


def compare(
    models: dict[str, Any], tokenizers: TokenizerPair, pairs: list[tuple[str, str]], args: Any
) -> list[dict[str, Any]]:
    """A row for each model: median seconds, median ratios, and how far they agree."""
    sources, references = [source for source, _ in pairs], [target for _, target in pairs]
    seconds: dict[str, list[float]] = {name: [] for name in models}
    made: dict[str, list[str]] = {}
    for turn in range(args.turns):
        for name, model in models.items():
            spent, made[name] = timed(model, tokenizers, sources, args.beams)
            seconds[name].append(spent)
        times = ", ".join(f"{name} {spent[-1]:.1f} s" for name, spent in seconds.items())
        print(f"turn {turn + 1}: {times}", flush=True)
    rows = []
    for name in models:
        same = [ours == theirs for ours, theirs in zip(made["dense"], made[name], strict=True)]
        row = {"model": name, "seconds": statistics.median(seconds[name])}
        for other in ("transformers", "dense"):
            ratios = [d / s for d, s in zip(seconds[other], seconds[name], strict=True)]
            row[f"times_{other}"] = statistics.median(ratios)
        row["same"] = 100 * statistics.mean(same)
        row["bleu"] = BLEU().corpus_score(made[name], [references]).score
        rows.append(row)
    return rows


def show(rows: list[dict[str, Any]]) -> None:
    """Print the table."""
    print(f"\n{'model':<16}  seconds  x Transformers  x dense   BLEU   same")
    for row in rows:
        print(
            f"{row['model']:<16}  {row['seconds']:>7.2f}  {row['times_transformers']:>14.2f}  "
            f"{row['times_dense']:>7.2f}  {row['bleu']:>5.1f}  {row['same']:>4.0f}%"
        )


def main() -> None:
    """Measure and show."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--sentences", type=int, default=1000)
    parser.add_argument("--beams", type=int, default=4)
    parser.add_argument("--sparsity", type=float, default=0.9)
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--run", type=Path, help="folder of a finished run")
    parser.add_argument("--files", nargs=2, metavar=("SOURCE", "TARGET"), help="sentences, by line")
    parser.add_argument("--ctranslate2", action="store_true", help="CTranslate2 as well")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    sparse, tokenizers = load_model(args.run) if args.run else random_model(args.sparsity)
    dense = hf_chts.densify(copy.deepcopy(sparse))
    pairs = [(pair[0], pair[1]) for pair in sentence_pairs(args.sentences, seed=7)]
    if args.files:
        text = load_files(*args.files)
        pairs = list(zip(text.source, text.target, strict=True))[: args.sentences]
    models = {"transformers": TransformersAlone(dense), "dense": dense, "sparse": sparse}
    if args.ctranslate2:
        models |= with_ctranslate2(dense)
    facts = {
        "sentences": len(pairs),
        "beams": args.beams,
        "threads": torch.get_num_threads(),
        "machine": platform.machine(),
    }
    print("  ".join(f"{name} {value}" for name, value in facts.items()))
    rows = compare(models, tokenizers, pairs, args)
    show(rows)
    if args.json:
        args.json.write_text(json.dumps({**facts, "rows": rows}, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
