"""All measures of a layer that are one number, and tables of them beside random layers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from numpy.typing import ArrayLike

from hf_chts.analysis.clustering import (
    characteristic_path_length,
    latapy_clustering,
    robins_alexander_clustering,
)
from hf_chts.analysis.degree import degrees, heterogeneity
from hf_chts.analysis.meta_depth import meta_depth
from hf_chts.analysis.network import Mask, Undefined, check_mask
from hf_chts.analysis.null_models import (
    NULL_MODELS,
    Comparison,
    ScalarMeasure,
    beside,
    check_null,
)
from hf_chts.analysis.organisation import (
    assortativity,
    lcp_correlation,
    rich_club,
    structural_consistency,
)
from hf_chts.analysis.remembered import (
    angular_separation,
    distance_auc,
    modularity,
    power_law,
    routing,
    small_world,
)


@dataclass(frozen=True)
class Measure:
    """A number that can be computed of any layer.

    Attributes:
        name: Key in :data:`MEASURES`.
        function: From a mask and a seed to the number.
        unit: What the number counts, and its range.
        source: Paper.
        cost: ``"cheap"`` for at most about 20 seconds on one core, on a layer of 4,096 x 4,096
            neurons at a density of 0.1, ``"costly"`` for more.
        sampled_above: Neurons of a square layer, both sides together, above which it rests on a
            random sample; None if it never does.
    """

    name: str
    function: ScalarMeasure
    unit: str
    source: str
    cost: Literal["cheap", "costly"] = "cheap"
    sampled_above: int | None = None


@dataclass(frozen=True)
class Row:
    """One measure of one layer beside one null model.

    Attributes:
        layer: Name of the layer.
        measure: Key in :data:`MEASURES`.
        unit: Of value, mean and standard deviation.
        null: Null model, ``""`` if none was asked for.
        comparison: The value, and where it lies among the random layers.
    """

    layer: str
    measure: str
    unit: str
    null: str
    comparison: Comparison


def table(
    masks: Mapping[str, ArrayLike],
    *,
    measures: Sequence[str] | None = None,
    nulls: Sequence[str] = ("rewired",),
    n: int = 10,
    seed: int = 0,
    on_progress: Callable[[int, int, str], None] | None = None,
) -> list[Row]:
    """Measure layers and random layers like them.

    Args:
        masks: Layers by name.
        measures: Keys of :data:`MEASURES`; by default all cheap ones.
        nulls: Null models, ``"rewired"`` or ``"er"``; none for values alone.
        n: Random layers of each null model, at least 2; all measures see the same ones.
        seed: Of the measures; the random layers have the seeds ``seed``, ``seed + 1`` and so on.
        on_progress: Called after each evaluation of a measure with the evaluations done, those
            in all, and the layer and measure just done.

    Returns:
        Rows by layer, measure and null model, in the order given.

    Raises:
        TypeError: If a mask is not boolean.
        ValueError: If a name is unknown, ``n`` is below 2 or a mask has no two dimensions.
    """
    cheap = [one.name for one in MEASURES.values() if one.cost == "cheap"]
    names = list(cheap if measures is None else measures)
    if unknown := [name for name in names if name not in MEASURES]:
        raise ValueError(f"unknown measures {unknown}; take some of: {', '.join(MEASURES)}")
    for null in nulls:
        check_null(null, n)
    layers = {name: check_mask(mask) for name, mask in masks.items()}
    total, done = len(layers) * len(names) * (1 + n * len(nulls)), 0

    def evaluate(layer: str, mask: Mask) -> dict[str, float | Undefined]:
        nonlocal done
        values = {}
        for name in names:
            values[name] = MEASURES[name].function(mask, seed)
            done += 1
            if on_progress:
                on_progress(done, total, f"{layer}: {name}")
        return values

    rows = []
    for layer, mask in layers.items():
        values = evaluate(layer, mask)
        drawn = {
            null: [evaluate(layer, NULL_MODELS[null](mask, seed + k)) for k in range(n)]
            for null in nulls
        }
        for name in names:
            unit = MEASURES[name].unit
            for null, random_values in drawn.items():
                compared = beside(values[name], [random[name] for random in random_values])
                rows.append(Row(layer, name, unit, null, compared))
            if not nulls:
                none = Undefined("no null model was asked for")
                rows.append(Row(layer, name, unit, "", Comparison(values[name], none, none, none)))
    return rows


def _of(found: object, attribute: str) -> float | Undefined:
    """One number of a record, or why there is no record."""
    if isinstance(found, Undefined):
        return found
    value: float | Undefined = getattr(found, attribute)
    return value


_MUSCOLONI = "Muscoloni et al., Nature Communications 8:1615, 2017"
_CLAUSET = "Clauset, Shalizi, Newman, SIAM Review 51, 2009"
_HETEROGENEITY = "Lü and Zhou, Physica A 390, 2011"
MEASURES: dict[str, Measure] = {
    one.name: one
    for one in (
        Measure("density", lambda mask, seed: float(mask.mean()), "links over pairs", "definition"),
        Measure(
            "input_heterogeneity",
            lambda mask, seed: heterogeneity(degrees(mask).inputs),
            "<k^2>/<k>^2, from 1",
            _HETEROGENEITY,
        ),
        Measure(
            "output_heterogeneity",
            lambda mask, seed: heterogeneity(degrees(mask).outputs),
            "<k^2>/<k>^2, from 1",
            _HETEROGENEITY,
        ),
        Measure(
            "power_law_exponent",
            lambda mask, seed: _of(power_law(mask, seed), "gamma"),
            "exponent of the tail of all degrees, (1, 100)",
            _CLAUSET,
        ),
        Measure(
            "power_law_p_value",
            lambda mask, seed: _of(power_law(mask, seed), "p_value"),
            "below 0.1 there is no power law, [0, 1]",
            _CLAUSET,
        ),
        Measure(
            "meta_depth",
            lambda mask, seed: _of(meta_depth(mask), "depth"),
            "effective number of core levels, from 1, high in random layers that are not square",
            "Zhang et al., CHT, ICLR 2024; by k-cores",
        ),
        Measure(
            "clustering",
            lambda mask, seed: robins_alexander_clustering(mask),
            "share of three-link paths closed to squares, [0, 1]",
            "Robins and Alexander, 2004",
        ),
        Measure(
            "neighbourhood_overlap",
            lambda mask, seed: latapy_clustering(mask),
            "mean Jaccard index, [0, 1]",
            "Latapy, Magnien, Del Vecchio, Social Networks 30, 2008",
        ),
        Measure(
            "path_length",
            lambda mask, seed: _of(characteristic_path_length(mask, seed=seed), "mean"),
            "mean links between two neurons, from 1",
            "Watts and Strogatz, Nature 393, 1998",
            sampled_above=512,
        ),
        Measure(
            "small_world_sigma",
            lambda mask, seed: _of(small_world(mask, seed), "sigma"),
            "small world above 1",
            "Humphries and Gurney, PLoS ONE 3, 2008",
            "costly",
            sampled_above=512,
        ),
        Measure(
            "small_world_omega",
            lambda mask, seed: _of(small_world(mask, seed), "omega"),
            "lattice -1, small world 0, random 1",
            "Telesford et al., Brain Connectivity 1, 2011",
            "costly",
            sampled_above=512,
        ),
        Measure(
            "modularity", modularity, "Barber's, [-1, 1)", "Barber, Physical Review E 76, 2007"
        ),
        Measure(
            "rich_club",
            lambda mask, seed: rich_club(mask),
            "density among hubs, [0, 1]",
            "Colizza et al., Nature Physics 2, 2006",
        ),
        Measure(
            "assortativity",
            lambda mask, seed: assortativity(mask),
            "correlation, [-1, 1]",
            "Newman, Physical Review Letters 89, 2002",
        ),
        Measure(
            "lcp_correlation",
            lambda mask, seed: lcp_correlation(mask),
            "correlation, [-1, 1]",
            "Cannistraci et al., Scientific Reports 3:1613, 2013; Daminelli et al., 2015",
        ),
        Measure(
            "structural_consistency",
            lambda mask, seed: _of(structural_consistency(mask, seed=seed), "mean"),
            "share of hidden links found again, [0, 1]",
            "Lü et al., PNAS 112, 2015",
            "costly",
            sampled_above=2048,
        ),
        Measure(
            "routing_success",
            lambda mask, seed: _of(routing(mask, seed), "success"),
            "share of packets that arrive, [0, 1]",
            _MUSCOLONI,
            "costly",
            sampled_above=100,
        ),
        Measure(
            "routing_score",
            lambda mask, seed: _of(routing(mask, seed), "score"),
            "GR-score, [0, 1]",
            _MUSCOLONI,
            "costly",
            sampled_above=100,
        ),
        Measure(
            "routing_stretch",
            lambda mask, seed: _of(routing(mask, seed), "stretch"),
            "greedy over shortest path length, from 1",
            _MUSCOLONI,
            "costly",
            sampled_above=100,
        ),
        Measure(
            "distance_auc",
            distance_auc,
            "area under the curve of links by hyperbolic distance, [0, 1]",
            "Papadopoulos et al., Nature 489:537, 2012",
            "costly",
            sampled_above=894,
        ),
        Measure(
            "angular_separation",
            angular_separation,
            "index of the Louvain communities, [0, 1]",
            "Muscoloni and Cannistraci, arXiv:1907.00025, 2019",
            "costly",
            sampled_above=4096,
        ),
    )
}
