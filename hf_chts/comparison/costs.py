"""Floating-point operations of training and translating, counted from a model's own layers.

A multiply-add counts as two operations. Counted are matrix products: linear layers at the share
of their links that is active, attention, and the projection to the vocabulary; not softmax,
normalisation, embeddings and the optimizer. A backward costs twice its forward. Of topology updates
only the dense matrices are counted that rules read (gradients for RigL and GraNet, correlations);
choosing links is not, nor what a kernel that computes sparse layers densely does on top. Padding is
not counted.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import inf
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from hf_chts.layers.sparse_linear import sparse_layers
from hf_chts.patching import densify
from hf_chts.translation.batches import pack
from hf_chts.translation.data import load_pairs
from hf_chts.translation.encode import encode
from hf_chts.translation.recipe import Recipe
from hf_chts.translation.tokenizer import TokenizerPair

MOST_PAIRS = 100_000
"""Training pairs that are looked at to know an average one."""

Densities = Mapping[str, float]
"""Share of links that are active, in [0, 1], by name of the layer."""


@dataclass(frozen=True)
class Workload:
    """An average step, as whole pairs of average length.

    Attributes:
        source_tokens: Tokens of an average training pair's source, rounded.
        target_tokens: Likewise of its target.
        pairs_per_step: How many such pairs hold as many tokens as an average step does.
    """

    source_tokens: int
    target_tokens: int
    pairs_per_step: float

    @classmethod
    def of(cls, recipe: Recipe, tokenizers: TokenizerPair) -> Workload:
        """Look at a recipe's training text, the first 100,000 pairs of it, on one process.

        Raises:
            ValueError: If the text is empty or malformed; likewise OSError and ImportError if it
                is not there to be read.
        """
        source, training = recipe.data.train, recipe.training
        if source.corpus is None:
            most = min(source.max_pairs or MOST_PAIRS, MOST_PAIRS)
            source = dataclasses.replace(source, max_pairs=most)
        encoded = encode(load_pairs(source), tokenizers, recipe.data.max_length)
        pairs = [encoded[i] for i in range(len(encoded))]
        total = [sum(len(pair[side]) for pair in pairs) for side in ("input_ids", "labels")]
        n_steps = len(pack(sorted(encoded.lengths), training.batch_tokens)) / training.accumulation
        rounded = [round(tokens / len(pairs)) for tokens in total]
        return cls(rounded[0], rounded[1], sum(total) / sum(rounded) / n_steps)


@dataclass(frozen=True)
class ForwardCost:
    """Operations of one pair's forward pass.

    Attributes:
        rest: Those of everything but sparse layers.
        layers: Those of each sparse layer if all its links were active, by name.
    """

    rest: float
    layers: dict[str, float]

    def at(self, densities: Densities) -> float:
        """Operations with these shares of the links active."""
        return self.rest + sum(cost * densities[name] for name, cost in self.layers.items())

    def read_at_update(self, densities: Densities, reads: Collection[str]) -> float:
        """Operations that an update's rules add to the step before it.

        Gradients of all links take the place of those of the active ones; correlations of all
        inputs with all outputs come on top.

        Source: Evci et al., RigL, ICML 2020, arXiv 1911.11134, for the dense gradients.

        Args:
            densities: Densities before the update.
            reads: What its rules read, see :class:`hf_chts.rules.registry.Rule`.
        """
        gradients = sum(cost * (1 - densities[name]) for name, cost in self.layers.items())
        correlations = sum(self.layers.values())
        return gradients * ("dense_grad" in reads) + correlations * ("correlation" in reads)


@torch.no_grad()
def forward_cost(model: Any, source_tokens: int, target_tokens: int) -> ForwardCost:
    """Count the operations of one pair by running it; sparse layers are made dense for good.

    Translating greedily with cached keys and values does the same work, one token after another,
    but for the decoder's self-attention, which then sees earlier tokens only: about half of it.

    Args:
        model: An encoder-decoder model of Transformers.
        source_tokens: Tokens of the source, at least 1.
        target_tokens: Tokens of the target, at least 1.
    """
    names = list(sparse_layers(model))
    if names:
        densify(model)
    model.eval().set_attn_implementation("eager")  # fused attention is not counted on CPUs
    source = torch.ones(1, source_tokens, dtype=torch.long, device=model.device)
    target = torch.ones(1, target_tokens, dtype=torch.long, device=model.device)
    with FlopCounterMode(display=False) as counter:
        model(input_ids=source, decoder_input_ids=target, use_cache=False)
    counts, root = counter.get_flop_counts(), type(model).__name__
    layers = {name: float(sum(counts[f"{root}.{name}"].values())) for name in names}
    return ForwardCost(counter.get_total_flops() - sum(layers.values()), layers)


@dataclass(frozen=True)
class TrainingCost:
    """Operations of a training run, whose density may fall.

    Attributes:
        forward: Operations of a pair.
        pairs_per_step: Pairs in a step.
        stages: The step after which densities hold, from 0 on, and these densities; after the
            first one, each is a topology update.
        reads: What the rules of its updates read.
    """

    forward: ForwardCost
    pairs_per_step: float
    stages: Sequence[tuple[int, Densities]]
    reads: Collection[str]

    def until(self, step: int) -> float:
        """Operations of all steps up to one, which counts from 1."""
        total = 0.0
        for (start, densities), (end, _) in pairwise([*self.stages, (inf, {})]):
            total += 3 * self.forward.at(densities) * max(0, min(step, end) - start)
            if end <= step:
                total += self.forward.read_at_update(densities, self.reads)
        return total * self.pairs_per_step
