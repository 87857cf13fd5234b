"""The runs of a comparison: one for each method, sparsity and seed."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
import yaml

from hf_chts.comparison.baselines import narrow_dense, shallow_decoder
from hf_chts.config import from_mapping
from hf_chts.engine.budget import refuse_standstill
from hf_chts.patching import plan
from hf_chts.training.precision import tell_slow_bfloat16
from hf_chts.translation.arguments import tell_long_warmup
from hf_chts.translation.averaging import refuse_moving_links
from hf_chts.translation.model import empty_model
from hf_chts.translation.recipe import Recipe, merged

Settings = Mapping[str, Mapping[str, Any]]
"""Rows by name, each a recipe in part: sections with what they change."""

BASELINES = ("narrow-dense", "shallow-decoder")
"""Dense rows of the table that are no methods: smaller models."""


@dataclass(frozen=True)
class Cell:
    """One run.

    Attributes:
        method: The row: a method, a baseline or a variant that the settings name.
        sparsity: Share of inactive links at the end, in [0, 1); 0 for rows that are not sparse.
            ``narrow-dense`` has the sparsity of the model whose size it takes.
        seed: Seed of the data order and of everything that is drawn.
    """

    method: str
    sparsity: float
    seed: int

    @property
    def name(self) -> str:
        """Name of the run's folder, for example ``chts-0.9-1`` or ``dense-1``."""
        sparsity = f"-{self.sparsity}" if self.sparsity else ""
        return f"{self.method}{sparsity}-{self.seed}"


def cells(
    methods: Sequence[str],
    sparsities: Sequence[float],
    seeds: Sequence[int],
    settings: Settings | None = None,
) -> list[Cell]:
    """Every combination once, all of the first seed before the second.

    Args:
        methods: Rows of the table.
        sparsities: For the rows that have one.
        seeds: For all rows.
        settings: What the rows change in the recipe; tells which variants are dense.
    """
    every = [
        Cell(method, 0.0 if is_dense(method, settings or {}) else float(sparsity), seed)
        for seed in seeds
        for method in methods
        for sparsity in sparsities
    ]
    return list(dict.fromkeys(every))


def is_dense(row: str, settings: Settings) -> bool:
    """Whether a row is the same at every sparsity."""
    if row == "narrow-dense":
        return False
    return method_of(row, settings) == "dense"


def method_of(row: str, settings: Settings) -> str:
    """The training method of a row: its own name, or what it says in ``sparsity.method``."""
    if row in BASELINES:
        return "dense"
    return str(settings.get(row, {}).get("sparsity", {}).get("method", row))


def recipe_for(recipe: Recipe, cell: Cell, settings: Settings) -> Recipe:
    """The recipe of one run: the shared one, changed by its row, at its sparsity and seed.

    Runs of one seed see their data in the same order, and models of one shape draw the same first
    weights for their dense parts.

    Args:
        recipe: What all runs share.
        cell: The run.
        settings: What rows change; they have the last word on sizes of baselines.

    Raises:
        ValueError: If the changes do not fit, or the baseline cannot be made.
    """
    method = method_of(cell.method, settings)
    sparsity = 0.0 if method == "dense" else cell.sparsity
    parts: list[Mapping[str, Any]] = [{"sparsity": {"method": method, "sparsity": sparsity}}]
    if cell.method == "narrow-dense":
        parts.append(narrow_dense(recipe, cell.sparsity))
    elif cell.method == "shallow-decoder":
        parts.append(shallow_decoder(recipe))
    plain = yaml.safe_load(recipe.to_yaml())
    for part in (*parts, settings.get(cell.method, {})):
        plain = merged(plain, dict(part))
    return _seeded(from_mapping(Recipe, plain), cell.seed)


def recipes_for(recipe: Recipe, grid: Sequence[Cell], settings: Settings) -> dict[Cell, Recipe]:
    """The recipe of every run, each found to be one that can be trained.

    Raises:
        ValueError: Naming the row whose changes do not fit, or whose model cannot be made or be
            made as sparse.
    """
    made: dict[tuple[str, float], Recipe] = {}
    cuda = torch.cuda.is_available()
    for cell in grid:
        key = (cell.method, cell.sparsity)
        if key not in made:
            with _naming(cell.method):
                made[key] = recipe_for(recipe, cell, settings)
                refuse_moving_links(made[key])
                refuse_standstill(made[key].sparsity, made[key].training.max_steps)
                tell_long_warmup(made[key])
                model = empty_model(made[key])
                plan(model, made[key].sparsity)
                bfloat16_on_cpu = made[key].training.precision == "bf16" and not cuda
                if bfloat16_on_cpu and made[key].sparsity.method == "dense":
                    tell_slow_bfloat16(model)
    return {cell: _seeded(made[cell.method, cell.sparsity], cell.seed) for cell in grid}


def refuse_unfit_rows(recipe: Recipe, grid: Sequence[Cell], settings: Settings) -> None:
    """Refuse rows whose changes are no part of a recipe, though nobody asks for these rows.

    Whether a model can be made by them shows when they are asked for: a pretrained model's layers
    cannot be tied, and it has no narrow one, so that baselines are passed over.

    Raises:
        ValueError: Naming the row and what is wrong.
    """
    for cell in grid:
        if cell.method not in BASELINES:
            with _naming(cell.method):
                recipe_for(recipe, cell, settings)


@contextmanager
def _naming(row: str) -> Iterator[None]:
    """Say in an error which row it is about."""
    try:
        yield
    except ValueError as error:
        raise ValueError(f"row {row}: {error}") from None


def _seeded(recipe: Recipe, seed: int) -> Recipe:
    return dataclasses.replace(
        recipe,
        training=dataclasses.replace(recipe.training, seed=seed),
        sparsity=dataclasses.replace(recipe.sparsity, seed=seed),
    )
