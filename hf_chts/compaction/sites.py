"""Where neurons and attention heads lie between sparse layers, and which of them may be taken out.

A *site* is one set of hidden neurons (a feed-forward layer's) or one set of heads. Only what is
known for sure is opened: feed-forward layers with one elementwise activation between them, and
attention classes whose code runs with any number of heads.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor, nn

from hf_chts.compaction.activation import find_activation
from hf_chts.layers.sparse_linear import SparseLinear, sparse_layers
from hf_chts.network.linears import LINEAR_CLASSES
from hf_chts.network.wiring import FEED_FORWARDS, VALUES, chain, fused_ends, used_in_several_places
from hf_chts.rules.percolation import End


@dataclass(frozen=True)
class Part:
    """Where a site's units meet one layer.

    Attributes:
        layer: Name of the layer.
        units: Its neurons, a row a unit: one neuron each, or those of a head.
    """

    layer: str
    units: Int[Tensor, "units neurons"]


@dataclass(frozen=True)
class Site:
    """Hidden neurons or heads between sparse layers.

    Attributes:
        name: Name for people.
        unit: ``"neurons"`` or ``"heads"``.
        layers: Names of the linear layers around it.
        sources: Outputs of the layers before: the first feed-forward layer (gate, up), or query,
            key and value. Empty where nothing may be taken out.
        sink: Inputs of the layer behind; None where nothing may be taken out.
        activation: What stands behind the first source; None at heads.
        reason: Why nothing may be taken out; empty if it may.
    """

    name: str
    unit: str
    layers: tuple[str, ...]
    sources: tuple[Part, ...] = ()
    sink: Part | None = None
    activation: Callable[[Tensor], Tensor] | None = None
    reason: str = ""

    @property
    def count(self) -> int:
        """Number of units; 0 where nothing may be taken out."""
        return 0 if self.sink is None else len(self.sink.units)


@dataclass(frozen=True)
class _Attention:
    """Names inside an attention class whose code runs with any number of heads.

    Query, key and value are left out where one layer holds them. ``heads`` and ``width`` are
    attributes that follow the number of heads and of neurons in all of them.
    """

    output: str
    size: str
    projections: tuple[str, str, str] | None = ("q_proj", "k_proj", "v_proj")
    heads: str | None = None
    width: str | None = None


BART = _Attention("out_proj", "head_dim", heads="num_heads")
LLAMA = _Attention("o_proj", "head_dim")
BERT = _Attention(
    "output.dense",
    "self.attention_head_size",
    ("self.query", "self.key", "self.value"),
    "self.num_attention_heads",
    "self.all_head_size",
)
GPT2 = _Attention("c_proj", "head_dim", None, "num_heads", "split_size")
OPEN = {
    **dict.fromkeys(
        ("MarianAttention", "BartAttention", "MBartAttention", "PLBartAttention"), BART
    ),
    **dict.fromkeys(("M2M100Attention", "PegasusAttention", "BlenderbotAttention"), BART),
    **dict.fromkeys(("LlamaAttention", "T5GemmaSelfAttention", "T5GemmaCrossAttention"), LLAMA),
    "BertAttention": BERT,
    "GPT2Attention": GPT2,
}
"""Attention classes from which heads can be taken out."""

TABLE = "the table of position biases has a column for each head"
WIDTH = "its code expects heads as wide as the model"
CLOSED = {
    **dict.fromkeys(("T5Attention", "MT5Attention", "UMT5Attention"), TABLE),
    **dict.fromkeys(("ProphetNetAttention", "ProphetNetNgramSelfAttention"), WIDTH),
    **dict.fromkeys(("LEDEncoderAttention", "LEDDecoderAttention", "Attention"), WIDTH),
}
"""Attention classes from which none can, and why."""


def find_sites(model: nn.Module) -> list[Site]:
    """All places where a model may hold hidden neurons or heads, in the model's order.

    Args:
        model: A model with sparse layers; they need no data.
    """
    shared = used_in_several_places(model)
    sites = []
    for path, module in model.named_modules():
        for site in _sites_of(f"{path}." if path else "", module):
            layers = {name: _inside(model, name) for name in site.layers}
            dense = [name for name, x in layers.items() if not isinstance(x, SparseLinear)]
            reason = site.reason
            if len(dense) == len(layers):
                continue
            if dense and not reason:
                reason = f"{dense[0].rpartition('.')[2]} is dense"
            elif any(id(layer) in shared for layer in layers.values()):
                reason = "the model uses a layer of it in several places"
            sites.append(Site(site.name, site.unit, site.layers, reason=reason) if reason else site)
    return sites


def fit_heads(model: nn.Module) -> None:
    """Tell attention modules how many heads their sparse layers hold."""
    for module in model.modules():
        names = OPEN.get(type(module).__name__)
        output = None if names is None else _inside(module, names.output)
        if names is None or not isinstance(output, SparseLinear):
            continue
        size = _inside(module, names.size)
        for attribute, value in (
            (names.heads, output.in_features // size),
            (names.width, output.in_features),
        ):
            if attribute is not None:
                holder, _, leaf = attribute.rpartition(".")
                setattr(module.get_submodule(holder), leaf, value)


def refuse_misfit(model: nn.Module, compacted: Mapping[str, Mapping[str, Any]]) -> None:
    """Refuse layers smaller than their architecture's unless whole units are out of all of them.

    Args:
        model: A model with sparse layers; they need no data.
        compacted: By layer name, a mapping with its ``dense_shape``.

    Raises:
        ValueError: If a layer misses neurons that compaction never takes out, or its neighbours
            do not.
    """
    outputs: set[str] = set()
    inputs: set[str] = set()
    for site in find_sites(model):
        outputs |= {part.layer for part in site.sources}
        inputs |= {site.sink.layer} if site.sink is not None else set()
    layers = sparse_layers(model)
    for name, entry in compacted.items():
        out_features, in_features = entry["dense_shape"]
        fewer = layers[name].out_features != out_features, layers[name].in_features != in_features
        if (fewer[0] and name not in outputs) or (fewer[1] and name not in inputs):
            raise ValueError(
                f"the compacted layer {name} is {layers[name].out_features} x "
                f"{layers[name].in_features} instead of {out_features} x {in_features}, and "
                "does not fit the layers around it: the checkpoint's configuration is damaged"
            )


def _sites_of(prefix: str, module: nn.Module) -> Iterator[Site]:
    """Sites whose layers this module holds, sparse or not."""
    for sources, sink in FEED_FORWARDS:
        if _linear(module, (*sources, sink)):
            holders = [module.get_submodule(sources[0].rpartition(".")[0]), module]
            yield _neurons(prefix, module, sources, sink, find_activation(holders))
    if isinstance(module, nn.Sequential):
        for before, between, after in chain(module):
            yield _neurons(prefix, module, (before,), after, _composed(between))
    attention = OPEN.get(type(module).__name__)
    if attention is not None and _linear(module, (attention.output,)):
        yield _heads(prefix, module, attention)
        return
    for value, sink in VALUES:
        values = tuple(value.split(" | "))
        if _linear(module, (*values, sink)):
            name = type(module).__name__
            reason = CLOSED.get(name, f"{name} is not known to run with fewer heads")
            inner = (prefix + path for path, layer in module.named_modules() if _is_linear(layer))
            yield Site(prefix.rstrip("."), "heads", tuple(inner), reason=reason)


def _neurons(
    prefix: str,
    module: nn.Module,
    sources: tuple[str, ...],
    sink: str,
    activation: Callable[[Tensor], Tensor] | str,
) -> Site:
    """Feed-forward neurons; ``activation`` may be the reason why there is none."""
    layers = tuple(prefix + name for name in (*sources, sink))
    name = f"{prefix}{sources[0]} > {sink}"
    found = [_inside(module, layer) for layer in (*sources, sink)]
    if not all(isinstance(layer, SparseLinear) for layer in found):
        return Site(name, "neurons", layers)
    widths = {layer.out_features for layer in found[:-1]} | {found[-1].in_features}
    if len(widths) > 1:
        reason = f"its layers do not fit each other: {sorted(widths)} neurons"
        return Site(name, "neurons", layers, reason=reason)
    if isinstance(activation, str):
        return Site(name, "neurons", layers, reason=activation)
    units = torch.arange(found[-1].in_features, device="cpu")[:, None]
    *before, behind = (Part(layer, units) for layer in layers)
    return Site(name, "neurons", layers, tuple(before), behind, activation)


def _heads(prefix: str, module: nn.Module, names: _Attention) -> Site:
    """Heads of an attention class that is known; of query heads that share a key head, all."""
    path = prefix.rstrip(".")
    if names.projections is None:
        ends = [*(fused_ends(prefix, module) or ())]
        leaves = ["c_attn", *(["q_attn"] if hasattr(module, "q_attn") else [])]
    else:
        ends = [End(prefix + name, "out") for name in names.projections]
        leaves = [*names.projections]
    layers = (*(prefix + name for name in leaves), prefix + names.output)
    found = {prefix + name: _inside(module, name) for name in (*leaves, names.output)}
    if not all(isinstance(layer, SparseLinear) for layer in found.values()):
        return Site(path, "heads", layers)
    size, sink = _inside(module, names.size), found[layers[-1]]
    numbers = [
        torch.arange(found[end.layer].out_features, device="cpu")
        if end.index is None
        else end.index
        for end in ends
    ]
    widths = [len(number) for number in numbers]
    if (
        len(widths) != 3
        or widths[1] != widths[2]
        or widths[0] != sink.in_features
        or widths[1] % size
        or widths[0] % max(1, widths[1])
    ):
        reason = f"its layers do not fit each other: {widths} neurons, heads of {size}"
        return Site(path, "heads", layers, reason=reason)
    n_heads = widths[1] // size
    sources = [
        Part(end.layer, number.view(n_heads, -1)) for end, number in zip(ends, numbers, strict=True)
    ]
    inputs = torch.arange(sink.in_features, device="cpu").view(n_heads, -1)
    return Site(path, "heads", layers, tuple(sources), Part(layers[-1], inputs))


def _composed(between: list[nn.Module]) -> Callable[[Tensor], Tensor]:
    """Elementwise modules of a perceptron, one behind the other, in evaluation mode."""
    steps = [module for module in between if not isinstance(module, nn.Dropout)]
    return nn.Sequential(*steps)


def _linear(module: nn.Module, names: tuple[str, ...]) -> bool:
    """Whether a module has all these linear layers, sparse or dense."""
    return all(_is_linear(_inside(module, name)) for name in names)


def _is_linear(module: Any) -> bool:
    return isinstance(module, (SparseLinear, *LINEAR_CLASSES))


def _inside(module: nn.Module, path: str) -> Any:
    """What a module has under a dotted path; None if nothing."""
    found: Any = module
    for name in path.split("."):
        found = getattr(found, name, None)
    return found
