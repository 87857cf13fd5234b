"""Time of translating sentences by beam search: a sparse model beside the same model dense.

Both compute the same function (the dense one is the sparse one made dense), so both write the same
translations and do the same work. They take turns in one process; medians are shown.

    python scripts/bench_translate.py [--sentences 1000] [--beams 4] [--run RUN_DIR] [--json FILE]

Without ``--run`` the model is a 6+6-layer Marian of width 512 with random weights, and every
translation is as long as its source.
"""

from __future__ import annotations

import argparse
import copy
import json
import platform
import statistics
import time
from pathlib import Path
from typing import Any

import torch
from transformers import MarianConfig, MarianMTModel

import hf_chts
from hf_chts.translation.corpus import sentence_pairs
from hf_chts.translation.decode import translate
from hf_chts.translation.run import load_model
from hf_chts.translation.tokenizer import TokenizerPair, train_tokenizer


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


def seconds(model: Any, tokenizers: TokenizerPair, sentences: list[str], beams: int) -> float:
    """Seconds of one translation of all sentences."""
    start = time.perf_counter()
    translate(model, tokenizers, sentences, beams=beams, progress=False)
    return time.perf_counter() - start


def main() -> None:
    """Measure and show."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--sentences", type=int, default=1000)
    parser.add_argument("--beams", type=int, default=4)
    parser.add_argument("--sparsity", type=float, default=0.9)
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--run", type=Path, help="folder of a finished run")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    sparse, tokenizers = load_model(args.run) if args.run else random_model(args.sparsity)
    dense = hf_chts.densify(copy.deepcopy(sparse))
    sentences = [pair[0] for pair in sentence_pairs(args.sentences, seed=7)]
    pairs = []
    for turn in range(args.turns):
        timed = [seconds(m, tokenizers, sentences, args.beams) for m in (dense, sparse)]
        pairs.append(timed)
        print(f"turn {turn + 1}: dense {timed[0]:.1f} s, sparse {timed[1]:.1f} s")
    row = {
        "sentences": args.sentences,
        "beams": args.beams,
        "dense_seconds": statistics.median(d for d, _ in pairs),
        "sparse_seconds": statistics.median(s for _, s in pairs),
        "ratio": statistics.median(d / s for d, s in pairs),
        "threads": torch.get_num_threads(),
        "machine": platform.machine(),
    }
    print("  ".join(f"{k} {v:.2f}" if isinstance(v, float) else f"{k} {v}" for k, v in row.items()))
    if args.json:
        args.json.write_text(json.dumps(row, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
