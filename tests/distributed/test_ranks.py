"""Two and four gloo processes on one machine beside one alone."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import pytest
import torch
from rank_programs import CLIP, TRAINED

HERE = Path(__file__).resolve().parent
ENGINES = {  # that cut links up, and how each is refused
    "fsdp": "sparse layers do not train with FSDP: start one process a device with torchrun",
    "fully_shard": "are cut up over processes (FSDP or DeepSpeed), where they cannot move: start",
    "flat": "are cut up over processes (FSDP or DeepSpeed), where they cannot move: start",
    "original": "are cut up over processes (FSDP or DeepSpeed), where they cannot move: start",
}


def launch(folder: Path) -> str:
    """What the processes print."""
    with ExitStack() as probes:
        sockets = [probes.enter_context(socket.socket()) for _ in range(3)]
        for probe in sockets:
            probe.bind(("127.0.0.1", 0))
        ports = [str(probe.getsockname()[1]) for probe in sockets]
    paths = os.pathsep.join(map(str, (HERE.parents[1], HERE.parent)))
    done = subprocess.run(
        [sys.executable, str(HERE / "rank_programs.py"), str(folder), *ports],
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": paths},
        capture_output=True, text=True, timeout=400,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def test_many_processes_do_what_one_does(tmp_path) -> None:
    """One launch for all: to import torch costs more than what is tested."""
    printed = launch(tmp_path)
    found = {path.stem: torch.load(path) for path in tmp_path.glob("*.pt")}
    assert sorted(found) == ["1-0", "2-0", "2-1", "4-0", "4-1", "4-2", "4-3"]
    for method in TRAINED:
        check_training({rank: found[rank][method] for rank in found}, method)
    for shard in ("ddp", "fsdp2"):
        check_plain_loop({rank: found[rank][shard] for rank in ("1-0", "2-0", "2-1")})
    check_evaluation({rank: found[rank]["evaluated"] for rank in ("1-0", "2-0", "2-1")})
    assert [part.count("eval_checksum") for part in printed.split("== ")[1:]] == [1, 1, 0]
    check_translation({rank: found[rank]["translated"] for rank in ("1-0", "2-0", "2-1")})
    assert len({found[rank]["one_layer"] for rank in ("1-0", "2-0", "2-1")}) == 1
    for rank in ("2-0", "2-1"):
        for engine, sentence in ENGINES.items():
            assert sentence in found[rank]["refused"][engine], engine
    check_one_rank_goes_wrong(found["2-0"]["wrong"], found["2-1"]["wrong"])


def check_training(runs, method) -> None:
    """The same links after every update, and the same weights and moments to rounding."""
    one = runs["1-0"]
    assert min(one["norms"]) > 2 * CLIP, "clipping has work to do"
    assert len(set(one["links"])) >= 4, "links move"
    sizes = {key: x.numel() for key, x in one["state"].items() if key.endswith(".values")}
    assert len(sizes) == 16
    for rank, run in runs.items():
        assert run["links"] == one["links"], (method, rank)
        assert run["norms"] == pytest.approx(one["norms"], rel=1e-4)
        same_as_rank_0 = runs[f"{rank[0]}-0"]["state"]
        for key, value in one["state"].items():
            assert torch.equal(run["state"][key], same_as_rank_0[key]), (method, rank, key)
            if value.is_floating_point():
                torch.testing.assert_close(run["state"][key], value, rtol=1e-4, atol=2e-6)
            else:
                assert torch.equal(run["state"][key], value), (method, rank, key)


def check_plain_loop(runs) -> None:
    """With DistributedDataParallel, or the dense part sharded; the number of links falls."""
    one = runs["1-0"]
    assert one["sizes"] == sorted(one["sizes"], reverse=True)
    assert len(set(one["sizes"])) >= 3
    for run in runs.values():
        assert run["links"] == one["links"]
        assert run["sizes"] == one["sizes"]
        for key, value in one["state"].items():
            torch.testing.assert_close(run["state"][key], value, rtol=1e-4, atol=2e-5, msg=key)


def check_evaluation(runs) -> None:
    """Each rank generates its share, and each example counts once."""
    one = runs["1-0"]
    assert one["eval"]["eval_pairs"] == len(one["generated"]) == 10
    shares = [runs[rank]["generated"] for rank in ("2-0", "2-1")]
    assert [len(share) for share in shares] == [6, 6]  # 5 batches of 2, and one again
    assert set(one["generated"]) == set(shares[0]) | set(shares[1])
    for run in runs.values():
        assert torch.equal(run["predicted"], one["predicted"])
        for kind in ("eval", "test"):
            for key in ("loss", "checksum", "labels", "pairs"):
                assert run[kind][f"{kind}_{key}"] == pytest.approx(one[kind][f"{kind}_{key}"])
        assert run["logged"] == 1


def check_translation(runs) -> None:
    """Each rank translates its share of the batches, and all get what one process makes."""
    one = runs["1-0"]
    assert sum(map(bool, one["made"])) == 6
    assert one["batches"] == sum(runs[rank]["batches"] for rank in ("2-0", "2-1")) >= 3
    assert min(run["batches"] for run in runs.values()) >= 1
    assert all(run["made"] == one["made"] for run in runs.values())


def check_one_rank_goes_wrong(one, two) -> None:
    assert one["message"].startswith("step 4: the norm of the gradient is nan and the gradient not")
    assert two["message"].startswith("step 4: the loss is nan and the gradient not finite")
    assert one["before"] == one["after"] == two["before"] == two["after"]
