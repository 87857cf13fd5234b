"""Training on a device that is not the CPU, as GPUs are: nothing is left behind on the CPU.

The device is made of the CPU, but torch takes it for another one: it has memory of its own, and
refuses operations and generators across devices.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

HERE = Path(__file__).parent
WRITTEN_FOR = "2.13."  # the torch whose C++ headers are used; those of others are no promise


@pytest.fixture(scope="module")
def library(tmp_path_factory):
    if shutil.which("g++") is None or sys.platform != "linux":
        pytest.skip("needs g++ on Linux")
    torch_folder = Path(torch.__file__).parent
    made = tmp_path_factory.mktemp("device") / "pretended.so"
    include = torch_folder / "include"
    built = subprocess.run(
        ["g++", "-std=c++20", "-shared", "-fPIC", f"-I{include}",
         f"-I{include / 'torch' / 'csrc' / 'api' / 'include'}", HERE / "pretended.cpp",
         f"-L{torch_folder / 'lib'}", "-ltorch", "-ltorch_cpu", "-lc10", "-o", made],
        capture_output=True, text=True,
    )  # fmt: skip
    if built.returncode and not torch.__version__.startswith(WRITTEN_FOR):
        pytest.skip(f"no other device for torch {torch.__version__}: {built.stderr[:500]}")
    assert built.returncode == 0, built.stderr[:3000]
    return made


@pytest.mark.parametrize("program", ["methods", "translation", "trainer"])
def test_nothing_is_left_on_the_cpu(library, program):
    done = subprocess.run(
        [sys.executable, HERE / "programs.py", library, program],
        env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
