"""What changes over training, as pure functions of the step.

A topology update at ``step`` uses the value *at* that step, with
``progress = step / last step`` in [0, 1]; steps count from 1, so progress 0 is
the state before training and is never a value at an update. The three tables look schedules up by
name:

- ``ZETA[name](progress, zeta)``: the drop fraction, in [0, 1].
- ``EXPONENT[name](progress, start, end)``: the exponent of soft choice, in [0, inf).
- ``DENSITY[name](progress, start, end)``: the density, in (0, 1]. All are linear in start and
  end, so they may be called with sparsities as well.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping


def _cosine_zeta(progress: float, zeta: float) -> float:
    return zeta / 2 * (1 + math.cos(math.pi * progress))


def _linear(progress: float, start: float, end: float) -> float:
    return start + (end - start) * progress


def _delta_linear(progress: float, start: float, end: float) -> float:
    delta = _linear(progress, start / (1 + start), end / (1 + end))
    return delta / (1 - delta)


def _cubic(progress: float, start: float, end: float) -> float:
    return float(end + (start - end) * (1 - progress) ** 3)


_STEEPNESS = 6  # k of CHTss


def _sigmoid(progress: float, start: float, end: float) -> float:
    def sigma(x: float) -> float:
        return 1 / (1 + math.exp(-2 * _STEEPNESS * (x - 0.5)))

    share = (sigma(progress) - sigma(0.0)) / (sigma(1.0) - sigma(0.0))
    return _linear(share, start, end)


def _mest(progress: float, start: float, end: float) -> float:
    if progress < 0.6:
        return start
    return (start + end) / 2 if progress < 1 else end


ZETA: Mapping[str, Callable[[float, float], float]] = {
    "constant": lambda progress, zeta: zeta,
    "cosine": _cosine_zeta,
    "mest": lambda progress, zeta: _mest(progress, zeta, 0.0),
}
"""Drop fractions. ``cosine``: ``zeta / 2 * (1 + cos(pi * progress))``. ``mest``: zeta before 60%,
half of it before the last update, then 0, so that the last update only lowers the density.

Source: Evci et al., RigL, ICML 2020, arXiv 1911.11134, section 3 (cosine); Yuan et al., MEST,
NeurIPS 2021, arXiv 2110.14032 (mest). Deviation: MEST chooses its drop fractions by hand.
"""

EXPONENT: Mapping[str, Callable[[float, float, float], float]] = {
    "delta_linear": _delta_linear,
    "exponent_linear": _linear,
}
"""Softness of soft choice. ``delta_linear``: with exponent = delta / (1 - delta), delta is linear;
from exponent 1 to 9 it runs from 0.5 to 0.9. ``exponent_linear``: the exponent itself is linear.

Source: Zhang et al., CHTs, NeurIPS 2025, arXiv 2501.19107 (delta); the exponent is linear in the
authors' published code.
"""


def exponent_of(softness: float | str | None, progress: float) -> float | None:
    """The exponent of soft choice at a point of training; None for ranking."""
    if softness is None or softness == "ranked":
        return None
    return EXPONENT[softness](progress, 1.0, 9.0) if isinstance(softness, str) else softness


DENSITY: Mapping[str, Callable[[float, float, float], float]] = {
    "constant": lambda progress, start, end: end,
    "linear": _linear,
    "cubic": _cubic,
    "sigmoid": _sigmoid,
    "mest": _mest,
}
"""Densities. ``sigmoid``: steepness k = 6, rescaled to meet start and end exactly. ``mest``: start
before 60%, the mean of both before the last update, then end; with start = end - 0.05 in
sparsity these are MEST's stages.

Source: Zhu and Gupta 2017, arXiv 1710.01878, equation 1 (cubic); Zhang et al., CHTss, NeurIPS
2025, arXiv 2501.19107 (sigmoid); Yuan et al., MEST, NeurIPS 2021, arXiv 2110.14032 (mest).
"""


def noam(step: int, warmup: int, width: int) -> float:
    """Noam factor of the learning rate at ``step`` (from 1): linear warm-up, then step ** -0.5.

    Source: Vaswani et al. 2017, arXiv 1706.03762, equation 3.

    Args:
        step: Optimizer step, at least 1.
        warmup: Steps of linear warm-up, at least 1.
        width: Width of the model's hidden states.

    Returns:
        The factor, greater than 0.
    """
    return float(width**-0.5 * min(step**-0.5, step * warmup**-1.5))


def iterative_warmup(
    step: int, update_interval: int, warmup: int = 20, last_update: int | None = None
) -> float:
    """Factor in [0, 1] that warms the learning rate up again after every topology update.

    It is ``(step mod update_interval) / warmup``, at most 1: zero on the step of an update, whose
    links change after the optimizer's step, and one from ``warmup`` steps later.

    Source: Zhang et al., CHTs, NeurIPS 2025, arXiv 2501.19107 (inoam). Deviation: none before
    ``last_update``; later updates do not happen, so the factor stays at 1, where the authors'
    code goes on warming up.

    Args:
        step: Optimizer step, at least 1.
        update_interval: Steps between topology updates.
        warmup: Steps of each warm-up.
        last_update: Step of the last topology update, or None to warm up for ever.

    Returns:
        The factor.
    """
    if last_update is not None and step >= last_update + update_interval:
        return 1.0
    return min(1.0, step % update_interval / warmup)


def inoam(
    step: int,
    warmup: int,
    width: int,
    update_interval: int,
    iterative: int = 20,
    last_update: int | None = None,
) -> float:
    """Noam factor times the iterative warm-up of ``iterative`` steps.

    Source: Zhang et al., CHTs, NeurIPS 2025, arXiv 2501.19107.
    """
    again = iterative_warmup(step, update_interval, iterative, last_update)
    return noam(step, warmup, width) * again
