"""What processes send each other: bytes that each hands to collectives, sparse beside dense.

A few steps of a 6+6-layer Marian of width 512 under data parallelism by the trainers, in as many
gloo processes as asked for. Every collective is counted, those of DistributedDataParallel, too. By
a ring, all-reduce of so many bytes sends and receives 2 (ranks - 1) / ranks times as many.

    python scripts/bench_traffic.py [--methods set,chts,rigl] [--ranks 2] [--json FILE]
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import tempfile
from pathlib import Path
from typing import Any

import torch
import torch.multiprocessing as mp
import transformers
from rich.console import Console
from rich.table import Table
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import MarianConfig, MarianMTModel, Seq2SeqTrainingArguments, TrainerCallback

import hf_chts
from hf_chts.engine.ranks import leave_group

INTERVAL = hf_chts.SparsityConfig().update_interval


class Traffic(TorchDispatchMode):
    """Counts the bytes that this process hands to collectives."""

    def __init__(self) -> None:
        super().__init__()
        self.n_bytes = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func.namespace == "c10d":  # gathers name their output first
            handed = args["gather" in str(func)]
            tensors = [handed] if isinstance(handed, torch.Tensor) else handed
            self.n_bytes += sum(x.numel() * x.element_size() for x in tensors)
        return func(*args, **(kwargs or {}))


class Watch(TrainerCallback):
    """Reads the count off around the gradients, and around the update, of the second step."""

    def __init__(self, traffic: Traffic) -> None:
        self.traffic = traffic
        self.counts: list[int] = []

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """After the first step, in which DistributedDataParallel still finds its way."""
        self.counts = self.counts or [self.traffic.n_bytes]

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """When gradients are those of all processes."""
        if self.counts:
            self.counts.append(self.traffic.n_bytes)

    def on_optimizer_step(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """When links have changed."""
        if self.counts:
            self.counts.append(self.traffic.n_bytes)


def make(args: argparse.Namespace, method: str) -> Any:
    """A Marian, sparse unless the method is ``dense``."""
    torch.manual_seed(0)
    config = MarianConfig(
        vocab_size=args.vocabulary,
        d_model=args.width,
        encoder_layers=args.layers,
        decoder_layers=args.layers,
        encoder_attention_heads=8,
        decoder_attention_heads=8,
        encoder_ffn_dim=args.ffn,
        decoder_ffn_dim=args.ffn,
        pad_token_id=0,
        eos_token_id=1,
        decoder_start_token_id=0,
    )
    model = MarianMTModel(config)
    if method != "dense":
        settings = {"sparsity": args.sparsity, "update_interval": 2, "stop_fraction": 1.0}
        hf_chts.sparsify(model, hf_chts.SparsityConfig(method=method, **settings))
    return model


def n_links(model: Any) -> int:
    """Links of the linear layers below the head; in a dense layer all are active."""
    layers = [x for x in model.model.modules() if isinstance(x, torch.nn.Linear)]
    sparse = hf_chts.sparse_layers(model).values()
    return sum(x.weight.numel() for x in layers) + sum(x.nnz for x in sparse)


def process(rank: int, args: argparse.Namespace, method: str, folder: Path) -> None:
    """The life of one of the processes; the first one writes down what it has counted."""
    os.environ.update(RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE=str(args.ranks))
    torch.set_num_threads(1)
    transformers.logging.set_verbosity_error()
    row = count(args, method, folder)
    if rank == 0:
        (folder / "row.json").write_text(json.dumps(row), encoding="utf-8")
    leave_group()


def count(args: argparse.Namespace, method: str, folder: Path) -> dict[str, Any]:
    """Train for two steps, and count."""
    model, traffic = make(args, method), Traffic()
    watch = Watch(traffic)
    kind = transformers.Seq2SeqTrainer if method == "dense" else hf_chts.SparseSeq2SeqTrainer
    draw = torch.Generator().manual_seed(1)
    tokens = torch.randint(3, args.vocabulary, (4 * args.ranks, 8), generator=draw)
    trainer = kind(
        model=model,
        args=Seq2SeqTrainingArguments(
            str(folder), max_steps=2, per_device_train_batch_size=2, report_to=[], use_cpu=True,
            save_strategy="no", logging_strategy="no", disable_tqdm=True,
        ),
        train_dataset=[{"input_ids": row, "labels": row} for row in tokens],
    )  # fmt: skip
    trainer.add_callback(watch)  # after the trainer's own
    trainer.remove_callback(transformers.PrinterCallback)
    with traffic:
        trainer.train()
    begin, reduced, updated = watch.counts
    return {
        "method": method,
        "parameters": sum(x.numel() for x in model.parameters() if x.requires_grad),
        "links": n_links(model),
        "bytes_per_step": reduced - begin,
        "bytes_per_update": updated - reduced,
    }


def measure(args: argparse.Namespace, method: str) -> dict[str, Any]:
    """What one process hands over, by the trainer of a method."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    with tempfile.TemporaryDirectory() as folder:
        call = (args, method, Path(folder))
        mp.start_processes(process, call, nprocs=args.ranks, start_method="fork")
        row: dict[str, Any] = json.loads((Path(folder) / "row.json").read_text(encoding="utf-8"))
    return row


def main() -> None:
    """Measure and show."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--methods", default="set,chts,rigl")
    parser.add_argument("--ranks", type=int, default=2)
    parser.add_argument("--sparsity", type=float, default=0.9)
    parser.add_argument("--layers", type=int, default=6, help="of the encoder, and of the decoder")
    parser.add_argument("--width", type=int, default=512)
    parser.add_argument("--ffn", type=int, default=2048)
    parser.add_argument("--vocabulary", type=int, default=10_000)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    rows = [measure(args, method) for method in ("dense", *args.methods.split(","))]
    dense = rows[0]["bytes_per_step"]
    table = Table("method", "parameters", "links", "MB a step", "of dense", "MB an update",
                  f"MB a step at an interval of {INTERVAL}", "of dense")  # fmt: skip
    for row in rows:
        step, update = row["bytes_per_step"], row["bytes_per_update"]
        spread = step + update / INTERVAL
        table.add_row(
            row["method"], f"{row['parameters']:,}", f"{row['links']:,}", f"{step / 1e6:,.3f}",
            f"{step / dense:.3f}", f"{update / 1e6:,.3f}", f"{spread / 1e6:,.3f}",
            f"{spread / dense:.3f}",
        )  # fmt: skip
    shape = f"Marian {args.layers}+{args.layers}, d {args.width}, ffn {args.ffn}"
    console = Console(width=max(120, Console().width))
    console.print(
        f"{shape}, vocabulary {args.vocabulary:,}, {args.sparsity:.0%} sparse, {args.ranks} ranks, "
        "float32; bytes that each rank hands to collectives"
    )
    console.print(table)
    if args.json:
        args.json.write_text(json.dumps(rows, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
