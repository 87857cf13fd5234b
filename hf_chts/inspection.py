"""A look at a model or recipe: which linear layers are, or would be, sparse."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import (
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForSeq2SeqLM,
)

from hf_chts.checkpoint import NAME, from_pretrained
from hf_chts.config import SparsityConfig
from hf_chts.network.patch_report import PatchReport
from hf_chts.patching import plan
from hf_chts.translation.model import config_of, empty_model
from hf_chts.translation.recipe import load_recipe


class Plan(PatchReport):
    """A report on what sparsifying would make of a model that is dense, or not made yet."""

    def __str__(self) -> str:
        """The table, under a line that says that nothing is sparse yet."""
        return f"A plan; nothing is sparse yet. The model would become\n{super().__str__()}"


def inspect_model(model: str, overrides: Sequence[str] = ()) -> PatchReport:
    """Report on a recipe, a model or a hub id. Weights of dense models are not even loaded.

    Of a recipe or a dense model the report is a :class:`Plan`.

    Args:
        model: Path of a recipe (``.yaml``), folder of a model or of a finished run, or hub id.
        overrides: Changes ``section.key=value`` to a recipe.

    Raises:
        ValueError: If nothing can be patched, the recipe is not sound, or there is no such model.
    """
    if model.endswith((".yaml", ".yml")):
        recipe = load_recipe(model, overrides)
        return _planned(empty_model(recipe), recipe.sparsity)
    if overrides:
        raise ValueError(f"changes go with a recipe, and {model} is none: {' '.join(overrides)}")
    folder = Path(model) / "model"
    path = str(folder) if folder.is_dir() else model
    config = config_of(path)
    if (getattr(config, "quantization_config", None) or {}).get("quant_method") == NAME:
        sparse = from_pretrained(path)
        return PatchReport.of_sparse(sparse, sparse.sparsity_config)
    return _would_be(config, SparsityConfig())


def _would_be(config: Any, sparsity: SparsityConfig) -> Plan:
    """The plan for a model of this configuration, made without memory for its weights."""
    for auto in (AutoModelForSeq2SeqLM, AutoModelForCausalLM, AutoModel):
        if type(config) in auto._model_mapping:
            with torch.device("meta"):
                return _planned(auto.from_config(config), sparsity)
    raise ValueError(f"no model class for a {type(config).__name__}")


def _planned(model: nn.Module, sparsity: SparsityConfig) -> Plan:
    return Plan(**vars(plan(model, sparsity)[0]))
