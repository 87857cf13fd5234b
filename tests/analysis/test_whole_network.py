from __future__ import annotations

import networkx as nx
import numpy as np
import pytest
from families import FAMILIES, make
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from hf_chts import SparsityConfig, sparse_layers, sparsify
from hf_chts.analysis.whole_network import chain
from hf_chts.monitor import groups_as_data
from hf_chts.network.wiring import hidden_groups

PERCEPTRON = [[[{"layer": "a", "axis": "out", "index": None}], [{"layer": "b", "axis": "in"}]]]


def network_of(name, **options):
    model = make(name)
    sparsify(model, SparsityConfig(method="set", sparsity=0.5))
    masks = {n: layer.mask for n, layer in sparse_layers(model).items()}
    return masks, chain(masks, groups_as_data(hidden_groups(model)), **options)


def sets_of(network, kind):
    """Sizes of the sets of neurons of one kind."""
    nodes = network.to_graph(drop_isolated=False).nodes.values()
    found: dict[str, int] = {}
    for node in nodes:
        if node["kind"] == kind:
            found[node["set"]] = found.get(node["set"], 0) + 1
    return found


def test_perceptron() -> None:
    a = np.array([[1, 0], [1, 1], [0, 0]], dtype=bool)
    b = np.array([[0, 1, 1]], dtype=bool)
    network = chain({"a": a, "b": b}, PERCEPTRON)
    graph = network.to_graph()
    assert sorted(graph.edges) == [
        ("a.in[0]", "a.out[0]"),
        ("a.in[0]", "a.out[1]"),
        ("a.in[1]", "a.out[1]"),
        ("a.out[1]", "b.out[0]"),
        ("a.out[2]", "b.out[0]"),
    ]
    assert nx.has_path(graph, "a.in[1]", "b.out[0]")
    assert graph.nodes["a.out[1]"] == {"set": "a.out", "index": 1, "kind": "hidden"}
    assert graph.nodes["b.out[0]"]["kind"] == "end"
    assert graph.edges["a.out[1]", "b.out[0]"] == {"layers": "b", "links": 1}
    assert network.n_ends.tolist() == [1, 1, 2, 2, 2, 1]
    expected = np.zeros((6, 6), dtype=int)
    expected[:2, 2:5], expected[2:5, 5:] = a.T, b.T
    assert (network.adjacency().toarray() == expected).all()


def test_neurons_without_links() -> None:
    masks = {"a": np.zeros((3, 2), dtype=bool), "b": np.array([[True, False, False]])}
    network = chain(masks, PERCEPTRON)
    assert sorted(network.to_graph()) == ["a.out[0]", "b.out[0]"]
    assert len(network.to_graph(drop_isolated=False)) == 6
    assert network.adjacency().sum() == 1


def test_without_groups_layers_stay_apart() -> None:
    masks = {name: np.ones((2, 2), dtype=bool) for name in "ab"}
    network = chain(masks, [])
    assert network.neuron_set.size == 8
    assert nx.number_weakly_connected_components(network.to_graph()) == 2


@given(st.data(), st.integers(1, 4), st.integers(1, 4), st.integers(1, 4))
def test_paths_are_products_of_masks(data, n_in, n_hidden, n_out) -> None:
    a = data.draw(hnp.arrays(bool, (n_hidden, n_in)))
    b = data.draw(hnp.arrays(bool, (n_out, n_hidden)))
    order = data.draw(st.permutations(range(n_hidden)))
    group = [[{"layer": "b", "axis": "in"}], [{"layer": "a", "axis": "out", "index": order}]]
    network = chain({"b": b, "a": a}, [group])
    step = network.adjacency()
    names = [
        f"{network.sets[s]}{i}"
        for s, i in zip(network.neuron_set, network.neuron_index, strict=True)
    ]
    sources = [names.index(f"a.in{i}") for i in range(n_in)]
    targets = [names.index(f"b.out{o}") for o in range(n_out)]
    found = (step @ step).toarray()[np.ix_(sources, targets)]
    assert (b.astype(int) @ a[order].astype(int) == found.T).all()


