"""Numbers too small to matter, which make processors crawl."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from hf_chts.layers.kernels.binary import load, threads


@contextmanager
def tiny_is_zero() -> Iterator[None]:
    """A context in which numbers below 1.2e-38 count as 0 on the CPU, in torch's operators, too.

    A processor takes a hundred times as long for such ("denormal") numbers. Gradients fall as low
    where attention has settled; a step of a dense or sparse model then takes several times as
    long. On leaving, this thread and those that torch computes with are as this one was.
    """
    before = bool(torch.full((1,), 1e-39) == 0)
    _set(True)
    try:
        yield
    finally:
        _set(before)


def _set(on: bool) -> None:
    torch.set_flush_denormal(on)
    loaded = load()
    if not isinstance(loaded, str):
        loaded.set_tiny_is_zero(on, threads())
