"""What processes send each other, counted by ``scripts/bench_traffic.py``."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SMALL = ["--layers=1", "--width=32", "--ffn=64", "--vocabulary=100"]


def test_only_links_are_sent(tmp_path) -> None:
    """Byte for byte; RigL alone sends dense gradients, at updates."""
    target = tmp_path / "traffic.json"
    done = subprocess.run(
        [sys.executable, str(ROOT / "scripts" / "bench_traffic.py"), *SMALL, "--methods=set,rigl",
         f"--json={target}"],
        env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    assert "MB an update" in done.stdout
    dense, grown, rigl = json.loads(target.read_text())
    n_layers, weights = 16, dense["links"]
    assert weights == 12 * 32 * 32 + 4 * 32 * 64
    for sparse in (grown, rigl):
        assert abs(sparse["links"] - 0.1 * weights) <= n_layers
        assert dense["parameters"] - sparse["parameters"] == weights - sparse["links"]
        saved = dense["bytes_per_step"] - sparse["bytes_per_step"]
        # and DistributedDataParallel asks of fewer tensors whether they are used
        assert saved == 4 * (weights - sparse["links"]) + 4 * n_layers
        assert 4 * sparse["parameters"] <= sparse["bytes_per_step"] <= 4 * dense["parameters"] / 3
    masks = 2 * weights // 8  # after removal, and after regrowth
    seconds = 4 * n_layers
    assert dense["bytes_per_update"] == 0
    assert grown["bytes_per_update"] == masks + seconds
    assert rigl["bytes_per_update"] == masks + seconds + 4 * weights
