"""A function of ours in the place of one of ``torch.nn.functional``, for a while."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from torch.nn import functional

_lock = threading.Lock()
_originals: dict[str, Any] = {}
_n_inside: Counter[str] = Counter()


@contextmanager
def stands_in(name: str, function: Callable[..., Any]) -> Iterator[None]:
    """A context in which ``torch.nn.functional.<name>`` is ``function``, for all threads.

    Contexts of the same function may overlap; the last to be left puts torch's back. A
    ``TorchFunctionMode`` would not reach checkpointed blocks that a backward pass runs again.

    Args:
        name: Name of the function in ``torch.nn.functional``.
        function: What to call in its place, always the same for a name.
    """
    with _lock:
        if _n_inside[name] == 0:
            _originals[name] = getattr(functional, name)
        _n_inside[name] += 1
        setattr(functional, name, function)
    try:
        yield
    finally:
        with _lock:
            _n_inside[name] -= 1
            if _n_inside[name] == 0:
                setattr(functional, name, _originals.pop(name))
