"""Train sparse multilayer perceptrons on MNIST or Fashion-MNIST by a plain PyTorch loop.

Usage: python scripts/train_mlp.py DATA_FOLDER [--methods dense,static,set,...]
    [--sparsity 0.99,0.999] [--seeds 1,2,3] [--epochs 20] [--output runs/mlp]

DATA_FOLDER holds the four IDX files, gzipped. Every finished run is one line of
OUTPUT/results.jsonl and is not repeated; masks at the start and at the end lie in OUTPUT/masks. The
table of all runs in OUTPUT is printed at the end.
"""

from __future__ import annotations

import argparse
import gzip
import itertools
import json
import statistics
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.progress import track
from rich.table import Table
from torch import Tensor, nn

import hf_chts

HIDDEN = 1568
BATCH = 128
RATE = 0.1
"""Learning rate of SGD, falling linearly to a hundredth: the paper's 0.025 at 32, scaled."""

WEIGHT_DECAY, MOMENTUM = 5e-4, 0.9
METHODS = "dense,static,set,rigl,cht,chts,chts_random,hebbian,chtss"


@dataclass(frozen=True)
class Run:
    """One training: which data, method, sparsity and seed, for how long."""

    data: str
    method: str
    sparsity: float
    seed: int
    epochs: int

    @property
    def name(self) -> str:
        """A file name."""
        return f"{self.data}-{self.method}-{self.sparsity}-{self.seed}-{self.epochs}"


@dataclass(frozen=True)
class Images:
    """Standardised pixels, shape (images, 784), and labels, of both splits."""

    train: Tensor
    train_labels: Tensor
    test: Tensor
    test_labels: Tensor


def load_images(folder: Path) -> Images:
    """Read the four IDX files; pixels are standardised by the training set's mean and deviation."""
    parts = {}
    for split, stem in (("train", "train"), ("test", "t10k")):
        for kind, header in (("images-idx3", 16), ("labels-idx1", 8)):
            path = folder / f"{stem}-{kind}-ubyte.gz"
            if not path.is_file():
                raise SystemExit(f"no {path}: give the folder of the four IDX files, gzipped")
            raw = np.frombuffer(gzip.decompress(path.read_bytes()), np.uint8, offset=header)
            parts[split, kind] = torch.from_numpy(raw.copy())
    pixels = {split: parts[split, "images-idx3"].view(-1, 784) / 255 for split in ("train", "test")}
    deviation, mean = torch.std_mean(pixels["train"])
    standard = {split: (x - mean) / deviation for split, x in pixels.items()}
    labels = {split: parts[split, "labels-idx1"].long() for split in ("train", "test")}
    return Images(standard["train"], labels["train"], standard["test"], labels["test"])


def held_out(images: Images) -> Images:
    """The last 10,000 training images in place of the test set, to choose settings by."""
    return Images(
        images.train[:-10_000],
        images.train_labels[:-10_000],
        images.train[-10_000:],
        images.train_labels[-10_000:],
    )


def make_model(run: Run, images: Images, steps_per_epoch: int) -> nn.Module:
    """Three hidden layers; all linear layers sparse but the last, which is the output head."""
    torch.manual_seed(run.seed)
    widths = [784, HIDDEN, HIDDEN, HIDDEN]
    layers = [(nn.Linear(a, b), nn.ReLU()) for a, b in itertools.pairwise(widths)]
    model = nn.Sequential(*itertools.chain(*layers), nn.Linear(HIDDEN, 10))
    config = hf_chts.SparsityConfig(
        method=run.method,
        sparsity=run.sparsity,
        seed=run.seed,
        exclude=("6",),
        weight_init="swi",
        update_interval=steps_per_epoch,
    )
    hf_chts.sparsify(model, config, calibration=images.train[:10_000])
    return model


