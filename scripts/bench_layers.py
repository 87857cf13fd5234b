"""Time of sparse layers beside dense ones: training (forward, backward) and decoding.

Both sides live in one process and take turns, so that a noisy machine slows both; the ratio of a
turn is dense / sparse, and medians are shown. The sparse side is the public layer: packing,
reordering of weights and gradients, and bias are all inside.

    python scripts/bench_layers.py [--layers 512x512 ...] [--tokens 1024 64] [--density 0.1 ...]
                                   [--threads N] [--turns 15] [--bf16] [--ways] [--csr]
                                   [--sparselab] [--json FILE]

``--bf16``, ``--ways``, ``--csr`` and ``--sparselab`` take turns, too: their columns are dense in
float32 / theirs, forward and backward together. Of ``--bf16`` these are the dense layer under
bfloat16 autocast, the sparse one by its native kernel, and by the dense kernel; of ``--ways`` the
native kernel link by link and by a matrix, whichever it would choose (in both types with --bf16).
torch computes the gradient of a CSR matrix densely, for all places of the matrix.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import json
import platform
import statistics
import time
import warnings
from collections.abc import Callable
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor, nn

from hf_chts.layers.kernels import native, native_matrix
from hf_chts.layers.sparse_linear import SparseLinear

INSTALL = "pip install 'hf-chts[bench]'"
COLD_BYTES = 600 << 20  # dense copies of a layer that outgrow every cache
Row = dict[str, Any]


def make_pair(out: int, in_: int, density: float) -> tuple[nn.Linear, SparseLinear]:
    """A dense layer, and one with uniformly random links."""
    n_links = round(density * out * in_)
    positions = torch.randperm(out * in_)[:n_links].sort().values
    sparse = SparseLinear(in_, out, n_links)
    sparse.set_links(positions, torch.randn(n_links))
    return nn.Linear(in_, out), sparse


def turns(sides: list[Callable[[], tuple[float, ...]]], n: int) -> list[list[tuple[float, ...]]]:
    """Timings of each side, taken in turn, after three to warm up."""
    seen: list[list[tuple[float, ...]]] = [[] for _ in sides]
    for turn in range(n + 3):
        for side, times in zip(sides, seen, strict=True):
            measured = side()
            if turn >= 3:
                times.append(measured)
    return seen


def step(layer: nn.Module, x: Tensor, grad: Tensor) -> tuple[float, float, float]:
    """Seconds of a forward, a backward, and both."""
    x.grad = None
    start = time.perf_counter()
    y = layer(x)
    middle = time.perf_counter()
    y.backward(grad.to(y.dtype))
    end = time.perf_counter()
    layer.zero_grad()
    return middle - start, end - middle, end - start


def ratios(dense: list[tuple[float, ...]], sparse: list[tuple[float, ...]]) -> list[float]:
    """Median over the turns of dense / sparse, for each thing timed."""
    pairs = [[a / b for a, b in zip(d, s, strict=True)] for d, s in zip(dense, sparse, strict=True)]
    return [statistics.median(column) for column in zip(*pairs, strict=True)]


class InBfloat16(nn.Module):
    """A layer under autocast."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor) -> Tensor:
        """The outputs of some tokens, in bfloat16."""
        with torch.autocast("cpu", torch.bfloat16):
            y: Tensor = self.layer(x)
        return y


class OneWay(nn.Module):
    """A layer whose links the native kernel multiplies one by one, or as a matrix."""

    def __init__(self, layer: SparseLinear, as_matrix: bool) -> None:
        super().__init__()
        self.layer, self.as_matrix = layer, as_matrix

    def forward(self, x: Tensor) -> Tensor:
        """The outputs of some tokens."""
        with patch.object(native_matrix, "is_faster", lambda *_: self.as_matrix):
            y: Tensor = self.layer(x)
        return y


def by_dense_kernel(layer: SparseLinear) -> SparseLinear:
    """The same links, multiplied as a dense matrix."""
    twin = SparseLinear(layer.in_features, layer.out_features, layer.nnz, kernel="dense")
    twin.set_links(layer.positions, layer.values.detach())
    return twin


class CsrLinear(nn.Module):
    """The same layer by torch's own sparse tensors."""

    def __init__(self, layer: SparseLinear) -> None:
        super().__init__()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch calls them a beta
            self.weight = nn.Parameter(layer.to_dense().detach().to_sparse_csr())
        self.bias = nn.Parameter(torch.zeros(layer.out_features))

    def forward(self, x: Tensor) -> Tensor:
        """The outputs of some tokens."""
        return (self.weight @ x.T).T + self.bias


def sparselab_linear(layer: SparseLinear, density: float) -> nn.Module:
    """A layer of sparselab, of the same size and density; it draws its links itself."""
    make = importlib.import_module("sparselab").SparseLinear
    made: nn.Module = make(layer.in_features, layer.out_features, sparsity=1 - density)
    return made


