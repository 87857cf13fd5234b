"""The C++ sources, run on random layers under the address and undefined-behaviour sanitizers."""

from __future__ import annotations

import platform
import shutil
import subprocess
from pathlib import Path

import pytest

SOURCES = Path(__file__).resolve().parents[2] / "hf_chts" / "layers" / "kernels" / "native"
DRIVER = Path(__file__).with_name("native_check.cpp")
COMPILER = shutil.which("g++") or shutil.which("clang++")
ISAS = {"baseline": [], "avx2": ["-mavx2", "-mfma"]}
AVX512 = ["-mavx512f", "-mavx512bw", "-mavx512dq", "-mavx512vl", "-mfma"]


def isas_of_this_machine() -> dict[str, list[str]]:
    flags = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    if platform.machine() != "x86_64" or "avx2" not in flags:
        return {"baseline": []}
    return ISAS | ({"avx512": AVX512} if "avx512vl" in flags else {})


@pytest.mark.skipif(COMPILER is None, reason="needs a C++ compiler")
@pytest.mark.parametrize("isa", list(isas_of_this_machine())[-1:])  # the widest; 10 s each
def test_sanitizers_find_nothing(isa, tmp_path):
    program = tmp_path / "check"
    flags = [
        "-O1",
        "-g",
        "-std=c++17",
        "-fopenmp",
        "-Wall",
        "-Wextra",
        "-Werror",
        "-Wno-psabi",
        "-Wno-maybe-uninitialized",
    ]
    flags += [f"-I{SOURCES}", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"]
    defines = [f"-DHF_CHTS_ISA={isa}", f"-DCHECKED=&kernels_{isa}"]
    names = ("kernels", "few", "dropout", "attention", "index", "matrix")
    sources = [str(SOURCES / f"{name}.cpp") for name in names]
    command = [
        COMPILER,
        *flags,
        *defines,
        *isas_of_this_machine()[isa],
        *sources,
        str(DRIVER),
        "-o",
        program,
    ]
    built = subprocess.run(command, capture_output=True, text=True)
    if "cannot find -l" in built.stderr:
        pytest.skip("the compiler has no sanitizers")
    assert built.returncode == 0, built.stderr
    ran = subprocess.run([program], capture_output=True, text=True, timeout=120)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert ran.stdout == ""
