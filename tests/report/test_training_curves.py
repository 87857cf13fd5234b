import pytest
from made_up_runs import OpenStore, links, made_up_run, run_through

from hf_chts.report.training_curves import (
    explored,
    itop_rate,
    last_update,
    topology_charts,
    training_charts,
)


def update(step, name, n_links, density, **more):
    return {"step": step, "name": name, "n_links": n_links, "density": density, **more}


# fc has 100 possible links, q has 1,000
UPDATES = [
    update(2, "fc", 50, 0.5, itop=0.6, removed=5, overlap=0.25),
    update(2, "q", 100, 0.1, itop=0.2, removed=10, overlap=0.75),
    update(4, "fc", 40, 0.4, itop=0.7, removed=0, overlap=0.0),
    update(4, "q", 110, 0.11, itop=0.3, removed=3, overlap=0.5),
]


def charts(make, *runs):
    store = OpenStore()
    return make(runs, store), store


def test_shares_of_all_layers_weigh_each_by_its_possible_links():
    _, store = charts(topology_charts, made_up_run(name="one", updates=UPDATES))
    for chart, expected in {
        "topology-density": [150 / 1100, 150 / 1100],
        "topology-itop": [260 / 1100, 370 / 1100],
        "topology-moved": [15 / 150, 3 / 150],
        "topology-overlap": [0.5, 0.25],
    }.items():
        steps, values = store.lines(chart)["one"]
        assert steps == [2, 4], chart
        assert values == pytest.approx(expected), chart


def test_the_rate_of_one_update():
    assert itop_rate(UPDATES[:2]) == pytest.approx(260 / 1100)
    assert itop_rate([{"itop": 0.5}]) is None  # of unknown size
    assert itop_rate([]) is None


def test_links_that_were_ever_active(tmp_path):
    assert explored(made_up_run(updates=UPDATES)) == pytest.approx((0.7 * 100 + 0.3 * 1000) / 1100)
    assert explored(made_up_run(finished=True)) is None
    start, moved = {"fc": links("1000", "0100")}, {"fc": links("1000", "0010")}
    still = run_through(tmp_path / "still", {0: start, 9: start}, finished=True)
    assert explored(still) == 0.25
    assert explored(run_through(tmp_path / "begun", {0: start, 9: start})) is None
    # the links have moved, and the log of it is lost
    assert explored(run_through(tmp_path / "lost", {0: start, 9: moved}, finished=True)) is None


def test_density_of_all_layers_together():
    final = {"fc1": links("1000", "0000"), "fc2": links("11", "00")}
    assert made_up_run(final=final).density == 3 / 12
    with pytest.raises(ValueError, match="a run without links has no density"):
        _ = made_up_run().density


def test_the_last_update_has_a_line_for_each_layer():
    assert last_update(made_up_run(updates=UPDATES)) == UPDATES[2:]
    assert last_update(made_up_run()) == []


def test_what_was_logged_is_drawn_as_it_is():
    metrics = [{"step": 1, "loss": 5.5}, {"step": 2, "loss": 4.25, "eval_bleu": 7.0}, {"step": 3}]
    runs = (made_up_run(name="one", metrics=metrics), made_up_run(name="two"))
    found, store = charts(training_charts, *runs)
    assert list(store.figures) == ["training-loss", "training-eval-bleu"]
    assert store.lines("training-loss") == {"one": ([1, 2], [5.5, 4.25])}
    assert store.lines("training-eval-bleu") == {"one": ([2], [7.0])}
    assert found[0].caption == "Label smoothing included, dropout on."
    assert store.figures["training-loss"].axes[0].get_ylabel() == "nats per token"


def test_figures_of_the_monitor_stand_beside_those_of_the_updates():
    metrics = [
        {"step": 2, "topology_overlap_start": 0.5, "topology_active_neurons": 0.75},
        {"step": 4, "topology_active_neurons": 0.25},
    ]
    _, store = charts(topology_charts, made_up_run(name="one", metrics=metrics))
    overlap, anp = "training-topology-overlap-start", "training-topology-active-neurons"
    assert list(store.figures) == [overlap, anp]
    assert store.lines(overlap) == {"one": ([2], [0.5])}
    assert store.lines(anp) == {"one": ([2, 4], [0.75, 0.25])}


def test_without_logs_there_are_no_curves():
    for make in (training_charts, topology_charts):
        assert charts(make, made_up_run())[0] == []
