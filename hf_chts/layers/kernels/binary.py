"""Loads the binary of the native kernel, declares its functions and counts its threads.

``HF_CHTS_ISA=avx512|avx2|baseline`` forces an instruction set; it is read once.
"""

from __future__ import annotations

import ctypes
import functools
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch  # first: the binary uses its OpenMP

PATH = Path(__file__).parent / "native" / "_native.so"
_I64, _PTR, _BOOL, _INT = ctypes.c_int64, ctypes.c_void_p, ctypes.c_bool, ctypes.c_int
_SIGNATURES: dict[str, tuple[Any, list[Any]]] = {
    "choose": (ctypes.c_char_p, [ctypes.c_char_p]),
    "set_tiny_is_zero": (None, [_BOOL, _INT]),
    "max_lines": (_I64, []),
    "index_bytes": (_I64, [_I64] * 3),
    "build_index": (_BOOL, [_I64] * 3 + [_PTR, _PTR, _BOOL, _PTR]),
    "run_forward": (
        _BOOL,
        [_I64] * 3 + [_PTR, _PTR, _BOOL, _PTR, _I64, _PTR, _I64] + [_PTR] * 3 + [_BOOL, _INT],
    ),
    "run_backward": (
        _BOOL,
        [_I64] * 3 + [_PTR, _I64, _PTR, _I64, _PTR, _I64] + [_PTR] * 4 + [_BOOL, _INT],
    ),
    "spread": (None, [_I64] * 3 + [_PTR, _PTR, _BOOL, _PTR, _PTR, _INT, _INT]),
    "collect": (None, [_I64] * 3 + [_PTR, _PTR, _BOOL, _PTR, _PTR, _INT, _INT]),
    "dropout": (None, [_I64, _PTR, _PTR, ctypes.c_uint64, ctypes.c_uint32, _BOOL, _INT]),
    "run_attention": (
        _BOOL,
        [_I64] * 4 + [_PTR] * 3 + [_I64] * 2 + [_PTR, _I64] * 2 + [ctypes.c_float, _PTR, _INT],
    ),
}


class Binary:
    """The loaded library: its functions, and the name of the instruction set it picked."""

    def __init__(self, path: Path) -> None:
        # The library names OpenMP's functions but brings no OpenMP: torch, imported above, has
        # loaded its own for all to see. So both share one pool of threads.
        library = ctypes.CDLL(str(path))
        for name, (result, arguments) in _SIGNATURES.items():
            function = getattr(library, f"hf_chts_{name}")
            function.restype, function.argtypes = result, arguments
            setattr(self, name, function)
        wanted = os.environ.get("HF_CHTS_ISA", "")
        chosen = self.choose(wanted.encode())
        if chosen is None:
            raise OSError(f"HF_CHTS_ISA={wanted} is not an instruction set of this machine")
        self.isa: str = chosen.decode()

    choose: Callable[[bytes], bytes | None]
    set_tiny_is_zero: Callable[[bool, int], None]
    max_lines: Callable[[], int]
    index_bytes: Callable[..., int]
    build_index: Callable[..., bool]
    run_forward: Callable[..., bool]
    run_backward: Callable[..., bool]
    spread: Callable[..., None]
    collect: Callable[..., None]
    dropout: Callable[..., None]
    run_attention: Callable[..., bool]


@functools.cache
def load() -> Binary | str:
    """The binary, or why there is none."""
    if not PATH.exists():
        return "its binary was not built (install with a C++ compiler present)"
    try:
        return Binary(PATH)
    except (OSError, AttributeError) as error:  # the latter: built from older sources
        return f"its binary does not load: {error}"


def binary() -> Binary:
    """The binary.

    Raises:
        RuntimeError: If there is none, with the reason.
    """
    loaded = load()
    if isinstance(loaded, str):
        raise RuntimeError(f"the native kernel cannot run: {loaded}")
    return loaded


def check_memory(finished: bool) -> None:
    """Refuse the unfinished results of a function that found no memory.

    Raises:
        MemoryError: If it did not finish.
    """
    if not finished:
        raise MemoryError("the native kernel found no memory for its buffers: take smaller batches")


_forked = False


def _after_fork() -> None:
    global _forked  # OpenMP's threads did not follow into the child
    _forked = True


os.register_at_fork(after_in_child=_after_fork)


def threads() -> int:
    """How many threads a call may use: torch's number, but one in a forked process."""
    return 1 if _forked else torch.get_num_threads()
