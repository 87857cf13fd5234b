import numpy as np
import pytest
from made_up_runs import OpenStore, links, made_up_run, run_through

from hf_chts.report.neurons import active_share, neurons_section


def between(first, second):
    """The neurons that one layer feeds to the next."""
    ends = [[{"layer": first, "axis": "out", "index": None}]]
    return [*ends, [{"layer": second, "axis": "in", "index": None}]]


GROUPS = [between("encoder.fc1", "encoder.fc2"), between("decoder.fc1", "decoder.fc2")]
FULL = {"fc1": links("11", "11", "11", "11"), "fc2": links("1111", "1111")}


def masks(*, encoder=(), decoder=()):
    """All links, but neurons that are named have none that arrive."""
    found = {f"{part}.{n}": m.copy() for part in ("encoder", "decoder") for n, m in FULL.items()}
    found["encoder.fc1"][list(encoder)] = False
    found["decoder.fc1"][list(decoder)] = False
    return found


HISTORY = {
    0: masks(encoder=[0]),
    10: masks(encoder=[0, 1, 2], decoder=[3]),
    20: masks(encoder=[0, 1]),
}


@pytest.fixture
def store():
    return OpenStore()


def test_rows_start_dip_and_end(tmp_path, store):
    run = run_through(tmp_path, HISTORY, groups=GROUPS)
    encoder, decoder = neurons_section(run, store).rows
    assert (encoder.name, decoder.name) == ("encoder: fc1 > fc2", "decoder: fc1 > fc2")
    assert (encoder.neurons, decoder.neurons) == (4, 4)
    assert (encoder.start, encoder.lowest, encoder.end) == (0.75, 0.25, 0.5)
    assert (decoder.start, decoder.lowest, decoder.end) == (1.0, 0.75, 1.0)


def test_the_last_links_may_be_the_lowest(tmp_path, store):
    """They are those of the saved model, which no snapshot need hold."""
    run = run_through(tmp_path, HISTORY, groups=GROUPS, final=masks(decoder=[0, 1]))
    encoder, decoder = neurons_section(run, store).rows
    assert (encoder.start, encoder.lowest, encoder.end) == (0.75, 0.25, 1.0)
    assert (decoder.start, decoder.lowest, decoder.end) == (1.0, 0.5, 0.5)


def test_the_curve_and_the_pictures_of_those_that_lost_neurons(tmp_path, store):
    found = neurons_section(run_through(tmp_path, HISTORY, groups=GROUPS), store)
    assert store.lines("neurons-anp") == {
        "encoder feed-forward": ([0, 10, 20], [0.75, 0.25, 0.5]),
        "decoder feed-forward": ([0, 10, 20], [1.0, 0.75, 1.0]),
    }
    assert (len(found.pictures), found.left_out) == (2, 0)
    names = [name for name in store.figures if name != "neurons-anp"]
    assert names == ["neurons-encoder-fc1-encoder-fc2", "neurons-decoder-fc1-decoder-fc2"]


def test_only_the_groups_that_lost_most_are_drawn(tmp_path, store):
    names = [f"layers.{i}" for i in range(14)]
    full = {f"{n}.{k}": mask for n in names for k, mask in FULL.items()}
    dipped = {name: mask.copy() for name, mask in full.items()}
    for i, name in enumerate(names[:-1]):
        dipped[f"{name}.fc1"][: 3 if i == 12 else 1] = False
    groups = [between(f"{name}.fc1", f"{name}.fc2") for name in names]
    run = run_through(tmp_path, {0: full, 10: dipped, 20: full}, groups=groups)
    found = neurons_section(run, store)
    assert (len(found.pictures), found.left_out) == (12, 1)
    drawn = [name for name in store.figures if name != "neurons-anp"]
    assert drawn[0] == "neurons-layers-12-fc1-layers-12-fc2"
    assert not any("layers-13" in name for name in drawn)  # it lost none


def test_correlation_of_degrees_on_both_sides(store):
    first, second = links("100", "110", "111"), links("111", "110", "100")
    against = made_up_run(final={"fc1": first, "fc2": second}, groups=[between("fc1", "fc2")])
    (row,) = neurons_section(against, store).rows
    assert row.correlation.value == pytest.approx(-1)
    assert row.correlation.text == "-1.00"
    assert row.shared.text == "1.20"  # 4, of the 10 / 3 that chance gives
    same = made_up_run(final={"fc1": first, "fc2": np.ones((2, 3), bool)}, groups=against.groups)
    (row,) = neurons_section(same, store).rows
    assert row.correlation.value is None
    assert row.correlation.text == (
        "not defined: all active neurons have the same degree on a side"
    )
    assert row.shared.text == "not defined: the layers link 3 and 2 other neurons"


def test_without_snapshots_only_the_end_is_known(store):
    run = made_up_run(final=HISTORY[20], groups=GROUPS)
    found = neurons_section(run, store)
    assert (found.curve, found.pictures, found.left_out) == (None, [], 0)
    assert (found.rows[0].start, found.rows[0].lowest, found.rows[0].end) == (0.5, 0.5, 0.5)


def test_the_share_of_all_neurons_in_words():
    assert active_share(made_up_run(final=HISTORY[10], groups=GROUPS)) == "50.0%"
    assert active_share(made_up_run(final=HISTORY[10])) == "unknown"
    none = "not defined: no neurons lie between two sparse layers"
    assert active_share(made_up_run(final=HISTORY[10], groups=[])) == none


def test_unknown_groups_have_no_section(store):
    assert neurons_section(made_up_run(final=HISTORY[10]), store) is None
