"""Of several processes, one watches."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

from hf_chts.analysis.snapshots import load_snapshots

RANKS = """
import os, sys, torch
sys.path[:0] = sys.argv[2:]
torch.set_num_threads(1)
from tiny_training import Watch, marian, trainer_of
from hf_chts.engine.ranks import leave_group
from hf_chts.monitor import TopologyMonitor
watch, folder = Watch(), sys.argv[1]
monitor = TopologyMonitor(folder + "/" + os.environ["RANK"])
trainer_of(marian(), folder, callbacks=[monitor, watch], max_steps=5, logging_steps=99).train()
assert [log["epoch"] for log in watch.logs if "loss" in log] == [2 / 2, 4 / 2]
assert ("topology_overlap_start" in watch.logs[0]) == (os.environ["RANK"] == "0")
leave_group()
"""


def test_the_first_process_does_it_all(tmp_path) -> None:
    (tmp_path / "ranks.py").write_text(RANKS)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    tests = Path(__file__).resolve().parent
    command = [sys.executable, "ranks.py", "run", str(tests), str(tests.parent)]
    group = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    processes = [
        subprocess.Popen(
            command,
            cwd=tmp_path,
            env={**os.environ, **group, "RANK": rank, "LOCAL_RANK": rank, "OMP_NUM_THREADS": "1"},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in "01"
    ]
    for process in processes:
        errors = process.communicate(timeout=300)[1]
        assert process.returncode == 0, errors[-3000:]
    assert load_snapshots(tmp_path / "run" / "0").steps == (0, 2, 4, 5)
    assert not (tmp_path / "run" / "1").exists()
