"""Training methods as rows of data. A method that recombines rules needs no code."""

from __future__ import annotations

import dataclasses
import difflib
from dataclasses import dataclass
from typing import Any

from hf_chts.config import SparsityConfig


@dataclass(frozen=True)
class Method:
    """One row. Attribute names and meanings are those of :class:`SparsityConfig`.

    Attributes:
        paper: Where the method comes from.
        deviations: Where this row differs from the paper, or empty.
        settings: Values for the fields of a configuration that the user left open.
        extra_density: Density at the start above that at the end, where the row has no
            ``initial_sparsity``.
    """

    paper: str
    settings: dict[str, Any]
    deviations: str = ""
    extra_density: float = 0.0


CHTS_PAPER = "Zhang et al., NeurIPS 2025, arXiv:2501.19107"
SET_PAPER = "Mocanu et al., Nature Communications 2018, doi:10.1038/s41467-018-04316-3"
RIGL_PAPER = "Evci et al., ICML 2020, arXiv:1911.11134"
MEST_PAPER = "Yuan et al., NeurIPS 2021, arXiv:2110.14032"
CHT_PAPER = "Zhang et al., ICLR 2024, https://openreview.net/forum?id=iayEcORsGd"
GMP_PAPER = "Zhu and Gupta 2017, arXiv:1710.01878"
GRANET_PAPER = "Liu et al., NeurIPS 2021, arXiv:2106.10404"

DEFAULTS: dict[str, Any] = {
    "layer_density": "uniform",
    "initial": "er",
    "input_initial": None,
    "removal": None,
    "regrowth": None,
    "removal_exponent": "ranked",
    "regrowth_exponent": "ranked",
    "zeta": 0.3,
    "zeta_schedule": "constant",
    "density_schedule": "constant",
    "initial_sparsity": None,
    "decay": None,
    "percolation": False,
    "tied_links": False,
    "early_stop": None,
}
"""What a row has where it says nothing."""

METHODS: dict[str, Method] = {
    "dense": Method("Vaswani et al., NeurIPS 2017, arXiv:1706.03762", {}, "no layer is sparse"),
    "static": Method(SET_PAPER, {}, "SET's start, links never change"),
    "set": Method(
        SET_PAPER,
        {"removal": "magnitude", "regrowth": "random", "regrowth_exponent": 1.0},
        "removes the smallest magnitudes of both signs together; SET ranks each sign by itself",
    ),
    "rigl": Method(
        RIGL_PAPER,
        {"removal": "magnitude", "regrowth": "gradient", "zeta_schedule": "cosine"},
        "updates follow the optimizer step of their gradient instead of replacing it",
    ),
    "mest": Method(
        MEST_PAPER,
        {
            "removal": "mest",
            "regrowth": "random",
            "regrowth_exponent": 1.0,
            "zeta_schedule": "mest",
            "density_schedule": "mest",
        },
        "EM&S; the density falls at 60% of the updates and at the last one, zeta halves with it",
        extra_density=0.05,
    ),
    "cht": Method(
        CHT_PAPER,
        {
            "initial": {"rule": "bsw", "beta": 0.25},
            "input_initial": "csti",
            "removal": "magnitude",
            "regrowth": "ch3_l3p",
            "early_stop": 0.9,
            "percolation": True,
        },
        "new links start at 0; CSTI only where calibration data is given",
    ),
    "chts": Method(
        CHTS_PAPER,
        {
            "initial": {"rule": "brf", "r": 0.25},
            "input_initial": "csti",
            "removal": "magnitude",
            "regrowth": "ch2_l3n",
            "removal_exponent": "delta_linear",
            "regrowth_exponent": 1.0,
            "zeta_schedule": "cosine",
            "percolation": True,
        },
        "new links start at 0; CSTI (layers that see raw inputs) only with calibration data",
    ),
    "gmp": Method(
        GMP_PAPER,
        {"removal": "magnitude", "density_schedule": "cubic", "initial_sparsity": 0.0},
        "pruned links do not come back: their weights are not stored",
    ),
    "granet": Method(
        GRANET_PAPER,
        {
            "removal": "magnitude",
            "regrowth": "gradient",
            "zeta_schedule": "cosine",
            "density_schedule": "cubic",
            "initial_sparsity": 0.5,
        },
        "prunes each layer to the scheduled density; GraNet ranks all layers together",
    ),
}
METHODS["chtss"] = Method(
    CHTS_PAPER,
    {
        **METHODS["chts"].settings,
        "density_schedule": "sigmoid",
        "initial_sparsity": 0.5,
        "decay": "relative_importance",
    },
    "as chts; the sigmoid ends with the last update, where the paper halves it for equal FLOPs",
)