def bench_training(out: int, in_: int, tokens: int, density: float, args: Any) -> Row:
    """One row of the table of training."""
    dense, sparse = make_pair(out, in_, density)
    others: dict[str, nn.Module] = {}
    if args.bf16:
        others["bf16"] = InBfloat16(dense)
        others["of links"] = InBfloat16(sparse)
        others["as dense"] = InBfloat16(by_dense_kernel(sparse))
    if args.ways:
        others |= {"by link": OneWay(sparse, False), "as matrix": OneWay(sparse, True)}
    if args.ways and args.bf16:
        others["link bf16"] = InBfloat16(OneWay(sparse, False))
        others["matr bf16"] = InBfloat16(OneWay(sparse, True))
    if args.csr:
        others["torch_csr"] = CsrLinear(sparse)
    if args.sparselab:
        others["sparselab"] = sparselab_linear(sparse, density)
    x, grad = torch.randn(tokens, in_, requires_grad=True), torch.randn(tokens, out)
    layers = [dense, sparse, *others.values()]
    seen = turns([partial(step, layer, x, grad) for layer in layers], args.turns)
    forward, backward, total = ratios(seen[0], seen[1])
    row = {"layer": f"{out}x{in_}", "tokens": tokens, "density": density}
    row |= {"forward": forward, "backward": backward, "total": total}
    for side, times in zip(("dense_ms", "sparse_ms"), seen[:2], strict=True):
        row[side] = 1e3 * statistics.median(total for _, _, total in times)
    for name, times in zip(others, seen[2:], strict=True):
        row[name] = ratios(seen[0], times)[2]
    return row


def bench_decoding(out: int, in_: int, tokens: int, density: float, args: Any) -> Row:
    """One row of the table of decoding: each call meets weights that left the caches."""
    copies = max(2, COLD_BYTES // (out * in_ * 4))
    pairs = [make_pair(out, in_, density) for _ in range(min(copies, 200))]
    x, at = torch.randn(tokens, in_), [0, 0]

    def side(which: int) -> tuple[float, ...]:
        start = time.perf_counter()
        for _ in range(20):
            pairs[at[which] % len(pairs)][which](x)
            at[which] += 1
        return (time.perf_counter() - start,)

    with torch.no_grad():
        seen = turns([lambda: side(0), lambda: side(1)], args.turns)
    row = {"layer": f"{out}x{in_}", "tokens": tokens, "density": density}
    row["decoding"] = ratios(seen[0], seen[1])[0]
    row["sparse_us"] = 1e6 / 20 * statistics.median(times[0] for times in seen[1])
    return row


def show(row: Row, header: bool) -> None:
    """Print a row of a table at once, under a header if it is the first."""
    if header:
        print("\n" + "  ".join(f"{name:>9}" for name in row))
    cells = [f"{value:.2f}" if isinstance(value, float) else value for value in row.values()]
    print("  ".join(f"{cell:>9}" for cell in cells), flush=True)


def machine() -> Row:
    """What the numbers depend on."""
    names = [
        line.split(":")[1].strip()
        for line in Path("/proc/cpuinfo").read_text().splitlines()
        if line.startswith("model name")
    ]
    return {
        "cpu": names[0] if names else platform.processor(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "instruction_set": native.isa(),
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    layers = ["512x512", "2048x512", "512x2048", "1024x1024", "4096x1024"]
    parser.add_argument("--layers", nargs="+", default=layers, metavar="OUTxIN")
    parser.add_argument("--tokens", nargs="*", type=int, default=[1024, 64])
    parser.add_argument("--decode-tokens", nargs="*", type=int, default=[1, 8])
    parser.add_argument("--density", nargs="+", type=float, default=[0.05, 0.1, 0.2])
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--turns", type=int, default=15)
    parser.add_argument("--bf16", action="store_true", help="layers in bfloat16 as well")
    parser.add_argument("--ways", action="store_true", help="both ways of the native kernel")
    parser.add_argument("--csr", action="store_true", help="torch's own CSR as well")
    parser.add_argument("--sparselab", action="store_true", help="sparselab as well")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    if args.sparselab and importlib.util.find_spec("sparselab") is None:
        print(f"sparselab is left out: {INSTALL}")
        args.sparselab = False
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    facts = machine()
    print("  ".join(f"{name} {value}" for name, value in facts.items()))
    rows: list[Row] = []
    for bench, all_tokens in ((bench_training, args.tokens), (bench_decoding, args.decode_tokens)):
        cases = product(all_tokens, args.density, args.layers)
        for n, (tokens, density, name) in enumerate(cases):
            out, in_ = map(int, name.split("x"))
            rows.append(bench(out, in_, tokens, density, args))
            show(rows[-1], header=n == 0)
    if args.json:
        args.json.write_text(json.dumps({"machine": facts, "rows": rows}, indent=1))


if __name__ == "__main__":
    main()
