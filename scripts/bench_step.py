"""Time and memory of a whole training step: a sparse Marian beside the same model dense.

All sides live in one process and take turns, so that a noisy machine slows all: the dense model as
Transformers and torch train it, the dense model in ``hf_chts.faster_step``, and the sparse model in
it, as the trainers do; each in float32 and under bfloat16 autocast. The ratio of a turn is dense /
sparse of the same precision, and medians are shown. Peak memory is measured in a fresh process for
each: of the process on a CPU, of the device's allocator elsewhere. "held": weights, gradients,
Adam's moments and all indices of the sparse layers, as a share of what the same layers hold when
dense.

    python scripts/bench_step.py [--ffn 1024 2048] [--precision fp32 bf16] [--tokens 1024]
        [--sparsity 0.9] [--turns 9] [--device cuda] [--json FILE]
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from transformers import MarianConfig, MarianMTModel

import hf_chts
from hf_chts.training.loss import LabelSmoothedLoss

VOCABULARY = 10_000
SENTENCE = 32  # tokens a side


def make(
    ffn: int, sparsity: float | None, width: int = 512, layers: int = 6, device: str = "cpu"
) -> tuple[Any, torch.optim.Optimizer]:
    """A Marian and its optimizer; ``sparsity`` None leaves it dense."""
    torch.manual_seed(0)
    config = MarianConfig(
        vocab_size=VOCABULARY,
        d_model=width,
        encoder_layers=layers,
        decoder_layers=layers,
        encoder_attention_heads=8,
        decoder_attention_heads=8,
        encoder_ffn_dim=ffn,
        decoder_ffn_dim=ffn,
        activation_function="relu",
        dropout=0.1,
        pad_token_id=0,
        eos_token_id=1,
        decoder_start_token_id=0,
    )
    model = MarianMTModel(config).train().to(device)
    if sparsity is not None:
        hf_chts.sparsify(model, hf_chts.SparsityConfig(method="chts", sparsity=sparsity))
    return model, torch.optim.AdamW(model.parameters(), 1e-4, fused=True)  # the trainers' own


def step(
    model: Any, optimizer: torch.optim.Optimizer, tokens: int, faster: bool, precision: str
) -> float:
    """One training step on random sentences; its seconds."""
    shape = (tokens // SENTENCE, SENTENCE)
    device = model.device
    source, target = torch.randint(3, VOCABULARY, (2, *shape), device=device)
    autocast = torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16")
    finish(device)
    start = time.perf_counter()
    if faster:
        with hf_chts.faster_step(model):
            with autocast:
                outputs = model(input_ids=source, decoder_input_ids=target)
                loss = LabelSmoothedLoss(0.1)(outputs, target)
            loss.backward()
    else:
        with autocast:
            logits = model(input_ids=source, decoder_input_ids=target).logits
            flat = logits.view(-1, VOCABULARY)
            loss = torch.nn.functional.cross_entropy(flat, target.view(-1), label_smoothing=0.1)
        loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    optimizer.zero_grad()
    finish(device)
    return time.perf_counter() - start


def finish(device: torch.device) -> None:
    """Wait for what a device has been given; a CPU has done it."""
    if device.type != "cpu":
        torch.accelerator.synchronize(device)


def compare(args: argparse.Namespace, ffn: int) -> list[dict[str, Any]]:
    """For each precision: median seconds of each side, the median ratios, and peak memory."""
    dense, sparse = (make(ffn, x, device=args.device) for x in (None, args.sparsity))
    sides = [
        (*model, args.tokens, faster, precision)
        for precision in args.precision
        for model, faster in [(dense, False), (dense, True), (sparse, True)]
    ]
    rounds = [[step(*side) for side in sides] for _ in range(args.turns + 2)]
    times = list(zip(*rounds[2:], strict=True))
    return [
        {
            "ffn": ffn,
            "device": args.device,
            "precision": precision,
            "tokens": args.tokens,
            "sparsity": args.sparsity,
            "dense_seconds": statistics.median(plain),
            "dense_faster_seconds": statistics.median(faster),
            "sparse_seconds": statistics.median(ours),
            "ratio": statistics.median(d / s for d, s in zip(plain, ours, strict=True)),
            "ratio_to_faster": statistics.median(d / s for d, s in zip(faster, ours, strict=True)),
            "dense_peak_mb": peak_memory(args, ffn, None, precision),
            "sparse_peak_mb": peak_memory(args, ffn, args.sparsity, precision),
            "held_of_dense": held_of_dense(*sparse),
        }
        for precision, plain, faster, ours in zip(
            args.precision, times[::3], times[1::3], times[2::3], strict=True
        )
    ]


def held_of_dense(model: Any, optimizer: torch.optim.Optimizer) -> float:
    """Bytes that the sparse layers hold while they train, of those of the layers when dense."""
    held = dense = 0
    for layer in hf_chts.sparse_layers(model).values():
        moments = [x for x in optimizer.state[layer.values].values() if x.dim() > 0]
        indices = [layer.crow_indices, layer.col_indices, *layer._index]
        kept = {x.data_ptr(): x.nbytes for x in (layer.values, *moments, *indices)}
        held += sum(kept.values()) + layer.values.nbytes  # its gradient
        dense += 4 * 4 * layer.out_features * layer.in_features
    return held / dense


def peak_memory(
    args: argparse.Namespace, ffn: int, sparsity: float | None, precision: str
) -> float:
    """Megabytes that a fresh process needs for three steps, beyond what it needs to start."""
    of_child = [str(ffn), str(args.tokens), str(sparsity or 0), precision, args.device]
    command = [sys.executable, __file__, "--child", *of_child]
    return float(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def child(ffn: int, tokens: int, sparsity: float, precision: str, device: str) -> None:
    """The process that :func:`peak_memory` measures."""
    start = memory("VmRSS")
    model, optimizer = make(ffn, sparsity or None, device=device)
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # forget the peak so far
    for _ in range(3):
        step(model, optimizer, tokens, sparsity > 0, precision)
    if device == "cpu":
        print(memory("VmHWM") - start)
    else:
        print(torch.get_device_module(device).max_memory_allocated() / 2**20)


def memory(entry: str) -> float:
    """Megabytes of this process: ``VmRSS`` now, ``VmHWM`` at the peak."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    line = next(line for line in status.split("\n") if line.startswith(entry))
    return int(line.split()[1]) / 1024


