import math

import numpy as np
import pytest
from hidden_geometry import bipartite_ring_mask

from hf_chts.analysis import remembered
from hf_chts.analysis.clustering import (
    characteristic_path_length,
    lattice,
    robins_alexander_clustering,
)
from hf_chts.analysis.community import communities
from hf_chts.analysis.hyperbolic import coalescent_embedding
from hf_chts.analysis.measures import MEASURES, table
from hf_chts.analysis.navigation import greedy_routing, link_probability
from hf_chts.analysis.network import Undefined
from hf_chts.analysis.null_models import compare, er, rewired

LAYER = bipartite_ring_mask(40, 50, 8, seed=0, noise=0.1)[0]
LAYER |= np.random.default_rng(0).random(LAYER.shape) < 0.02
every_measure = pytest.mark.parametrize("measure", MEASURES.values(), ids=MEASURES)
SPECIAL = {
    "empty": np.zeros((5, 6), dtype=bool),
    "full": np.ones((5, 6), dtype=bool),
    "one link": np.eye(5, 6, dtype=bool) & (np.arange(5)[:, None] == 0),
    "matching": np.eye(5, 6, dtype=bool),
    "star": np.arange(5)[:, None] * np.ones((1, 6), dtype=int) == 0,
    "one neuron": np.ones((1, 1), dtype=bool),
    "two halves": np.kron(np.eye(2), np.ones((4, 4))).astype(bool),
}


@every_measure
def test_every_measure_is_a_number_of_a_layer(measure):
    value = measure.function(LAYER, 0)
    assert isinstance(value, float)
    assert math.isfinite(value)
    assert value == measure.function(LAYER.copy(), 0)


@every_measure
@pytest.mark.parametrize("mask", SPECIAL.values(), ids=SPECIAL)
@pytest.mark.filterwarnings("error")
def test_no_measure_is_nan_or_fails(measure, mask):
    value = measure.function(mask, 0)
    assert isinstance(value, Undefined) or math.isfinite(value)


@every_measure
def test_every_measure_says_what_it_is(measure):
    assert MEASURES[measure.name] is measure
    assert measure.unit
    assert measure.source
    assert measure.cost in ("cheap", "costly")


def test_measures_are_those_of_the_functions():
    embedding = coalescent_embedding(LAYER, seed=0)
    routing = greedy_routing(embedding, LAYER, seed=0)
    values = {name: measure.function(LAYER, 0) for name, measure in MEASURES.items()}
    assert values["density"] == LAYER.mean()
    assert values["routing_score"] == routing.score
    assert values["routing_success"] == routing.success
    assert values["routing_stretch"] == routing.stretch
    assert values["distance_auc"] == link_probability(embedding, LAYER, seed=0).auc
    assert values["modularity"] == communities(LAYER, seed=0).modularity.barber
    assert values["clustering"] == robins_alexander_clustering(LAYER)


def test_small_world_indices_by_hand():
    random = [rewired(LAYER, seed) for seed in range(3)]
    clustering = np.mean([robins_alexander_clustering(one) for one in random])
    length = np.mean([characteristic_path_length(one).mean for one in random])
    own, own_length = robins_alexander_clustering(LAYER), characteristic_path_length(LAYER).mean
    sigma = (own / clustering) / (own_length / length)
    omega = length / own_length - own / robins_alexander_clustering(lattice(LAYER))
    assert MEASURES["small_world_sigma"].function(LAYER, 0) == pytest.approx(sigma)
    assert MEASURES["small_world_omega"].function(LAYER, 0) == pytest.approx(omega)


def test_a_geometric_layer_shows_in_every_measure_of_geometry():
    rows = table(
        {"ring": LAYER},
        measures=["routing_score", "distance_auc", "angular_separation", "modularity"],
        nulls=["er"],
        n=5,
    )
    for row in rows:
        assert row.comparison.z_score > 2, row.measure


def test_neighbouring_results_are_remembered_but_not_mixed_up():
    other = er(LAYER, 1)
    first = remembered.embedding(LAYER, 0)
    assert remembered.embedding(LAYER.copy(), 0) is first
    assert (remembered.embedding(other, 0).angle != first.angle).any()
    assert remembered.embedding(LAYER, 0) is not first
    wide = remembered.embedding(np.ones((2, 6), dtype=bool), 0)
    tall = remembered.embedding(np.ones((6, 2), dtype=bool), 0)
    assert wide.nodes != tall.nodes


# Tables


def test_rows_come_by_layer_measure_and_null_model():
    rows = table({"b": LAYER, "a": er(LAYER)}, measures=["clustering", "density"],
                 nulls=["er", "rewired"], n=2)  # fmt: skip
    assert [(row.layer, row.measure, row.null) for row in rows] == [
        (layer, measure, null)
        for layer in "ba"
        for measure in ("clustering", "density")
        for null in ("er", "rewired")
    ]
    assert rows[0].unit == MEASURES["clustering"].unit


@pytest.mark.parametrize("null", ["er", "rewired"])
def test_a_row_is_the_comparison(null):
    rows = table({"x": LAYER}, measures=["clustering", "modularity"], nulls=[null], n=3, seed=7)
    for row in rows:
        measure = MEASURES[row.measure].function
        assert row.comparison == compare(measure, LAYER, null=null, n=3, seed=7)


def test_cheap_measures_are_taken_by_default():
    rows = table({"x": LAYER}, nulls=[])
    assert [row.measure for row in rows] == [
        name for name, measure in MEASURES.items() if measure.cost == "cheap"
    ]


def test_values_without_null_models():
    (row,) = table({"x": LAYER}, measures=["density"], nulls=[])
    assert row.null == ""
    assert row.comparison.value == LAYER.mean()
    assert row.comparison.z_score == Undefined("no null model was asked for")


def test_progress_is_told_after_each_evaluation():
    told = []
    table({"x": LAYER, "y": LAYER}, measures=["density", "clustering"], n=3,
          on_progress=lambda *news: told.append(news))  # fmt: skip
    assert [done for done, _, _ in told] == list(range(1, 17))
    assert {total for _, total, _ in told} == {16}
    assert told[0][2] == "x: density"
    assert told[-1][2] == "y: clustering"


def test_bad_tables_are_refused_before_anything_is_computed():
    def no_news(*news):
        raise AssertionError(news)

    with pytest.raises(ValueError, match=r"unknown measures \['beauty'\]; take some of: density"):
        table({"x": LAYER}, measures=["density", "beauty"], on_progress=no_news)
    with pytest.raises(ValueError, match="unknown null model 'ba'"):
        table({"x": LAYER}, nulls=["er", "ba"], on_progress=no_news)
    with pytest.raises(ValueError, match="2 random layers or more"):
        table({"x": LAYER}, n=1, on_progress=no_news)
    with pytest.raises(TypeError, match="boolean"):
        table({"x": LAYER, "y": LAYER.astype(int)}, on_progress=no_news)
