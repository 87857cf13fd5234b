from __future__ import annotations

import numpy as np
import pytest
import torch
from families import FAMILIES, make
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from hf_chts import SparsityConfig, sparse_layers, sparsify
from hf_chts.analysis.network import Undefined
from hf_chts.analysis.neurons import anp, check_groups, degree_correlation, group_name, shared_links
from hf_chts.monitor import groups_as_data
from hf_chts.network.wiring import hidden_groups
from hf_chts.rules.percolation import End, active_neuron_rate, percolate


def end(layer, axis, index=None):
    return {"layer": layer, "axis": axis, "index": index}


CHAIN = [
    [[end("a", "out")], [end("b", "in")]],
    [[end("b", "out")], [end("c", "in")]],
]


def mask(*rows):
    return np.array([[link == "1" for link in row] for row in rows])


def test_inactive_neurons_cascade() -> None:
    masks = {"a": mask("11", "10", "00"), "b": mask("101", "001"), "c": mask("11")}
    before = {name: m.copy() for name, m in masks.items()}
    # a's neuron 1 leads nowhere and 2 gets nothing; so b's neuron 1 has no link that counts
    found = anp(masks, CHAIN)
    assert found.groups["a > b"].tolist() == [True, False, False]
    assert found.groups["b > c"].tolist() == [True, False]
    assert found.rates == {"a > b": pytest.approx(1 / 3), "b > c": 0.5}
    assert found.overall == pytest.approx(2 / 5)
    assert all((masks[name] == before[name]).all() for name in masks)


@given(st.data(), st.lists(st.integers(1, 5), min_size=4, max_size=4))
def test_same_as_percolation(data, widths) -> None:
    masks = {
        name: data.draw(hnp.arrays(bool, (n_out, n_in)))
        for name, n_in, n_out in zip("abc", widths, widths[1:], strict=False)
    }
    groups = [[[End("a", "out")], [End("b", "in")]], [[End("b", "out")], [End("c", "in")]]]
    percolated = percolate({n: torch.from_numpy(m) for n, m in masks.items()}, groups)
    found = anp(masks, CHAIN)
    assert found.overall == pytest.approx(active_neuron_rate(percolated, groups))
    for name, links in percolated.items():
        assert anp({**masks, name: links.numpy()}, CHAIN).overall == pytest.approx(found.overall)


@pytest.mark.parametrize("name", FAMILIES)
def test_same_as_percolation_in_every_family(name) -> None:
    """Gates, heads that share keys, rotary pairs, either-or values and fused layers."""
    model = make(name)
    sparsify(model, SparsityConfig(method="set", sparsity=0.93))
    groups = hidden_groups(model)
    masks = {n: layer.mask for n, layer in sparse_layers(model).items()}
    found = anp(masks, groups_as_data(groups))
    rate = active_neuron_rate(percolate(masks, groups), groups)
    assert found.overall == pytest.approx(rate)
    assert 0 < rate < 1
    assert len(found.groups) == len(groups)  # no two of them have one name


def test_no_groups() -> None:
    found = anp({"a": mask("1")}, [])
    assert found.rates == {}
    assert found.overall == Undefined("no neurons lie between two sparse layers")


def test_names_of_groups() -> None:
    assert group_name([[end("k", "out")], [end("q", "out", [0, 1]), end("q", "out", [2, 3])]]) == (
        "k | q"
    )
    gated = [[end("gate", "out")], [end("up", "out")], [end("down", "in")]]
    assert group_name(gated) == "gate > up > down"
    either = [[end("v", "out"), end("v_global", "out")], [end("o", "in")]]
    assert group_name(either) == "v + v_global > o"


def test_degrees_go_together() -> None:
    first = mask("1111", "0111", "0011", "0000")  # in-degrees 4, 3, 2; the last is not active
    second = mask("1111", "1101", "1000")  # out-degrees 3, 2, 1
    found = degree_correlation({"a": first, "b": second}, CHAIN[:1])["a > b"]
    assert (found.pearson, found.spearman) == (pytest.approx(1), pytest.approx(1))
    assert found.n_neurons == 3
    turned = degree_correlation({"a": first, "b": second[:, [2, 1, 0, 3]]}, CHAIN[:1])["a > b"]
    assert turned.pearson == pytest.approx(-1)


def test_degrees_of_queries_and_keys_and_gates() -> None:
    generator = np.random.default_rng(0)
    masks = {name: generator.random((12, 9)) < 0.5 for name in ("q", "k", "gate", "up")}
    masks["down"] = generator.random((9, 12)) < 0.5
    meet = [[end("k", "out")], [end("q", "out")]]
    gated = [[end("gate", "out")], [end("up", "out")], [end("down", "in")]]
    found = degree_correlation(masks, [meet, gated])
    k, q, gate, up = (masks[name].sum(1) for name in ("k", "q", "gate", "up"))
    assert found["k | q"].pearson == pytest.approx(np.corrcoef(k, q)[0, 1])
    expected = np.corrcoef(gate + up, masks["down"].sum(0))[0, 1]
    assert found["gate > up > down"].pearson == pytest.approx(expected)


