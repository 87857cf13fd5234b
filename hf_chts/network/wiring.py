"""Which neurons of a Transformer lie between two of its linear layers.

Those are the neurons that percolation may find inactive. Neurons of the residual stream (inputs of
query, key, value and the first feed-forward layer, outputs of the others) are never among them.
Layers are recognised by the names that Transformers' families use.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Protocol

import torch
from torch import nn

from hf_chts.layers.sparse_linear import SparseLinear, sparse_layers
from hf_chts.rules.percolation import End, Group

VALUES: list[tuple[str, str]] = [
    ("v_proj", "out_proj"),  # Marian, BART, mBART, M2M100, Pegasus, Blenderbot, PLBart, FSMT
    ("v_proj", "o_proj"),  # LLaMA, T5Gemma
    ("v", "o"),  # T5, mT5, UMT5
    ("value_proj", "out_proj"),  # ProphetNet
    ("self.value", "output.dense"),  # BERT
    ("self.value", "output"),  # BigBird-Pegasus
    ("longformer_self_attn.value | longformer_self_attn.value_global", "output"),  # LED
]
"""Values, and the layer that attention carries them to, neuron by neuron.

``a | b``: either of the two is enough (tokens with local and with global attention).
"""

FEED_FORWARDS: list[tuple[tuple[str, ...], str]] = [
    (("fc1",), "fc2"),
    (("wi",), "wo"),
    (("wi_0", "wi_1"), "wo"),
    (("gate_proj", "up_proj"), "down_proj"),
    (("c_fc",), "c_proj"),  # GPT-2
    (("intermediate",), "output"),  # ProphetNet
    (("intermediate.dense",), "output.dense"),  # BERT
    (("linear1",), "linear2"),  # torch.nn.Transformer
]
"""First and second feed-forward layers; of two first ones, the gate stands first."""

MEETS = [
    ("q_proj", "k_proj"),
    ("q", "k"),
    ("query_proj", "key_proj"),
    ("query", "key"),
    ("query_global", "key_global"),  # LED
]
"""Queries and keys, whose outputs meet in a dot product."""

ELEMENTWISE = (nn.ReLU, nn.GELU, nn.SiLU, nn.Tanh, nn.Sigmoid, nn.LeakyReLU, nn.ELU, nn.Dropout)
"""Modules of an ``nn.Sequential`` that keep neurons apart."""


class Sized(Protocol):
    """What is read of a layer: the numbers of its neurons."""

    @property
    def out_features(self) -> int:
        """Output neurons."""

    @property
    def in_features(self) -> int:
        """Input neurons."""


def hidden_groups(model: nn.Module, layers: Mapping[str, Sized] | None = None) -> list[Group]:
    """The groups of neurons that percolation looks at.

    Args:
        model: A model with sparse layers, or one to be given them.
        layers: Its sparse layers by name, or their sizes; None: those that are in place.

    Returns:
        Groups whose ends are all sparse layers, in the order of the model. Neurons of a layer that
        the model uses in several places are left out: one place alone does not tell what they do.
    """
    in_place = sparse_layers(model)
    layers = in_place if layers is None else layers
    rotary = any("Rotary" in type(module).__name__ for module in model.modules())
    groups: list[Group] = []
    for parent, module in model.named_modules():
        prefix = f"{parent}." if parent else ""
        for value, sink in VALUES:
            side = [prefix + name for name in value.split(" | ")]
            groups += _feed(layers, [side], prefix + sink, module)
        for sources, sink in FEED_FORWARDS:
            groups += _feed(layers, [[prefix + name] for name in sources], prefix + sink, module)
        for query, key in MEETS:
            groups += _meet(layers, prefix + query, prefix + key, module, rotary)
        groups += _fused(layers, prefix, module)
        if isinstance(module, nn.Sequential):
            groups += [
                [[End(prefix + before, "out")], [End(prefix + after, "in")]]
                for before, _, after in chain(module)
            ]
    shared = used_in_several_places(model)
    names = {name for name, layer in in_place.items() if id(layer) in shared}
    return [g for g in groups if names.isdisjoint(end.layer for side in g for end in side)]


def used_in_several_places(model: nn.Module) -> set[int]:
    """Identities of the modules that stand under more than one name in the modules that hold them.

    A block that is used as a whole in several places is one of them, and what it holds is not.
    """
    found = Counter(
        id(child)
        for module in model.modules()
        for child in module._modules.values()  # named_children() tells each but once
    )
    return {module for module, places in found.items() if places > 1}


def fused_ends(prefix: str, module: nn.Module) -> tuple[End, End, End] | None:
    """Queries, keys and values of an attention like GPT-2's, which has them in one layer.

    Args:
        prefix: What precedes the names of the module's children.
        module: Any module.

    Returns:
        Where its queries, keys and values are; None where it is no such attention. In a
        cross-attention ``c_attn`` holds keys and values, and ``q_attn`` the queries.
    """
    fused, width = getattr(module, "c_attn", None), getattr(module, "split_size", None)
    if not isinstance(fused, SparseLinear) or not isinstance(width, int):
        return None
    if fused.dense_class is nn.Linear:  # GPT-BigCode splits a layer of this name head by head
        return None
    parts = torch.arange(fused.out_features).split(width)
    ends = [End(prefix + "c_attn", "out", part) for part in parts]
    if hasattr(module, "q_attn"):
        ends.insert(0, End(prefix + "q_attn", "out"))
    return (ends[0], ends[1], ends[2]) if len(ends) == 3 else None


def chain(sequence: nn.Sequential) -> list[tuple[str, list[nn.Module], str]]:
    """Consecutive sparse layers of a plain multilayer perceptron.

    Returns:
        Name of a sparse layer, the elementwise modules behind it, and name of the next one; none
        where a class has a forward of its own, which may do more than one after the other.
    """
    links: list[tuple[str, list[nn.Module], str]] = []
    if type(sequence).forward is not nn.Sequential.forward:
        return links
    before: str | None = None
    between: list[nn.Module] = []
    for name, module in sequence.named_children():
        if isinstance(module, SparseLinear):
            if before is not None:
                links.append((before, between, name))
            before, between = name, []
        elif isinstance(module, ELEMENTWISE):
            between.append(module)
        else:
            before = None
    return links


def _fused(layers: Mapping[str, Sized], prefix: str, module: nn.Module) -> list[Group]:
    ends = fused_ends(prefix, module)
    if ends is None:
        return []
    query, key, value = ends
    groups: list[Group] = []
    if query.layer in layers:
        groups.append([[query], [key]])
    sink = layers.get(prefix + "c_proj")
    if sink is not None and value.index is not None and sink.in_features == len(value.index):
        groups.append([[value], [End(prefix + "c_proj", "in")]])
    return groups


def _feed(
    layers: Mapping[str, Sized], sides: list[list[str]], sink: str, module: nn.Module
) -> list[Group]:
    if sink not in layers or not all(source in layers for side in sides for source in side):
        return []
    width = layers[sides[0][0]].out_features
    ends = _repeated(sink, "in", layers[sink].in_features, width, module)
    return [[*([End(source, "out") for source in side] for side in sides), ends]] if ends else []


def _meet(
    layers: Mapping[str, Sized], query: str, key: str, module: nn.Module, rotary: bool
) -> list[Group]:
    if query not in layers or key not in layers:
        return []
    width = layers[key].out_features
    sides = [[End(key, "out")], _repeated(query, "out", layers[query].out_features, width, module)]
    if rotary:
        sides = [_paired(side, width, module) for side in sides]
    return [sides] if all(sides) else []


def _paired(ends: list[End], width: int, module: nn.Module) -> list[End]:
    """Ends of the neuron pairs that rotary embeddings turn into each other."""
    head = getattr(module, "head_dim", None)
    if head is None or head % 2 or width % head:
        return []
    halves = [half.flatten() for half in torch.arange(width).view(-1, 2, head // 2).unbind(1)]
    every = torch.arange(width)
    return [
        End(end.layer, end.axis, (every if end.index is None else end.index)[half])
        for end in ends
        for half in halves
    ]


def _repeated(layer: str, axis: str, size: int, width: int, module: nn.Module) -> list[End]:
    """Ends of ``size`` neurons seen by ``width``: several where query heads share a key head."""
    if size == width:
        return [End(layer, axis)]  # type: ignore[arg-type]
    head = getattr(module, "head_dim", None)
    if head is None or size % width or width % head:
        return []
    shared = size // width
    heads = torch.arange(size).view(width // head, shared, head)
    return [End(layer, axis, heads[:, r].flatten()) for r in range(shared)]  # type: ignore[arg-type]