def train(run: Run, images: Images, masks: Path, rate: float) -> dict[str, object]:
    """Train, and measure the last epoch's model on the test set."""
    order = torch.Generator().manual_seed(run.seed)
    steps_per_epoch = len(images.train) // BATCH
    model = make_model(run, images, steps_per_epoch)
    total = run.epochs * steps_per_epoch
    optimizer = torch.optim.SGD(
        model.parameters(), lr=rate, momentum=MOMENTUM, weight_decay=WEIGHT_DECAY
    )
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.01, total)
    topology = hf_chts.Topology(model, optimizer, total_steps=total)
    save_masks(model, masks / f"{run.name}-start.npz")
    start, in_updates = time.perf_counter(), 0.0
    for epoch in track(range(run.epochs), run.name, console=Console(stderr=True)):
        batches = torch.randperm(len(images.train), generator=order)[: steps_per_epoch * BATCH]
        for i, batch in enumerate(batches.split(BATCH)):
            step = epoch * steps_per_epoch + i + 1
            optimizer.zero_grad()
            topology.before_backward(step)
            logits = model(images.train[batch])
            nn.functional.cross_entropy(logits, images.train_labels[batch]).backward()
            optimizer.step()
            in_updates += sum(row.seconds for row in topology.after_step(step))
            schedule.step()
    seconds = time.perf_counter() - start
    save_masks(model, masks / f"{run.name}-end.npz")
    with torch.no_grad():
        right = (model(images.test).argmax(1) == images.test_labels).float().mean()
    sizes = {n: (x.explored, x.in_features * x.out_features) for n, x in topology.layers.items()}
    explored = sum(int(np.unpackbits(bits.numpy()).sum()) for bits, _ in sizes.values())
    return {
        **vars(run),
        "accuracy": 100 * float(right),
        "anp": topology.active_neuron_rate(),
        "itop": explored / sum(size for _, size in sizes.values()) if sizes else None,
        "links": sum(layer.nnz for layer in topology.layers.values()),
        "seconds": seconds,
        "update_seconds": in_updates,
    }


def save_masks(model: nn.Module, path: Path) -> None:
    """Each sparse layer's mask, rows packed to bits."""
    layers = hf_chts.sparse_layers(model)
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(
        path, **{n: np.packbits(layer.mask.numpy(), axis=1) for n, layer in layers.items()}
    )


def show(rows: list[dict[str, object]], console: Console) -> None:
    """Means and standard errors over seeds."""
    table = Table("data", "sparsity", "method", "seeds", "epochs", "accuracy %", "ANP", "ITOP", "s")

    def kind(row: dict[str, object]) -> list[str]:
        return [str(row[field]) for field in ("data", "sparsity", "method", "epochs")]

    for names, group in itertools.groupby(sorted(rows, key=kind), kind):
        runs = list(group)
        scores = [float(row["accuracy"]) for row in runs]
        anp, itop = (
            "-" if runs[0][name] is None else f"{statistics.mean(row[name] for row in runs):.3f}"
            for name in ("anp", "itop")
        )
        seconds = statistics.mean(row["seconds"] for row in runs)
        score = f"{statistics.mean(scores):.2f}"
        if len(scores) > 1:
            score += f" ± {statistics.stdev(scores) / len(scores) ** 0.5:.2f}"
        data, sparsity, method, epochs = names
        table.add_row(
            data, sparsity, method, str(len(runs)), epochs, score, anp, itop, f"{seconds:.0f}"
        )
    console.print(table)


def main() -> None:
    """Run what is not done yet, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--methods", default=METHODS)
    parser.add_argument("--sparsity", default="0.99,0.999")
    parser.add_argument("--seeds", default="1,2,3")
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--output", type=Path, default=Path("runs/mlp"))
    parser.add_argument("--rate", type=float, default=RATE, help="learning rate")
    parser.add_argument("--held-out", action="store_true", help="score held-out training images")
    options = parser.parse_args()
    images = load_images(options.folder)
    if options.held_out:
        images = held_out(images)
    options.output.mkdir(parents=True, exist_ok=True)
    results = options.output / "results.jsonl"
    lines = results.read_text().splitlines() if results.is_file() else []
    rows = [json.loads(line) for line in lines]
    done = {Run(**{field: row[field] for field in Run.__dataclass_fields__}) for row in rows}
    for seed, method, sparsity in itertools.product(
        map(int, options.seeds.split(",")),
        options.methods.split(","),
        map(float, options.sparsity.split(",")),
    ):
        chosen = 0.0 if method == "dense" else sparsity
        run = Run(options.folder.name, method, chosen, seed, options.epochs)
        if run in done:
            continue
        done.add(run)
        row = train(run, images, options.output / "masks", options.rate)
        rows.append(row)
        with results.open("a") as file:
            file.write(json.dumps(row) + "\n")
    show(rows, Console())


if __name__ == "__main__":
    main()