def test_degrees_of_heads_that_share_keys() -> None:
    q, k = mask("111", "100", "110", "000", "111", "000"), mask("111", "011", "001")
    group = [[end("k", "out")], [end("q", "out", [0, 1, 2]), end("q", "out", [3, 4, 5])]]
    found = degree_correlation({"q": q, "k": k}, [group])["k | q"]
    assert found.pearson == pytest.approx(np.corrcoef([3, 2, 1], [3, 1 + 3, 2])[0, 1])


def test_degrees_that_cannot_be_correlated() -> None:
    few = degree_correlation({"a": mask("11", "01"), "b": mask("11")}, CHAIN[:1])["a > b"]
    assert few == Undefined("2 active neurons are too few to correlate their degrees")
    equal = degree_correlation({"a": mask("1", "1", "1"), "b": mask("111", "100")}, CHAIN[:1])
    assert equal["a > b"] == Undefined("all active neurons have the same degree on a side")


def test_links_that_layers_share() -> None:
    first, second = mask("1100", "0110"), mask("10", "01", "01", "01")
    # neuron 0 shares input 0 of 2 and 1 links, neuron 1 inputs 1 and 2 of 2 and 3: 3 of 8 / 4
    assert shared_links({"a": first, "b": second}, CHAIN[:1]) == {"a > b": pytest.approx(1.5)}
    meet = [[end("k", "out")], [end("q", "out", [1, 0])]]
    found = shared_links({"k": first, "q": first[::-1]}, [meet])
    assert found == {"k | q": pytest.approx(2)}  # the same links: 1 over the density


def test_links_that_gated_layers_share_and_that_none_can() -> None:
    masks = {"gate": mask("11", "10"), "up": mask("10", "10"), "down": mask("11", "00")}
    gated = [[end("gate", "out")], [end("up", "out")], [end("down", "in")]]
    # gate and up 2 of 3 / 2, gate and down 2 of 3 / 2, up and down 2 of 2 / 2
    assert shared_links(masks, [gated]) == {"gate > up > down": pytest.approx(6 / 4)}
    wide = shared_links({"a": mask("11"), "b": mask("1", "1", "1")}, CHAIN[:1])["a > b"]
    assert wide == Undefined("the layers link 2 and 3 other neurons")
    bare = shared_links({"a": mask("10", "00"), "b": mask("01", "00")}, CHAIN[:1])["a > b"]
    assert bare == Undefined("no neuron has links to two of the layers")


@pytest.mark.parametrize(
    ("group", "message"),
    [
        ([[end("a", "out")]], "two sides or more"),
        ([[end("a", "out")], []], "each with an end"),
        ([[end("a", "out")], [end("z", "in")]], "no mask of layer z"),
        ([[end("a", "out")], [end("b", "up")]], "'out' or 'in'; got 'up'"),
        ([[end("a", "out")], [end("b", "in", [0, 2])]], r"distinct integers in \[0, 2\)"),
        ([[end("a", "out")], [end("b", "in", [-1, 0])]], r"distinct integers in \[0, 2\)"),
        ([[end("a", "out")], [end("b", "in", [0.0, 1.0])]], "distinct integers"),
        ([[end("a", "out", [])], [end("b", "in", [])]], "at least one"),
        ([[end("a", "out")], [end("b", "in", [True, False])]], "distinct integers"),
        ([[end("a", "out")], [end("b", "in", [[0, 1]])]], "distinct integers"),
        ([[end("a", "out")], [end("b", "in", 1)]], "distinct integers"),
        ([[end("a", "out")], [{"axis": "in"}]], "an end is a mapping with a layer and an axis"),
        ([[end("a", "out")], ["b"]], "an end is a mapping with a layer and an axis; got 'b'"),
        ([[end("a", "out")], [end("b", "in", [1, 1])]], "distinct"),
        ([[end("a", "out")], [end("b", "in", [0])]], r"a > b differ in neurons: \[1, 2\]"),
    ],
)
def test_groups_that_do_not_fit(group, message) -> None:
    masks = {"a": mask("1", "1"), "b": mask("11")}
    for measure in (check_groups, anp, degree_correlation, shared_links):
        with pytest.raises(ValueError, match=message):
            measure(masks, [group])
    with pytest.raises(TypeError, match="boolean"):
        check_groups({"a": np.ones((1, 1))}, [])
