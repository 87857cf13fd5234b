"""Long runs and large layers: memory that stays flat, counts that stay exact, a disk that is full.

python scripts/soak.py [flat] [counts] [large] [disk]      (default: all four; about six minutes)
python scripts/soak.py hour

``flat`` trains a perceptron over 1,000 topology updates of each of three methods and prints the
resident memory over time. ``counts`` makes 10,000 updates of one layer. ``large`` patches, updates
(CHTs, ch2_l3n) and saves one layer of 16,384 x 4,096. ``disk`` saves checkpoints until the disk is
full: a small tmpfs of its own where it may mount one, else a limit on the size of files. ``hour``
trains a small translation model through the trainer for an hour, with an update every second step,
validations and checkpoints. The program ends with status 1 if a bound that it states is not kept.
"""

from __future__ import annotations

import gc
import itertools
import resource
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import (
    MarianConfig,
    MarianMTModel,
    PrinterCallback,
    Seq2SeqTrainingArguments,
    TrainerCallback,
)

import hf_chts
from hf_chts.safe_saving import checkpoints, what_is_damaged, whole_folder

MEBI = 2**20


def resident() -> float:
    """Resident memory of this process in MiB."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / MEBI


@contextmanager
def peak_resident(found: dict[str, float], name: str) -> Any:
    """The highest resident memory and the seconds of a piece of work."""
    stop, start, highest = threading.Event(), time.perf_counter(), [resident()]

    def watch() -> None:
        while not stop.wait(0.02):
            highest[0] = max(highest[0], resident())

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
        found[name] = highest[0]
        print(f"  {name:<10}{time.perf_counter() - start:8.1f} s, at most {highest[0]:8.0f} MiB")


def evolving(widths: list[int], **config: Any) -> Callable[[int], dict[str, int]]:
    """A perceptron under training; each call makes a step with an update and counts links."""
    model = nn.Sequential(*itertools.starmap(nn.Linear, itertools.pairwise(widths)))
    settings = {"update_interval": 1, "stop_fraction": 1.0, "sparsity": 0.9, **config}
    hf_chts.sparsify(model, hf_chts.SparsityConfig(**settings))
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    topology = hf_chts.Topology(model, optimizer, total_steps=10**6)
    layers = hf_chts.sparse_layers(model)
    x = torch.randn(32, widths[0])

    def step(number: int) -> dict[str, int]:
        optimizer.zero_grad()
        topology.before_backward(number)
        (model(x) - x.mean()).square().mean().backward()
        optimizer.step()
        topology.after_step(number)
        return {name: layer.nnz for name, layer in layers.items()}

    return step


def flat() -> bool:
    """No growth over 1,000 updates, after the first 100."""
    sound = True
    for method in ("chts", "rigl", "set"):
        step = evolving([64, 64, 32], method=method, historical_weights=1.0)
        seen = []
        for number in range(1, 1001):
            step(number)
            if number % 100 == 0:
                gc.collect()
                seen.append(resident())
        growth = seen[-1] - seen[0]
        shown = " ".join(f"{mebi:.1f}" for mebi in seen)
        print(f"  {method:<6}{shown}: {growth:+.1f} MiB", flush=True)
        sound &= growth < 8
    return sound


def counts() -> bool:
    """The same number of links after each of 10,000 updates, and sound indices."""
    step = evolving([32, 48], method="chts", sparsity=0.8)
    expected, before = {"0": round(0.2 * 32 * 48)}, resident()
    wrong = sum(step(number) != expected for number in range(1, 10_001))
    print(f"  {wrong} of 10,000 updates with a wrong count; memory {resident() - before:+.1f} MiB")
    return wrong == 0


def large() -> bool:
    """One layer of 16,384 x 4,096, of 256 MiB when dense, within 5 GiB."""
    out, inp, found = 16384, 4096, dict[str, float]()
    model = nn.Sequential(nn.Linear(inp, out, bias=False))
    with peak_resident(found, "patched"):
        config = hf_chts.SparsityConfig(
            method="chts", update_interval=1, stop_fraction=1.0, sparsity=0.95
        )
        hf_chts.sparsify(model, config)
    gc.collect()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    topology = hf_chts.Topology(model, optimizer, total_steps=10)
    with peak_resident(found, "stepped"):
        topology.before_backward(1)
        model(torch.randn(8, inp)).square().mean().backward()
        optimizer.step()
    with peak_resident(found, "updated"):
        (update,) = topology.after_step(1)
    print(f"  {update.removed:,} of {update.n_links:,} links moved")
    with (
        tempfile.TemporaryDirectory() as folder,
        peak_resident(found, "saved"),
        whole_folder(Path(folder) / "model") as path,
    ):
        torch.save(model.state_dict(), path / "model.pt")
    return max(found.values()) < 5 * 1024 and model[0].nnz == round(0.05 * out * inp)


def trainer_in(folder: Path, **settings: Any) -> Any:
    """A small sparse translation model that writes a checkpoint at each step."""
    shape = {f"{side}_{part}": n for side in ("encoder", "decoder") for part, n in
             (("layers", 1), ("attention_heads", 2), ("ffn_dim", 24))}  # fmt: skip
    config = MarianConfig(
        vocab_size=40, d_model=16, pad_token_id=0, eos_token_id=1, decoder_start_token_id=0,
        max_position_embeddings=32, **shape,
    )  # fmt: skip
    model = MarianMTModel(config)
    hf_chts.sparsify(model, hf_chts.SparsityConfig(method="set", sparsity=0.7, update_interval=2))
    rows = [{"input_ids": torch.arange(3, 9), "labels": torch.arange(3, 9)}] * 8
    chosen = {"max_steps": 30, "save_steps": 1, "logging_strategy": "no", **settings}
    args = Seq2SeqTrainingArguments(
        str(folder), report_to=[], disable_tqdm=True, use_cpu=True, **chosen
    )
    return hf_chts.SparseSeq2SeqTrainer(
        model=model, args=args, train_dataset=rows, eval_dataset=rows
    )


class _Watch(TrainerCallback):
    """Notes the resident memory every two minutes, and ends the training after an hour."""

    def __init__(self) -> None:
        self.start, self.seen = time.perf_counter(), list[float]()

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        minutes = (time.perf_counter() - self.start) / 60
        if minutes >= 2 * (len(self.seen) + 1):
            gc.collect()
            self.seen.append(resident())
        control.should_training_stop = minutes >= 60


def hour() -> bool:
    """No growth over an hour of training, after the first ten minutes."""
    with tempfile.TemporaryDirectory() as folder:
        trainer = trainer_in(
            Path(folder), max_steps=10**7, save_steps=500, eval_strategy="steps", eval_steps=500,
            save_total_limit=2,
        )  # fmt: skip
        trainer.remove_callback(PrinterCallback)
        watch = _Watch()
        trainer.add_callback(watch)
        trainer.train()
        steps, rows = trainer.state.global_step, len(trainer.state.log_history)
    growth = watch.seen[-1] - watch.seen[4]
    print(f"  {' '.join(f'{mebi:.1f}' for mebi in watch.seen)} MiB")
    print(f"  {steps:,} steps, {steps // 2:,} updates, {rows:,} log rows: {growth:+.1f} MiB")
    return growth < 32


def disk() -> bool:
    """A disk that fills up is one OSError, and all checkpoints before are whole."""
    with tempfile.TemporaryDirectory() as folder:
        mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", folder]
        mounted = subprocess.run(mount, capture_output=True, check=False).returncode == 0
        limits = resource.getrlimit(resource.RLIMIT_FSIZE)
        if not mounted:
            resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, limits[1]))
        try:
            trainer_in(Path(folder) / "run").train()
            told = None
        except OSError as error:
            told = str(error)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        found = checkpoints(Path(folder) / "run")
        print(f"  {'tmpfs of 1 MiB' if mounted else 'files of 20 kB'}: {told}")
        print(f"  whole: {', '.join(path.name for path in found.values())}")
        sound = told is not None and not any(map(what_is_damaged, found.values()))
        if mounted:
            subprocess.run(["umount", folder], check=True)
    return sound


def main(names: list[str]) -> int:
    """Run the chosen parts."""
    torch.manual_seed(0)
    parts = {"flat": flat, "counts": counts, "large": large, "disk": disk, "hour": hour}
    broken = []
    for name in names or list(parts)[:4]:
        start = time.perf_counter()
        print(f"{name}: {parts[name].__doc__}", flush=True)
        sound = parts[name]()
        print(f"  {'kept' if sound else 'BROKEN'}, {time.perf_counter() - start:.0f} s", flush=True)
        broken += [] if sound else [name]
    return int(bool(broken))


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