@pytest.mark.parametrize("name", FAMILIES)
def test_every_family_is_joined_throughout(name) -> None:
    masks, network = network_of(name)
    links = sum(int(mask.sum()) for mask in masks.values())
    assert network.source.size == network.target.size == network.adjacency().sum() == links
    assert sets_of(network, "end") == {}
    widths = {"stream": 16} if FAMILIES[name].causal else {"encoder stream": 16}
    widths |= {} if FAMILIES[name].causal else {"decoder stream": 16}
    assert sets_of(network, "stream") == widths


def test_sets_of_a_translation_model() -> None:
    masks, network = network_of("marian")
    # an encoder layer has queries that meet keys, values, and hidden neurons; a decoder layer twice
    hidden = sets_of(network, "hidden")
    assert sorted(hidden.values()) == sorted(2 * [16, 16, 24] + 2 * [16, 16, 16, 16, 24])
    assert hidden["model.encoder.layers.0.fc1.out"] == 24
    of_layer = {
        name: sorted(
            {
                (network.sets[network.neuron_set[s]], network.sets[network.neuron_set[t]])
                for s, t in zip(
                    network.source[network.layer == place],
                    network.target[network.layer == place],
                    strict=True,
                )
            }
        )
        for place, name in enumerate(network.layers)
    }
    first = "model.decoder.layers.0"
    keys, values = f"{first}.encoder_attn.k_proj.out", f"{first}.encoder_attn.v_proj.out"
    assert of_layer[f"{first}.encoder_attn.k_proj"] == [("encoder stream", keys)]
    assert of_layer[f"{first}.encoder_attn.q_proj"] == [("decoder stream", keys)]
    assert of_layer[f"{first}.encoder_attn.v_proj"] == [("encoder stream", values)]
    assert of_layer[f"{first}.encoder_attn.out_proj"] == [(values, "decoder stream")]
    assert of_layer[f"{first}.fc1"] == [("decoder stream", f"{first}.fc1.out")]
    assert of_layer[f"{first}.fc2"] == [(f"{first}.fc1.out", "decoder stream")]
    # all links of a layer are there
    name = f"{first}.fc2"
    links = network.layer == list(masks).index(name)
    outputs, inputs = masks[name].numpy().nonzero()
    assert (network.neuron_index[network.source[links]] == inputs).all()
    assert (network.neuron_index[network.target[links]] == outputs).all()


def test_queries_and_keys_share_neurons() -> None:
    _, network = network_of("marian")
    edges = network.to_graph().edges.values()
    double = [edge for edge in edges if edge["links"] == 2]
    assert double
    for edge in double:
        one, two = edge["layers"].split()
        assert {one.rpartition(".")[2], two.rpartition(".")[2]} == {"k_proj", "q_proj"}
    assert sum(edge["links"] for edge in edges) == network.source.size


def test_streams_apart() -> None:
    masks, network = network_of("marian", join_streams=False)
    assert sets_of(network, "stream") == {}
    assert sum(sets_of(network, "end").values()) == 16 * len(masks)
    assert nx.is_directed_acyclic_graph(network.to_graph())


def test_streams_of_two_widths() -> None:
    wide, narrow = np.ones((6, 4), dtype=bool), np.ones((4, 6), dtype=bool)
    masks = {"encoder.0.fc1": wide, "encoder.1.fc1": narrow, "encoder.2.fc1": wide}
    found = chain(masks, [])
    assert sets_of(found, "stream") == {"encoder stream": 4, "encoder stream of width 6": 6}


def test_graphml(tmp_path) -> None:
    _, network = network_of("gpt2")
    graph = network.to_graph()
    nx.write_graphml(graph, tmp_path / "network.graphml")
    again = nx.read_graphml(tmp_path / "network.graphml")
    assert dict(again.nodes.items()) == dict(graph.nodes.items())
    assert dict(again.edges.items()) == dict(graph.edges.items())


def test_bad_input() -> None:
    with pytest.raises(ValueError, match="nothing to join"):
        chain({}, [])
    with pytest.raises(ValueError, match="no mask of layer b"):
        chain({"a": np.ones((2, 2), dtype=bool)}, PERCEPTRON)
    with pytest.raises(TypeError, match="boolean"):
        chain({"a": np.ones((2, 2))}, [])
