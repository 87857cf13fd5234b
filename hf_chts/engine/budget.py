"""How many links each layer has over training, and which rules decide."""

from __future__ import annotations

from hf_chts.config import SparsityConfig
from hf_chts.methods import resolve
from hf_chts.rules.distribution import densities
from hf_chts.rules.initial import initial
from hf_chts.rules.regrowth import regrowth
from hf_chts.rules.removal import removal
from hf_chts.rules.schedules import DENSITY


def link_counts(
    shapes: dict[str, tuple[int, int]], config: SparsityConfig, progress: float
) -> dict[str, int]:
    """How many links each layer has at a point of training.

    Args:
        shapes: (out_features, in_features) of each layer.
        config: The resolved configuration.
        progress: Share of the time until the last update that has passed, in [0, 1].

    Raises:
        ValueError: If a layer would have none.
    """
    schedule = DENSITY[config.density_schedule or "constant"]
    start = config.sparsity if config.initial_sparsity is None else config.initial_sparsity
    density = schedule(progress, 1 - start, 1 - config.sparsity)
    share = densities(shapes, density, config.layer_density)
    return {name: round(share[name] * out * inp) for name, (out, inp) in shapes.items()}


def last_update(config: SparsityConfig, total_steps: int) -> int:
    """The step of the last topology update; 0 if there is none.

    Args:
        config: The configuration; its open fields follow from its method.
        total_steps: Optimizer steps of the whole training.
    """
    if resolve(config).removal is None:
        return 0
    stop = int(round(config.stop_fraction * total_steps, 6))  # 0.57 * 100 is 56.99...
    return stop - stop % config.update_interval


def density_settles(config: SparsityConfig, total_steps: int) -> int:
    """The step after which the density is the final one; 0 if it is so from the start.

    Args:
        config: The configuration; its open fields follow from its method.
        total_steps: Optimizer steps of the whole training.
    """
    config = resolve(config)
    constant = config.density_schedule in (None, "constant")
    return 0 if constant else last_update(config, total_steps)


def reads(config: SparsityConfig) -> set[str]:
    """What the rules of an update read; see :class:`hf_chts.rules.registry.Rule`."""
    config = resolve(config)
    used = [(removal, config.removal), (regrowth, config.regrowth)]
    used += [(removal, config.decay)] if config.density_schedule != "constant" else []
    return {registry.make(spec).reads for registry, spec in used if spec is not None}


def check_rules(config: SparsityConfig) -> None:
    """Refuse a resolved configuration whose rules are not there, or do not go together."""
    if config.layer_density == "lamp" and config.density_schedule in (None, "constant"):
        raise ValueError(
            "layer_density 'lamp' moves links between layers while the density falls, and method "
            f"{config.method!r} keeps its density: take 'uniform', 'er' or 'erk', or a method "
            "such as 'chtss'"
        )
    initial.make(config.initial or "er")
    if config.input_initial is not None:
        initial.make(config.input_initial)
    named = ((removal, config.removal), (removal, config.decay), (regrowth, config.regrowth))
    for registry, spec in named:
        if spec is not None:
            registry.make(spec)
