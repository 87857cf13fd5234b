"""Layers that are worked out at the same time, a thread each.

A layer's links take many small operations, most of which torch computes in one thread.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import torch

T = TypeVar("T")


def side_by_side(
    names: Iterable[str], work: Callable[[str], T], device: torch.device
) -> tuple[dict[str, T], dict[str, float]]:
    """Do one piece of work for every layer; on a CPU as many at once as torch has threads.

    Each piece computes with one thread then, so results do not depend on the number of threads.
    Memory is that of as many layers at once.

    Args:
        names: The layers.
        work: What to do for a layer; it touches nothing of another one.
        device: Where the layers are.

    Returns:
        Results by layer, and seconds by layer, which add up to the wall time of all.
    """
    start, own = time.perf_counter(), dict[str, float]()

    def timed(name: str) -> T:
        begun = time.perf_counter()
        with torch.no_grad():  # a setting of each thread
            result = work(name)
        own[name] = time.perf_counter() - begun
        return result

    names, threads = list(names), torch.get_num_threads()
    if device.type != "cpu":
        results = [timed(name) for name in names]
    else:
        try:
            with ThreadPoolExecutor(
                threads, initializer=torch.set_num_threads, initargs=(1,)
            ) as pool:
                results = list(pool.map(timed, names))
        finally:
            torch.set_num_threads(threads)  # for threads still to be made; each has its own number
    wall, total = time.perf_counter() - start, sum(own.values()) or 1.0
    seconds = {name: own[name] * wall / total for name in names}
    return dict(zip(names, results, strict=True)), seconds
