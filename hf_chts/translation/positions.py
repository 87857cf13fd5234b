"""How many tokens a model has positions for."""

from __future__ import annotations

from typing import Any

from transformers import PretrainedConfig

_LIMITS = (
    "max_position_embeddings",
    "max_encoder_position_embeddings",
    "max_decoder_position_embeddings",
)
_AFTER_PADDING = {
    "prophetnet": 2,  # its decoder looks one position ahead
    **dict.fromkeys(("camembert", "data2vec-text", "longformer", "roberta", "xmod"), 1),
    **dict.fromkeys(("roberta-prelayernorm", "xlm-roberta", "xlm-roberta-xl"), 1),
}
"""Models whose positions start so many after the id of the padding."""


def positions(config: Any) -> int | None:
    """Most tokens that each side may have by a model's configuration.

    Of a model made of two, such as BERT2BERT, the smaller number counts. Where inputs are filled up
    to a multiple of a window, as by LED, that must fit as well.

    Returns:
        The number, at least 0; None for a model with relative positions.
    """
    parts = (getattr(config, side, None) for side in ("encoder", "decoder"))
    limits = [positions(part) for part in parts if isinstance(part, PretrainedConfig)]
    limits += [_usable(config, name) for name in _LIMITS if getattr(config, name, None) is not None]
    return min((limit for limit in limits if limit is not None), default=None)


def _usable(config: Any, name: str) -> int:
    limit = int(getattr(config, name))
    if config.model_type in _AFTER_PADDING:
        limit -= _AFTER_PADDING[config.model_type] + (config.pad_token_id or 0)
    window = 1 if "decoder" in name else getattr(config, "attention_window", 1)
    window = max(window) if isinstance(window, list | tuple) else window
    return max(0, limit // window * window)
