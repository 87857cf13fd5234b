"""Training steps under ``torch.compile``, over topology updates."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent


def compare(how, method, backend):
    """What differs with the compiler, and what that one did."""
    paths = os.pathsep.join(map(str, (HERE.parent.parent, HERE.parent)))
    done = subprocess.run(
        [sys.executable, "-W", "ignore", str(HERE / "compiled_training.py"), how, method, backend],
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": paths},
        capture_output=True, text=True, timeout=550,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["loss"] < 1e-5
    assert found["weights"] < 1e-4
    assert found["same_links"]
    assert found["breaks"] == []
    assert found["frames"] == [found["graphs"]] * 2
    return found


def test_a_compiled_step_stays_compiled_while_the_number_of_links_falls() -> None:
    """One graph, and one or two more once it begins to fall, not one for each number."""
    found = compare("perceptron", "chtss", "aot_eager")
    assert found["link_numbers"] >= 5
    assert found["graphs"] <= 3


@pytest.mark.slow
@pytest.mark.parametrize(
    ("how", "method", "most_graphs"),
    [
        ("marian", "chts", 1),
        ("marian", "chtss", 2),
        ("trainer", "chts", 2),  # one of training, one of evaluation
        ("trainer", "rigl", 2),  # steps that collect dense gradients break none
        ("trainer", "chtss", 4),
    ],
)
def test_a_compiled_transformer_trains_as_it_does_without(how, method, most_graphs) -> None:
    found = compare(how, method, "inductor")
    assert 1 <= found["graphs"] <= most_graphs
