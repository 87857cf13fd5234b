import math

from made_up_runs import OpenStore, links, made_up_run

from hf_chts.report.comparison import comparison

ONE = {"a": links("1100", "0000"), "b": links("1100", "0000"), "c": links("00", "00")}
OTHER = {"a": links("1000", "1000"), "b": links("0011", "0000"), "c": links("01", "00")}


def test_a_layer_that_shares_nothing_has_its_dot_at_zero():
    store = OpenStore()
    comparison(made_up_run(name="one", final=ONE), [made_up_run(name="two", final=OTHER)], store)
    (places, layers) = store.lines("comparison-overlap")["two"]
    assert places[:2] == [2.0, 0.0]  # one link shared where 2 x 2 / 8 are expected; none
    assert math.isnan(places[2])  # without links there is no ratio
    assert layers == [0, 1, 2]
    title = store.figures["comparison-overlap"].axes[0].get_title(loc="left")
    assert title == "Links of two shared with one"


def test_links_that_all_layers_share():
    runs = made_up_run(name="one", final=ONE), made_up_run(name="two", final=OTHER)
    (row,) = comparison(runs[0], runs[1:], OpenStore()).shared
    # 1 of 8 links; 1 by chance, of variance 2 x 6 x 6 x 2 / (8 x 8 x 7) in both layers
    assert row.cells == ["1 (1 by chance)", "0.125", "1", "0"]


def test_settings_that_differ():
    one = made_up_run(name="one", recipe={"sparsity": {"sparsity": 0.9, "zeta": 0.3}, "seed": 1})
    two = made_up_run(name="two", recipe={"sparsity": {"sparsity": 0.5, "zeta": 0.3}})
    found = comparison(one, [two], OpenStore())
    assert found.settings == [("sparsity.sparsity", ["0.9", "0.5"]), ("seed", ["1", "-"])]
    assert found.chart is None


def test_a_run_alone_is_compared_with_none():
    assert comparison(made_up_run(), [], OpenStore()) is None
