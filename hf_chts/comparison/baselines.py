"""Dense models that a sparse one has to beat: as small as it is, or with one decoder layer."""

from __future__ import annotations

import bisect
import dataclasses
import functools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from hf_chts.patching import plan
from hf_chts.translation.model import empty_model
from hf_chts.translation.recipe import Recipe

TOLERANCE = 0.05
"""Largest difference in weights between a narrow model and the sparse one, as a share."""


@dataclass(frozen=True)
class _Fields:
    """Names that a family's configuration has for its sizes."""

    heads: tuple[str, ...]
    feed_forward: tuple[str, ...]
    decoder_layers: str
    head_width: str | None = None

    def all(self) -> list[str]:
        names = ("d_model", *self.heads, *self.feed_forward, self.decoder_layers, self.head_width)
        return [name for name in names if name is not None]


_FAMILIES = (
    _Fields(
        ("encoder_attention_heads", "decoder_attention_heads"),
        ("encoder_ffn_dim", "decoder_ffn_dim"),
        "decoder_layers",
    ),
    _Fields(("num_heads",), ("d_ff",), "num_decoder_layers", "d_kv"),
)
"""Marian, BART and their kin; T5 and its kin."""


def narrow_dense(recipe: Recipe, sparsity: float) -> dict[str, Any]:
    """What makes a recipe's model narrow enough to have as many weights, dense, as a sparse one.

    The width of the model (``d_model``) shrinks to a multiple of the number of heads, which stays,
    as do the layers; feed-forward widths (and T5's heads) shrink in proportion. What rounding to
    that multiple leaves over, the feed-forward widths make up for. Weights are counted by
    :func:`n_weights`.

    Args:
        recipe: The recipe of the sparse model; its method does not matter.
        sparsity: That of the sparse model's linear layers at the end of training, in [0, 1).

    Returns:
        Changes to the recipe, as nested data.

    Raises:
        ValueError: If the model is pretrained, its family's sizes have other names, or no width
            comes within 5% of the number of weights.
    """
    fields, full = _sizes(recipe, "narrow-dense")
    sparse = dataclasses.replace(recipe.sparsity, method="static", sparsity=sparsity)
    target = n_weights(dataclasses.replace(recipe, sparsity=sparse))

    def changes(d_model: int, feed_forward: float) -> dict[str, Any]:
        widths = {name: max(1, round(full[name] * feed_forward)) for name in fields.feed_forward}
        if fields.head_width is not None:
            width = full[fields.head_width] * d_model / full["d_model"]
            widths[fields.head_width] = max(1, round(width))
        return {"model": {"config": {"d_model": d_model, **widths}}}

    @functools.cache
    def weights(d_model: int, feed_forward: float) -> int:
        config = recipe.model.config | changes(d_model, feed_forward)["model"]["config"]
        model = dataclasses.replace(recipe.model, config=config)
        dense = dataclasses.replace(recipe.sparsity, method="dense")
        return n_weights(dataclasses.replace(recipe, model=model, sparsity=dense))

    step = math.lcm(*(full[name] for name in fields.heads))
    d_model = _nearest(
        range(step, full["d_model"] + 1, step), lambda d: weights(d, d / full["d_model"]), target
    )
    widest = full[fields.feed_forward[0]]
    width = _nearest(range(1, widest + 1), lambda n: weights(d_model, n / widest), target)
    reached = weights(d_model, width / widest)
    if abs(reached - target) > TOLERANCE * target:
        raise ValueError(
            f"narrow-dense: no model of this family with heads of {step} to a layer comes near the "
            f"{target:,} weights of the sparse one (the nearest has {reached:,}): give the model "
            "fewer heads, or leave narrow-dense out"
        )
    return changes(d_model, width / widest)


def shallow_decoder(recipe: Recipe) -> dict[str, Any]:
    """What leaves a recipe's model one decoder layer and all encoder layers.

    Source: Kasai et al., ICLR 2021, "Deep encoder, shallow decoder". Unlike there, the encoder
    gets no further layers.

    Raises:
        ValueError: If the model is pretrained or its family's sizes have other names.
    """
    fields, _ = _sizes(recipe, "shallow-decoder")
    return {"model": {"config": {fields.decoder_layers: 1}}}


def n_weights(recipe: Recipe) -> int:
    """How many numbers training changes in a recipe's model.

    Counted are active links, embeddings (of ``tokenizer.vocab_size`` tokens; a table that is used
    several times counts once), dense linear layers, biases and norms; not position tables that
    stay as they are, such as Marian's.
    """
    if not recipe.tokenizer.joint:  # two vocabularies have a table each
        config = recipe.model.config | {"share_encoder_decoder_embeddings": False}
        recipe = dataclasses.replace(recipe, model=dataclasses.replace(recipe.model, config=config))
    model = empty_model(recipe)
    report = plan(model, recipe.sparsity)[0]
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    return int(trained - report.sparse_dense_size + report.sparse_links)


def _sizes(recipe: Recipe, row: str) -> tuple[_Fields, dict[str, int]]:
    """The family's names for its sizes, and what the recipe gives them."""
    if recipe.model.pretrained is not None:
        raise ValueError(
            f"{row} is a model of another size, for which {recipe.model.pretrained} has no "
            "weights: leave it out, or give a recipe that starts from scratch"
        )
    config = empty_model(recipe).config
    for fields in _FAMILIES:
        if all(hasattr(config, name) for name in fields.all()):
            return fields, {name: getattr(config, name) for name in fields.all()}
    raise ValueError(
        f"{row}: the sizes of model.family {recipe.model.family!r} are not known; it takes a "
        "family like marian or bart (d_model, encoder_ffn_dim, ...) or like t5 (d_model, d_ff, ...)"
    )


def _nearest(sizes: Sequence[int], weights: Callable[[int], int], target: int) -> int:
    """The size whose number of weights, which grows with it, is nearest to the target."""
    above = bisect.bisect_left(sizes, target, key=weights)
    around = sizes[max(0, above - 1) : above + 1]
    return min(around, key=lambda size: abs(weights(size) - target))
