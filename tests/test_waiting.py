"""Waiting threads leave their cores to others: what GNU OpenMP is told when torch loads it."""

import os
import re
import subprocess
import sys

import pytest


def spins(program: str, **environment: str) -> str | None:
    """How often a thread looks before it sleeps, in a fresh process, by OpenMP's own account."""
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("OMP_", "GOMP_"))}
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**clean, "OMP_DISPLAY_ENV": "VERBOSE", **environment},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    said = re.search(r"GOMP_SPINCOUNT = '(\d+)'", done.stderr)
    return said and said[1]


@pytest.fixture(scope="module", autouse=True)
def gnu():
    if spins("import torch") is None:
        pytest.skip("torch has another OpenMP than GNU's")


def test_a_waiting_thread_soon_sleeps():
    assert spins("import hf_chts") == "3000"


@pytest.mark.parametrize(
    ("chosen", "heard"),
    [
        ({"GOMP_SPINCOUNT": "77"}, "77"),
        ({"OMP_WAIT_POLICY": "PASSIVE"}, "0"),
        ({"OMP_WAIT_POLICY": "ACTIVE"}, "30000000000"),
    ],
)
def test_what_the_user_chose_stands(chosen, heard):
    assert spins("import hf_chts", **chosen) == heard
