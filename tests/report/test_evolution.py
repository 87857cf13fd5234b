import pytest
from made_up_runs import OpenStore, links, made_up_run, quiet, run_through

from hf_chts.report.evolution import COUNTS, evolutions, shown_steps

HISTORY = {
    0: {"fc": links("1110", "1000")},
    10: {"fc": links("1101", "0010")},
    20: {"fc": links("0001", "0000")},
}


@pytest.fixture
def store():
    return OpenStore()


@pytest.fixture
def evolution(tmp_path, store):
    (found,) = evolutions(run_through(tmp_path, HISTORY), ["fc"], store, quiet)
    return found


def test_counts_at_each_step(evolution):
    assert [dict(zip(COUNTS, row, strict=True)) for row in evolution.counts] == [
        {
            "active links": "4",
            "grown since the snapshot before": "0",
            "removed since the snapshot before": "0",
            "shared with the start": "4 of 4 (100%)",
            "largest input degree": "2",
            "largest output degree": "3",
            "degree heterogeneity, inputs": "1.500",  # degrees 2, 1, 1, 0
            "degree heterogeneity, outputs": "1.250",  # degrees 3, 1
            "neurons without a link": "1 of 6",
        },
        {
            "active links": "4",
            "grown since the snapshot before": "2",
            "removed since the snapshot before": "2",
            "shared with the start": "2 of 4 (50%)",
            "largest input degree": "1",
            "largest output degree": "3",
            "degree heterogeneity, inputs": "1.000",
            "degree heterogeneity, outputs": "1.250",
            "neurons without a link": "0 of 6",
        },
        {
            "active links": "1",
            "grown since the snapshot before": "0",
            "removed since the snapshot before": "3",
            "shared with the start": "0 of 4 (0%)",
            "largest input degree": "1",
            "largest output degree": "1",
            "degree heterogeneity, inputs": "4.000",
            "degree heterogeneity, outputs": "2.000",
            "neurons without a link": "4 of 6",
        },
    ]


def test_degrees_at_each_step(evolution, store):
    assert evolution.whole
    assert len(evolution.pictures) == 3
    assert store.lines("evolution-inputs-fc")["step 0"] == ([1, 2], [1.0, 1 / 3])
    assert store.lines("evolution-outputs-fc")["step 20"] == ([1], [1.0])


def test_a_layer_that_began_without_links(tmp_path, store):
    run = run_through(tmp_path, {0: {"fc": links("00")}, 10: {"fc": links("11")}})
    (found,) = evolutions(run, ["fc"], store, quiet)
    assert found.counts[0][3] == "0 of 0"
    assert found.counts[0][6] == "not defined: no neuron has a link"
    assert found.counts[1][:2] == ["2", "2"]


def test_at_most_twelve_steps_are_shown():
    assert shown_steps(made_up_run(steps=[0])) == []
    steps = shown_steps(made_up_run(steps=list(range(0, 250, 10))))
    assert (len(steps), steps[0], steps[-1]) == (12, 0, 240)


def test_one_snapshot_is_no_evolution(tmp_path, store):
    run = run_through(tmp_path, {0: HISTORY[0]})
    assert evolutions(run, ["fc"], store, quiet) == []
