"""The wheel that ``scripts/build_wheels.sh`` makes."""

from __future__ import annotations

import os
import shutil
import subprocess
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def checkout(tmp_path) -> Path:
    """The package and what builds it, without what earlier builds left."""
    left = shutil.ignore_patterns("*.so", "__pycache__", "build", "*.egg-info")
    for name in ("hf_chts", "scripts"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=left)
    for name in ("pyproject.toml", "setup.py", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, tmp_path)
    return tmp_path


def build(checkout: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    command = ["bash", "scripts/build_wheels.sh", "dist"]
    return subprocess.run(
        command, cwd=checkout, env={**os.environ, **environment}, capture_output=True, text=True
    )


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="needs a C++ compiler")
def test_one_wheel_for_all_versions_of_python(checkout) -> None:
    done = build(checkout)
    assert done.returncode == 0, done.stderr[-2000:]
    [wheel] = (checkout / "dist").iterdir()
    assert wheel.name.startswith("hf_chts-")
    assert "-py3-none-manylinux_2_" in wheel.name
    names = zipfile.ZipFile(wheel).namelist()
    assert "hf_chts/layers/kernels/native/_native.so" in names
    assert "hf_chts/report/templates/page.html" in names


@pytest.mark.slow
def test_without_a_compiler_there_is_no_wheel(checkout) -> None:
    done = build(checkout, CC="/bin/false", CXX="/bin/false")
    assert done.returncode == 1
    assert done.stderr.endswith("the wheel holds no binary: is there a C++ compiler?\n")
    assert not (checkout / "dist").exists()