def main() -> None:
    """Measure and show."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--ffn", type=int, nargs="+", default=[1024, 2048])
    parser.add_argument(
        "--precision", nargs="+", choices=["fp32", "bf16"], default=["fp32", "bf16"]
    )
    parser.add_argument("--tokens", type=int, default=1024)
    parser.add_argument("--sparsity", type=float, default=0.9)
    parser.add_argument("--turns", type=int, default=9)
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--child", nargs=5, help=argparse.SUPPRESS)
    args = parser.parse_args()
    try:
        torch.empty(0, device=args.device)
    except (RuntimeError, AssertionError) as error:  # the latter: torch without that device
        parser.error(f"--device {args.device}: {error}")
    if args.child:
        ffn, tokens, sparsity, precision, device = args.child
        return child(int(ffn), int(tokens), float(sparsity), precision, device)
    print(f"Marian 6+6, d 512, vocabulary {VOCABULARY:,}, {args.sparsity:.0%} sparse, AdamW")
    threads, machine = torch.get_num_threads(), platform.machine()
    print(f"torch {torch.__version__}, {threads} threads, {machine}, {args.device}\n")
    rows = [row for ffn in args.ffn for row in compare(args, ffn)]
    Console(width=max(110, Console().width)).print(table_of(rows))
    if args.json:
        args.json.write_text(json.dumps(rows, indent=2) + "\n", encoding="utf-8")
    return None


def table_of(rows: list[dict[str, Any]]) -> Table:
    """A line for each width and precision."""
    table = Table("ffn", "type", "tokens", "dense s", "faster s", "sparse s", "ratio", "to faster",
                  "peak MB, dense", "sparse", "held")  # fmt: skip
    for row in rows:
        table.add_row(
            str(row["ffn"]), row["precision"], str(row["tokens"]), f"{row['dense_seconds']:.3f}",
            f"{row['dense_faster_seconds']:.3f}", f"{row['sparse_seconds']:.3f}",
            f"{row['ratio']:.2f}", f"{row['ratio_to_faster']:.2f}", f"{row['dense_peak_mb']:,.0f}",
            f"{row['sparse_peak_mb']:,.0f}", f"{row['held_of_dense']:.3f}",
        )  # fmt: skip
    return table


if __name__ == "__main__":
    main()
