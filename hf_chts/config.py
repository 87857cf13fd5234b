"""What a user decides about sparsity, as plain data, and the strict reading of mappings."""

from __future__ import annotations

import dataclasses
import difflib
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

T = TypeVar("T")
RuleSpec = str | dict[str, Any]
"""The name of a rule, or a mapping with the name under ``rule`` and the rule's parameters."""


@dataclass(frozen=True)
class SparsityConfig:
    """How a model becomes sparse and how its links change.

    A field that is None takes the value of the method's row in :mod:`hf_chts.methods`.

    Attributes:
        method: Row of the methods table, for example ``"chts"``, ``"rigl"`` or ``"set"``; or
            ``"auto"``: ``chtss_cubic``, whose density falls, where weights are kept, as those of a
            pretrained model, and more than half of the links are to go (more than
            ``initial_sparsity``); else ``chts_tied``, in loss ahead of the papers' methods that
            keep their number of links in what we have measured, where layers can share links, and
            the papers' ``chts`` where they cannot (no neurons between residual streams,
            ``layer_density="obd"``).
        sparsity: Share of links that are inactive at the end of training, in [0, 1).
        seed: Seed of the initial topology, the initial weights and every update.
        include: Linear layers to make sparse, by suffix of their qualified name (whole dotted
            parts: ``"fc1"``, ``"self_attn.q_proj"``) or by regular expression that matches the
            whole name. Empty: all of them.
        exclude: Linear layers to leave dense, likewise; wins over ``include``.
        layer_density: How links are shared out over layers: ``"uniform"``, ``"er"``, ``"erk"``, or
            ``"obd"``: uniform at first, then by what links matter each time the density falls
            (:func:`hf_chts.rules.distribution.obd_counts`).
        initial: Initial topology, a rule's name or ``{"rule": name, parameter: value}``.
        input_initial: Initial topology of layers that see raw inputs, where ``sparsify`` is given
            calibration data and so knows them; None: ``initial``.
        removal: Rule that scores active links, the higher the safer.
        regrowth: Rule that scores inactive links, the higher the likelier.
        removal_exponent: Softness of removal: ``"ranked"`` removes the lowest scores; a number
            draws the links to keep with odds score**number; ``"delta_linear"`` (paper) and
            ``"exponent_linear"`` (authors' code) raise that number from 1 to 9 over training.
        regrowth_exponent: Softness of regrowth: ``"ranked"`` or a number of at least 0.
        zeta: Share of active links removed at one update, in [0, 1].
        zeta_schedule: ``"constant"``, ``"cosine"`` (falls to 0 at the last update) or ``"mest"``
            (halves with that density schedule's stages).
        density_schedule: How density moves from the initial to the final one: ``"constant"``,
            ``"cubic"``, ``"sigmoid"``, ``"linear"`` or ``"mest"``. It only falls: a model that has
            fewer links already, as from an earlier training, keeps to those.
        initial_sparsity: Sparsity at the start, in [0, sparsity]; read by schedules that move.
        decay: Removal rule that ranks the links to lose when the density falls, before the
            ordinary removal; None: ``removal``.
        percolation: Whether neurons without links on one side lose those on the other, which
            takes a regrowth rule.
        historical_weights: How many removed links a layer remembers, as a multiple of its active
            ones, in [0, inf). A remembered link regrows with the weight it had, any other at 0.
            Each takes 12 bytes (float32 weights); 1 / density - 1 or more remembers all links.
        new_links: ``"cold"``: optimizer state of a new link starts at 0, so that Adam, whose
            correction for that has long run out, moves it several times too far at first (the
            cold start of Xiao et al., SMET, ICML 2026, arXiv 2606.00888). ``"warm"``: its mean
            squared gradient starts at the mean over the layer's links. Deviation from SMET, which
            gives each link a step count and a warm-up of its own: no number more is kept. Both are
            the same with optimizers that keep no such mean (SGD, Adagrad).
        tied_links: Whether layers that meet in hidden neurons share one set of links: a query and
            its key, a value and its output projection, the layers of a feed-forward block. A
            hidden neuron then reads and writes the same neurons of the residual stream, at first
            and after every update; scores of tied layers, each over their mean, add up. Not from a
            paper. See :func:`hf_chts.network.ties.places`.
        early_stop: A layer's links rest once regrowth brings back more than this share of what
            was taken, in (0, 1]; None: never.
        head_wise: Whether queries, keys and values evolve head by head, each head a sub-network
            of its own that keeps its number of links.
        update_interval: Optimizer steps between two topology updates, at least 1.
        stop_fraction: Share of training after which the topology rests, in [0, 1].
        weight_init: Initial weights: ``"keep"`` keeps those of the dense layer at the active
            links; ``"xavier"`` (Glorot) and ``"swi"`` (the paper's, Kaiming) draw normal weights
            scaled to the links that are there; ``"auto"`` keeps the weights of a pretrained model,
            at its largest weights where ``initial`` is open, and draws Xavier weights otherwise.
        init_scale: Factor on the initial weights that are drawn, above 0.
        learning_rate_scale: Factor on the learning rate of link weights, above 0, or
            ``"smupar"``: ``base_density`` / density, following the density as it falls (Dey et
            al., NeurIPS 2024); layers of one shape have one rate, that of their mean density. Make
            :class:`hf_chts.Topology` before a learning-rate scheduler then, since it gives link
            weights their own parameter groups; trainers do so themselves. With
            ``method="dense"`` it is the factor of the layers that other methods make sparse.
        base_density: Density at which ``"smupar"`` leaves the rate as it is, in (0, 1]; not read
            where the scale is a number.
        kernel: ``"auto"`` (native where the processor has it), ``"native"`` (link by link, many
            links as a matrix where that is faster) or ``"dense"``.
    """

    method: str = "auto"
    sparsity: float = 0.9
    seed: int = 0
    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    layer_density: Literal["uniform", "er", "erk", "obd"] | None = None
    initial: RuleSpec | None = None
    input_initial: RuleSpec | None = None
    removal: RuleSpec | None = None
    regrowth: RuleSpec | None = None
    removal_exponent: float | Literal["ranked", "delta_linear", "exponent_linear"] | None = None
    regrowth_exponent: float | Literal["ranked"] | None = None
    zeta: float | None = None
    zeta_schedule: Literal["constant", "cosine", "mest"] | None = None
    density_schedule: Literal["constant", "cubic", "sigmoid", "linear", "mest"] | None = None
    initial_sparsity: float | None = None
    decay: RuleSpec | None = None
    percolation: bool | None = None
    historical_weights: float = 0.0
    new_links: Literal["cold", "warm"] = "cold"
    tied_links: bool | None = None
    early_stop: float | None = None
    head_wise: bool = False
    update_interval: int = 100
    stop_fraction: float = 0.75
    weight_init: Literal["auto", "keep", "xavier", "swi"] = "auto"
    init_scale: float = 1.0
    learning_rate_scale: float | Literal["smupar"] = 1.0
    base_density: float = 1.0
    kernel: Literal["auto", "native", "dense"] = "auto"

    def __post_init__(self) -> None:
        check_types(self)
        for name in ("include", "exclude"):
            object.__setattr__(self, name, tuple(getattr(self, name)))
        _check_range(self, "sparsity", 0, 1, upper_open=True)
        _check_range(self, "zeta", 0, 1)
        _check_range(self, "stop_fraction", 0, 1)
        _check_range(self, "initial_sparsity", 0, self.sparsity)
        _check_range(self, "update_interval", 1)
        _check_range(self, "removal_exponent", 0)
        _check_range(self, "regrowth_exponent", 0)
        _check_range(self, "init_scale", 0, lower_open=True)
        _check_range(self, "historical_weights", 0)
        _check_range(self, "early_stop", 0, 1, lower_open=True)
        _check_range(self, "learning_rate_scale", 0, lower_open=True)
        _check_range(self, "base_density", 0, 1, lower_open=True)

    def to_dict(self) -> dict[str, Any]:
        """Fields as plain JSON data; fields that are None are left out."""
        fields = {k: v for k, v in dataclasses.asdict(self).items() if v is not None}
        return {k: list(v) if isinstance(v, tuple) else v for k, v in fields.items()}


