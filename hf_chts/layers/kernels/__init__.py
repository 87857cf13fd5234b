"""Kernels by name. Each is a module with two functions and one question.

``build_index(crow, col, out_features, in_features)`` makes what the kernel needs once for a
topology; ``linear(x, values, bias, index, out_features, in_features)`` is differentiable in its
first three arguments; ``why_unavailable(values)`` says why the kernel cannot take these values
(their device, their type, or this machine), or None.
"""

from __future__ import annotations

import warnings
from types import ModuleType

from torch import Tensor

from hf_chts.layers.kernels import dense, native

_said: set[str] = set()


def pick_kernel(name: str, values: Tensor) -> ModuleType:
    """The kernel that computes with ``values``.

    Args:
        name: ``"dense"``, ``"native"``, or ``"auto"``: native for float32 on a CPU that has it,
            dense elsewhere. On a CPU the fallback is said once, with its reason.
        values: The layer's link weights; only their device and type matter.

    Raises:
        ValueError: If there is no such kernel, or it was asked for by name and cannot run here.
    """
    if name not in ("auto", "native", "dense"):
        raise ValueError(f"no kernel {name!r}; known: auto, native, dense")
    if name == "dense":
        return dense
    reason = native.why_unavailable(values)
    if reason is None:
        return native
    if name == "native":
        raise ValueError(f"the native kernel cannot run: {reason}; use kernel='auto' or 'dense'")
    if values.device.type == "cpu" and reason not in _said:
        _said.add(reason)
        warnings.warn(f"sparse layers use the dense kernel: {reason}", stacklevel=2)
    return dense
