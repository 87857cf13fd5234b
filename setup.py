"""Builds the native kernels where a C++ compiler is at hand; the package installs without, too.

All else is in pyproject.toml. The binary is a plain shared library with a C interface: it needs
neither Python's nor torch's headers and fits every version of both.
"""

from __future__ import annotations

import platform
import sys
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.bdist_wheel import bdist_wheel
from setuptools.command.build_ext import build_ext

SOURCES = Path("hf_chts/layers/kernels/native")
# -fopenmp only at compile time: the names are bound at run time to the OpenMP that torch loaded.
FLAGS = ["-O3", "-std=c++17", "-fopenmp", "-fno-exceptions", "-fno-rtti", "-fvisibility=hidden"]
# Of harmless things: no vector crosses the interface; GCC 12 warns of its own gather.
FLAGS += ["-Wno-psabi", "-Wno-maybe-uninitialized"]
AVX512 = ["-mavx512f", "-mavx512bw", "-mavx512dq", "-mavx512vl", "-mfma"]
AVX512 += ["-mprefer-vector-width=512"]
OF_ISA = ("kernels", "few", "dropout", "attention")  # compiled for each instruction set
OF_ALL = ("index", "interface", "matrix")
ON_X86 = {"avx2": ["-mavx2", "-mfma"], "avx512": AVX512}


class BuildKernels(build_ext):
    """Compiles the kernels once for each instruction set and links one library."""

    def get_ext_filename(self, name: str) -> str:
        """One name for all versions of Python: the library knows nothing of Python."""
        return str(Path(*name.split("."))) + ".so"

    def get_export_symbols(self, ext: Extension) -> list[str]:
        """No module's init function: this is no Python module."""
        return []

    def build_extension(self, ext: Extension) -> None:
        """Compile and link."""
        isas = {"baseline": []}
        if platform.machine().lower() in ("x86_64", "amd64"):
            isas |= ON_X86
        objects = []
        for isa, flags in isas.items():
            objects += self.compiler.compile(
                [str(SOURCES / f"{name}.cpp") for name in OF_ISA],
                output_dir=str(Path(self.build_temp, isa)),
                macros=[("HF_CHTS_ISA", isa)],
                extra_postargs=FLAGS + flags,
                depends=ext.depends,
            )
        objects += self.compiler.compile(
            [str(SOURCES / f"{name}.cpp") for name in OF_ALL],
            output_dir=self.build_temp,
            extra_postargs=FLAGS,
            depends=ext.depends,
        )
        target = self.get_ext_fullpath(ext.name)
        Path(target).parent.mkdir(parents=True, exist_ok=True)
        self.compiler.link_shared_object(objects, target, target_lang="c++")


class AnyPythonWheel(bdist_wheel):
    """Tags the wheel for its platform, but for every Python 3."""

    def get_tag(self) -> tuple[str, str, str]:
        """As ``py3-none-PLATFORM``."""
        return "py3", "none", super().get_tag()[2]


kernels = Extension(
    "hf_chts.layers.kernels.native._native",
    sources=sorted(str(path) for path in SOURCES.glob("*.cpp")),
    depends=sorted(str(path) for path in SOURCES.glob("*.h")),
    optional=True,  # a failed build is a warning; layers then use the dense kernel
)

setup(
    ext_modules=[kernels] if sys.platform == "linux" else [],
    cmdclass={"build_ext": BuildKernels, "bdist_wheel": AnyPythonWheel},
)