def _check_range(
    config: Any,
    name: str,
    low: float,
    high: float = float("inf"),
    *,
    lower_open: bool = False,
    upper_open: bool = False,
) -> None:
    """Refuse a number outside its interval; None and words pass."""
    value = getattr(config, name)
    if value is None or isinstance(value, str):
        return
    upper_open |= high == float("inf")
    if not (low < value or (value == low and not lower_open)) or not (
        value < high or (value == high and not upper_open)
    ):
        closing = ")" if upper_open else "]"
        interval = f"{'(' if lower_open else '['}{low}, {high}{closing}"
        raise ValueError(f"{name} must lie in {interval}; got {value}")


def _allows(hint: Any, value: Any) -> bool:
    """Whether a value fits a type hint of the few kinds that configurations use."""
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin is Literal:
        return value in args and type(value) in {type(arg) for arg in args}
    if origin in (typing.Union, types.UnionType):
        return any(_allows(arg, value) for arg in args)
    if origin in (tuple, list):
        return isinstance(value, list | tuple) and all(_allows(args[0], item) for item in value)
    if origin is dict:
        return isinstance(value, dict)
    if hint is Any:
        return True
    if hint is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    if hint is int:
        return isinstance(value, int) and not isinstance(value, bool)
    return isinstance(value, hint)


