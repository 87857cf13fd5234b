"""How many links each layer has over training, and which rules decide."""

from __future__ import annotations

import warnings

import torch

from hf_chts.config import RuleSpec, SparsityConfig
from hf_chts.methods import resolve
from hf_chts.rules.distribution import densities
from hf_chts.rules.initial import initial
from hf_chts.rules.links import Links, Site
from hf_chts.rules.registry import Registry
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
    density = schedule(progress, _first_density(config), 1 - config.sparsity)
    share = densities(shapes, density, config.layer_density or "uniform")
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
    return last_update(config, total_steps) if _falls(resolve(config)) else 0


def refuse_standstill(
    config: SparsityConfig, total_steps: int, *, tell: bool = True, has_fallen: bool = False
) -> None:
    """Refuse a training too short for a topology update, where the density is to fall.

    Where the density stays, this warns: nobody chooses a method for links that never change.

    Args:
        config: The configuration; its open fields follow from its method.
        total_steps: Optimizer steps of the whole training.
        tell: Whether to warn; not where :class:`hf_chts.Topology`, which does so, is to follow.
        has_fallen: Whether the model is at its final density, as after an earlier training.

    Raises:
        ValueError: Naming the settings that decide.
    """
    config = resolve(config)
    if config.removal is None or last_update(config, total_steps) > 0:
        return
    told = (
        f"no link would change in {total_steps} steps: updates come every {config.update_interval} "
        f"steps (update_interval) during the first {config.stop_fraction:.0%} (stop_fraction)"
    )
    if _falls(config) and not has_fallen:
        start, end = _first_density(config), 1 - config.sparsity
        raise ValueError(
            f"{told}, so that the density would stay at {start:.4g} in place of {end:.4g}: lower "
            "update_interval, or train for longer"
        )
    if tell and config.stop_fraction > 0:
        warnings.warn(f"{told}; lower update_interval, or take method 'static'", stacklevel=3)


def _falls(config: SparsityConfig) -> bool:
    """Whether a resolved configuration starts denser than it ends."""
    moves = config.density_schedule not in (None, "constant")
    return moves and _first_density(config) != 1 - config.sparsity


def _first_density(config: SparsityConfig) -> float:
    start = config.sparsity if config.initial_sparsity is None else config.initial_sparsity
    return 1 - start


def reads(config: SparsityConfig) -> set[str]:
    """What the rules of an update read; see :class:`hf_chts.rules.registry.Rule`."""
    config = resolve(config)
    used = [(removal, config.removal), (regrowth, config.regrowth)]
    used += [(removal, config.decay)] if config.density_schedule != "constant" else []
    return {registry.make(spec).reads for registry, spec in used if spec is not None}


def check_rules(config: SparsityConfig) -> None:
    """Refuse a resolved configuration whose rules are not there, or do not go together.

    Raises:
        ValueError: Naming what is wrong, a rule's parameter out of its range, too.
    """
    if config.layer_density == "obd" and config.density_schedule in (None, "constant"):
        raise ValueError(
            "layer_density 'obd' moves links between layers while the density falls, and method "
            f"{config.method!r} keeps its density: take 'uniform', 'er' or 'erk', or a method "
            "such as 'chtss'"
        )
    if config.method != "dense" and config.removal is None and _falls(config):
        raise ValueError(
            f"density_schedule {config.density_schedule!r} would never lower the density: method "
            f"{config.method!r} changes no link. Name a removal rule, or set density_schedule to "
            "constant"
        )
    if config.percolation and config.removal is not None and config.regrowth is None:
        raise ValueError(
            "percolation takes links beyond those that the density allows, which regrowth gives "
            f"back, and method {config.method!r} regrows none: set percolation to false, or name a "
            "regrowth rule"
        )
    if config.method != "dense" and config.removal is None and config.regrowth is not None:
        raise ValueError(
            f"regrowth {config.regrowth!r} would bring no link: method {config.method!r} takes "
            "none away. Name a removal rule, or leave regrowth out"
        )
    _refuse_to_tie(config)
    named = (
        (initial, config.initial),
        (initial, config.input_initial),
        (removal, config.removal),
        (removal, config.decay),
        (regrowth, config.regrowth),
    )
    for registry, spec in named:
        if spec is not None:
            _try(registry, spec)


def _refuse_to_tie(config: SparsityConfig) -> None:
    """Refuse links that layers share where each is to have its own."""
    if config.tied_links and config.layer_density == "obd":
        raise ValueError(
            "layer_density 'obd' gives each layer a number of links of its own, which tied layers "
            "cannot have: set tied_links to false, or take 'uniform', 'er' or 'erk'"
        )
    if config.tied_links and config.weight_init == "keep":
        raise ValueError(
            "tied_links draws links that layers share, and weight_init 'keep' (or a pretrained "
            "model) keeps weights that each has for itself: set weight_init to 'xavier', or "
            "tied_links to false"
        )


def _try(registry: Registry, spec: RuleSpec) -> None:
    """Try a rule and its parameters on a layer of one link, long before the first update."""
    rule = registry.make(spec)
    with torch.device("cpu"):  # whatever the default device is
        one, generator = torch.ones(1, 1), torch.Generator()
        site = Site(1, 1, 1, generator, weight=one, inputs=torch.ones(2, 1))
        links = Links(one, one.bool(), generator, grad=one, correlation=one)
        try:
            rule.function(site if registry is initial else links)
        except TypeError as error:
            raise ValueError(f"{registry.kind} rule {spec} cannot be used: {error}") from error
