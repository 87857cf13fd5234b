"""Which layers are made of attention heads, for evolution head by head."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence

from jaxtyping import Bool
from torch import Tensor, nn

from hf_chts.layers.sparse_linear import SparseLinear

PROJECTIONS = {
    *("q_proj", "k_proj", "v_proj", "q", "k", "v", "query_proj", "key_proj", "value_proj"),
    *("query", "key", "value", "query_global", "key_global", "value_global"),
    *("c_attn", "q_attn"),  # GPT-2: queries, keys and values in one layer
}
"""Names of layers whose outputs are cut into heads."""

HEAD_SIZES = ("head_dim", "key_value_proj_dim", "attention_head_size")
"""Names under which attention modules keep the number of neurons of one head."""


def head_counts(model: nn.Module) -> dict[str, int]:
    """How many heads the outputs of each sparse query, key and value layer are cut into.

    Args:
        model: A model with sparse layers.

    Returns:
        Number of heads by layer name; layers without heads are left out. A layer that holds
        queries, keys and values together has as many as all three.
    """
    counts = {}
    for parent, module in model.named_modules():
        size = next((getattr(module, name) for name in HEAD_SIZES if hasattr(module, name)), None)
        if not isinstance(size, int) or size < 1:
            continue
        for name, layer in module.named_children():
            whole = isinstance(layer, SparseLinear) and layer.out_features % size == 0
            if whole and name in PROJECTIONS:
                counts[f"{parent}.{name}" if parent else name] = layer.out_features // size
    return counts


def parts_of(
    model: nn.Module, layers: Mapping[str, SparseLinear], head_wise: bool
) -> dict[str, list[slice]]:
    """The output neurons of each sub-network that evolves by itself, by layer.

    Raises:
        ValueError: If heads are to evolve one by one, and no sparse layer has any.
    """
    heads = head_counts(model) if head_wise else {}
    if head_wise and not heads:
        raise ValueError(
            "head_wise finds no sparse layer of queries, keys or values whose attention says how "
            f"large its heads are ({', '.join(HEAD_SIZES)}): set head_wise to false"
        )
    return {name: _slices(layer, heads.get(name, 1)) for name, layer in layers.items()}


def _slices(layer: SparseLinear, n_parts: int) -> list[slice]:
    height = layer.out_features // n_parts
    return [slice(i * height, (i + 1) * height) for i in range(n_parts)]


def shared_out(mask: Bool[Tensor, "out in"], parts: Sequence[slice], total: int) -> list[int]:
    """A number of links shared out over parts in proportion to those they have."""
    counts = [int(mask[rows].count_nonzero()) for rows in parts]
    ends = [total * end // max(1, sum(counts)) for end in itertools.accumulate(counts)]
    return [end - start for start, end in zip([0, *ends[:-1]], ends, strict=True)]