def _spell(hint: Any) -> str:
    """A type hint in words, for an error message."""
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin is Literal:
        return ", ".join(repr(arg) for arg in args)
    if origin in (typing.Union, types.UnionType):
        return " or ".join(_spell(arg) for arg in args)
    if origin in (tuple, list):
        return f"a list of {_spell(args[0])}"
    names = {float: "a number", int: "an integer", str: "a text", bool: "true or false"}
    return names.get(hint, "a mapping" if origin is dict else "nothing")


def check_types(config: Any) -> None:
    """Refuse a dataclass whose values do not fit its annotations.

    Raises:
        ValueError: Naming the field, what it takes and what came.
    """
    for name, hint in typing.get_type_hints(type(config)).items():
        value = getattr(config, name)
        if not dataclasses.is_dataclass(hint) and not _allows(hint, value):
            raise ValueError(f"{name} takes {_spell(hint)}; got {value!r}")


def from_mapping(cls: type[T], mapping: Mapping[str, Any], where: str = "") -> T:
    """Build a dataclass, and those nested in it, from plain data; nothing unknown passes.

    Args:
        cls: The dataclass to build.
        mapping: Its fields; a nested dataclass takes a mapping in turn.
        where: Prefix that errors put before a field's name, for example ``"training."``.

    Raises:
        ValueError: If a key is unknown (with the closest known one), missing, or has a value that
            does not fit.
    """
    if not isinstance(mapping, Mapping):
        expected = f"{where[:-1]} takes" if where else "expected"
        raise ValueError(f"{expected} a mapping; got {mapping!r}")
    hints = typing.get_type_hints(cls)
    values = {}
    for key, value in mapping.items():
        if key not in hints:
            close = difflib.get_close_matches(str(key), hints, n=1)
            hint = f"did you mean {where}{close[0]}? " if close else ""
            raise ValueError(f"unknown key {where}{key}: {hint}known: {', '.join(sorted(hints))}")
        nested = _dataclass_of(hints[key])
        if nested is not None and not (value is None and _allows(hints[key], None)):
            value = from_mapping(nested, value, f"{where}{key}.")
        values[key] = value
    for field in dataclasses.fields(cls):  # type: ignore[arg-type]
        required = field.default is field.default_factory is dataclasses.MISSING
        if required and field.name not in values:
            raise ValueError(f"missing key {where}{field.name}")
    try:
        return cls(**values)
    except ValueError as error:
        raise ValueError(f"{where}{error}") from None


def _dataclass_of(hint: Any) -> Any:
    """The dataclass in a hint like ``Section`` or ``Section | None``; None if there is none."""
    options = typing.get_args(hint) or (hint,)
    return next((option for option in options if dataclasses.is_dataclass(option)), None)
