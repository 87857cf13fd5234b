"""Warnings on the command line."""

from __future__ import annotations

import os
import subprocess
import sys
import warnings
from pathlib import Path

from tiny_comparisons import write_recipe

from hf_chts.display import warnings_of_one_line

ROOT = Path(__file__).resolve().parents[1]
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "COLUMNS": "200"}


def test_a_warning_is_one_line_without_its_place_in_the_code(tmp_path) -> None:
    write_recipe(tmp_path)
    changes = ["training.max_steps=2", "training.evaluate_every=2", "sparsity.method=dense"]
    done = subprocess.run(
        [sys.executable, "-m", "hf_chts", "train", "recipe.yaml", *changes, "-o", "run"],
        cwd=tmp_path, env=ENVIRONMENT, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    first, *others = done.stderr.splitlines()
    assert first.startswith("warning: training.warmup_steps=4 goes beyond max_steps=2: ")
    assert first.endswith("or train for longer")
    assert not any("UserWarning" in line for line in others)


def test_others_keep_their_place_and_all_do_afterwards() -> None:
    usual = warnings.formatwarning
    with warnings_of_one_line():
        told = warnings.formatwarning("old\nname", DeprecationWarning, "file.py", 7, "code()")
        assert told == usual("old\nname", DeprecationWarning, "file.py", 7, "code()")
        assert warnings.formatwarning("two\nlines", UserWarning, "file.py", 7) == (
            "warning: two lines\n"
        )
    assert warnings.formatwarning is usual