def _control(name: str, question: str, **changed: Any) -> Method:
    """A row that differs from another one in one thing only, to find out what that thing does."""
    row = METHODS[name]
    return Method(row.paper, {**row.settings, **changed}, f"control, {name} with {question}")


METHODS["chts_random"] = _control("chts", "random regrowth", regrowth="random")
METHODS["rigl_soft"] = _control("rigl", "soft removal", removal_exponent="delta_linear")
METHODS["set_cosine"] = _control("set", "the cosine drop fraction", zeta_schedule="cosine")
METHODS["static_brf"] = _control("static", "a BRF start", initial={"rule": "brf", "r": 0.25})


def _ours(name: str, what: str, **changed: Any) -> Method:
    """A row of this project's own: another one with something that no paper has in it."""
    row = METHODS[name]
    paper = f"hf_chts, not from a paper; {name}: {row.paper}"
    return Method(paper, {**row.settings, **changed}, f"{name} with {what}")


TIED = ("static", "set", "chts", "chtss")
METHODS |= {f"{name}_tied": _ours(name, "tied_links", tied_links=True) for name in TIED}
FIRE = "regrowth between neurons that fire together"
METHODS["hebbian"] = _ours("chts", FIRE, regrowth="hebbian")
METHODS["hebbian_sigmoid"] = _ours("chtss", FIRE, regrowth="hebbian")
METHODS["chtss_obd"] = _ours(
    "chtss",
    "links shared out over layers by Optimal Brain Damage (LeCun et al., NIPS 1989) as the density "
    "falls",
    layer_density="obd",
)
METHODS["chtss_cubic"] = _ours(
    "chtss",
    "links that go early and by magnitude, ranked, as those of granet: for trained weights",
    density_schedule="cubic",
    removal_exponent="ranked",
    decay=None,
)
METHODS["hebbian_ch"] = _ours(
    "chts",
    "regrowth by the geometric mean of CH2-L3n and Hebbian scores",
    regrowth="ch2_l3n_hebbian",
)
METHODS["chts_normalised"] = _ours(
    "chts", "CH2-L3n divided by the root of both degrees", regrowth="ch2_l3n_normalised"
)
METHODS["chts_weighted"] = _ours(
    "chts", "regrowth by the weights along paths of length three", regrowth="weighted_paths"
)


def settle_method(config: SparsityConfig, *, layers_meet: bool) -> SparsityConfig:
    """Decide what ``method="auto"`` means.

    Kept weights call for a density that falls, early, while the others make up for what goes
    (recipes/multi30k_en_de/README.md, "A trained dense model made sparse").

    Args:
        config: Any configuration; one that names its method stays as it is.
        layers_meet: Whether the model has layers that can share links.
    """
    if config.method != "auto":
        return config
    if config.weight_init == "keep":
        start = config.initial_sparsity
        if start is None:
            start = METHODS["chtss_cubic"].settings["initial_sparsity"]
        method = "chtss_cubic" if config.sparsity > start else "chts"
        return dataclasses.replace(config, method=method)
    can_share = layers_meet and config.layer_density != "obd" and config.tied_links is not False
    return dataclasses.replace(config, method="chts_tied" if can_share else "chts")


def resolve(config: SparsityConfig) -> SparsityConfig:
    """Fill the open fields of a configuration from its method's row.

    ``method="auto"``, which :func:`hf_chts.sparsify` settles for a model, counts as where layers
    can share links.

    Raises:
        ValueError: If the method is unknown, or a density schedule has no start or one that is
            sparser than its end.
    """
    config = settle_method(config, layers_meet=True)
    if config.method not in METHODS:
        close = difflib.get_close_matches(config.method, ["auto", *METHODS], n=1)
        hint = f"did you mean {close[0]!r}? " if close else ""
        raise ValueError(f"no method {config.method!r}: {hint}known: auto, {', '.join(METHODS)}")
    settings = {**DEFAULTS, **METHODS[config.method].settings}
    if METHODS[config.method].extra_density:
        start = config.sparsity - METHODS[config.method].extra_density
        settings["initial_sparsity"] = max(0.0, round(start, 9))
    open_fields = {k: v for k, v in settings.items() if getattr(config, k) is None}
    try:
        resolved = dataclasses.replace(config, **open_fields)
    except ValueError as error:  # a start sparser than the end that was asked for
        row = f"from the row of method {config.method!r}: set it yourself"
        raise ValueError(f"{error}, {row}") from None
    if resolved.density_schedule != "constant" and resolved.initial_sparsity is None:
        raise ValueError(
            f"density_schedule {resolved.density_schedule!r} takes initial_sparsity, the sparsity "
            "that it starts from"
        )
    return resolved
