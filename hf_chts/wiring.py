"""Which neurons of a Transformer lie between two of its linear layers.

Those are the neurons that percolation may find inactive. Neurons of the residual stream (inputs of
query, key, value and the first feed-forward layer, outputs of the others) are never among them.
Layers are recognised by the names that Transformers' families use.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import nn

from hf_chts.layers.sparse_linear import SparseLinear, sparse_layers
from hf_chts.rules.percolation import End, Group

FEEDS: list[tuple[tuple[str, ...], str]] = [
    (("v_proj",), "out_proj"),  # Marian, BART, mBART, M2M100, Pegasus, Blenderbot, PLBart, FSMT
    (("v_proj",), "o_proj"),  # LLaMA, T5Gemma
    (("v",), "o"),  # T5, mT5, UMT5
    (("value_proj",), "out_proj"),  # ProphetNet
    (("self.value",), "output.dense"),  # BERT
    (("longformer_self_attn.value | longformer_self_attn.value_global",), "output"),  # LED
    (("fc1",), "fc2"),
    (("wi",), "wo"),
    (("wi_0", "wi_1"), "wo"),
    (("gate_proj", "up_proj"), "down_proj"),
    (("c_fc",), "c_proj"),  # GPT-2
    (("intermediate",), "output"),  # ProphetNet
    (("intermediate.dense",), "output.dense"),  # BERT
]
"""Layers whose outputs are multiplied, neuron by neuron, into the inputs of another layer.

``a | b``: either of the two is enough (tokens with local and with global attention).
"""

MEETS = [("q_proj", "k_proj"), ("q", "k"), ("query_proj", "key_proj"), ("query", "key")]
"""Queries and keys, whose outputs meet in a dot product."""

ELEMENTWISE = (nn.ReLU, nn.GELU, nn.SiLU, nn.Tanh, nn.Sigmoid, nn.LeakyReLU, nn.ELU, nn.Dropout)
"""Modules of an ``nn.Sequential`` that keep neurons apart."""


def hidden_groups(model: nn.Module) -> list[Group]:
    """The groups of neurons that percolation looks at.

    Args:
        model: A model with sparse layers.

    Returns:
        Groups whose ends are all sparse layers, in the order of the model.
    """
    layers = sparse_layers(model)
    rotary = any("Rotary" in type(module).__name__ for module in model.modules())
    groups: list[Group] = []
    for parent, module in model.named_modules():
        prefix = f"{parent}." if parent else ""
        for sources, sink in FEEDS:
            sides = [[prefix + name for name in source.split(" | ")] for source in sources]
            groups += _feed(layers, sides, prefix + sink, module)
        for query, key in MEETS:
            groups += _meet(layers, prefix + query, prefix + key, module, rotary)
        if isinstance(module, nn.Sequential):
            groups += _chain(prefix, module)
    return groups


def _feed(
    layers: Mapping[str, SparseLinear], sides: list[list[str]], sink: str, module: nn.Module
) -> list[Group]:
    if sink not in layers or not all(source in layers for side in sides for source in side):
        return []
    width = layers[sides[0][0]].out_features
    ends = _repeated(sink, "in", layers[sink].in_features, width, module)
    return [[*([End(source, "out") for source in side] for side in sides), ends]] if ends else []


def _meet(
    layers: Mapping[str, SparseLinear], query: str, key: str, module: nn.Module, rotary: bool
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


def _chain(prefix: str, sequence: nn.Sequential) -> list[Group]:
    """Consecutive sparse layers of a plain multilayer perceptron."""
    groups: list[Group] = []
    before: str | None = None
    for name, module in sequence.named_children():
        if isinstance(module, SparseLinear):
            if before is not None:
                groups.append([[End(before, "out")], [End(prefix + name, "in")]])
            before = prefix + name
        elif not isinstance(module, ELEMENTWISE):
            before = None
    return groups
