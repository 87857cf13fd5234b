"""The folder of a comparison: what lies where, and what state each run is in."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import yaml
from filelock import FileLock, Timeout

from hf_chts import __version__
from hf_chts.comparison.grid import Cell, Settings
from hf_chts.config import from_mapping
from hf_chts.methods import METHODS
from hf_chts.safe_saving import UNFINISHED, write_text
from hf_chts.translation.recipe import Recipe
from hf_chts.translation.run_folder import RunFolder, differences

_LOCK = ".lock"
_PER_RUN = {"training.seed", "sparsity.seed", "sparsity.method", "sparsity.sparsity"}
"""Settings of the shared recipe that no run takes from it."""

_DIVERGED = 3
"""Exit status of ``hf-chts train`` at a number that is not finite."""


@dataclass(frozen=True)
class ComparisonFolder:
    """Paths of one comparison.

    ``comparison.json`` holds the shared recipe, what rows change, and every run that was asked for
    (``cells``); ``runs/NAME/`` is an ordinary run's folder, without its checkpoints once it is
    done; ``recipes/NAME.yaml`` its recipe, ``logs/NAME.log`` its output, and
    ``runs/NAME/failed.json`` why it did not come to its end.
    """

    path: Path

    @property
    def record(self) -> Path:
        """What is compared."""
        return self.path / "comparison.json"

    def run(self, cell: Cell) -> RunFolder:
        """The folder of one run."""
        return RunFolder(self.path / "runs" / cell.name)

    def recipe(self, cell: Cell) -> Path:
        """The file that the run is started with."""
        return self.path / "recipes" / f"{cell.name}.yaml"

    def log(self, cell: Cell) -> Path:
        """What the run printed."""
        return self.path / "logs" / f"{cell.name}.log"

    def failure(self, cell: Cell) -> Path:
        """Why the run ended early."""
        return self.run(cell).path / "failed.json"

    def state(self, cell: Cell) -> Literal["new", "begun", "done", "failed"]:
        """How far a run is."""
        if (self.run(cell).path / "bleu.json").is_file():
            return "done"
        if self.failure(cell).is_file():
            return "failed"
        return "begun" if self.run(cell).recipe.is_file() else "new"

    def bleu(self, cell: Cell) -> dict[str, float]:
        """BLEU of a run that is done, by test set."""
        scores = json.loads((self.run(cell).path / "bleu.json").read_text(encoding="utf-8"))
        return {name: score["bleu"]["value"] for name, score in scores["test"].items()}

    def fail(self, cell: Cell, error: str, exit_status: int) -> str:
        """Record that a run ended early, and return what became of it.

        Returns:
            ``"diverged"`` if a loss, gradient or weight was not finite, else ``"failed"``.
        """
        outcome = "diverged" if exit_status == _DIVERGED else "failed"
        text = json.dumps({"outcome": outcome, "error": error, "exit_status": exit_status})
        self.run(cell).path.mkdir(parents=True, exist_ok=True)
        write_text(self.failure(cell), text + "\n")
        return outcome

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Keep other commands out of the folder, which is made if need be.

        Raises:
            ValueError: If there are other files, or another command is at work.
        """
        found = {entry.name for entry in self.path.iterdir()} if self.path.is_dir() else set()
        foreign = sorted(found - {_LOCK, UNFINISHED})
        if self.path.is_file() or (foreign and not self.record.is_file()):
            raise ValueError(
                f"{self.path} holds other files and no comparison: give a new or empty folder"
            )
        self.path.mkdir(parents=True, exist_ok=True)
        try:
            with FileLock(self.path / _LOCK, timeout=0):
                yield
        except Timeout:
            raise ValueError(
                f"another hf-chts compare is at work in {self.path}: wait for it or end it"
            ) from None

    def cells(self) -> list[Cell]:
        """The runs that were asked for so far."""
        return [Cell(**cell) for cell in self._stored().get("cells", ())]

    def extend(
        self,
        recipe: Recipe,
        settings: Settings,
        sparsities: Sequence[float],
        recipes: Mapping[Cell, Recipe],
        texts: Mapping[str, int],
    ) -> None:
        """Add runs to the comparison; nothing is written where one does not belong to it.

        Args:
            recipe: What all runs share.
            settings: What rows change.
            sparsities: Those asked for.
            recipes: The recipe of every run of the rows asked for, also of those there before.
            texts: Checksums of all parallel texts by what names them.

        Raises:
            ValueError: If the comparison has another recipe, a run was made by one, or a text or
                the rules of a method have changed since.
        """
        before, plain = self._stored(), yaml.safe_load(recipe.to_yaml())
        differing = set(_differing(before.get("recipe", plain), recipe)) - _PER_RUN
        if differing:
            raise ValueError(
                f"the recipe differs from that of {self.path} in {', '.join(sorted(differing))}: "
                "go on with the same recipe, or give another folder"
            )
        for cell, asked in recipes.items():
            self._refuse_other(cell, asked)
        known_texts, known_rules = before.get("texts", {}), before.get("rules", {})
        rules = {asked.sparsity.method: _rules(asked) for asked in recipes.values()}
        self._refuse_changed("the text of", texts, known_texts)
        self._refuse_changed("the rules of method", rules, known_rules)
        grid = dict.fromkeys((*self.cells(), *recipes))
        rows = {cell.method for cell in recipes}
        others = {row: c for row, c in before.get("settings", {}).items() if row not in rows}
        commands = [*before.get("commands", ()), shlex.join(["hf-chts", *sys.argv[1:]])]
        record = {
            "commands": list(dict.fromkeys(commands)),
            "hf_chts": __version__,
            "methods": list(dict.fromkeys(cell.method for cell in grid)),
            "sparsities": sorted({*before.get("sparsities", ()), *sparsities}),
            "seeds": sorted({cell.seed for cell in grid}),
            "cells": [asdict(cell) for cell in grid],
            "settings": others | {row: c for row, c in settings.items() if row in rows},
            "rules": known_rules | rules,
            "texts": known_texts | texts,
            "recipe": plain,
        }
        write_text(self.record, json.dumps(record, indent=2, ensure_ascii=False) + "\n")

    def _stored(self) -> dict[str, Any]:
        if not self.record.is_file():
            return {}
        try:
            stored = json.loads(self.record.read_text(encoding="utf-8"))
            if {"recipe", "cells", "settings", "sparsities"} <= stored.keys():
                return dict(stored)
        except (ValueError, AttributeError):
            pass
        raise ValueError(f"{self.record} is damaged: put it back, or give another folder")

    def _refuse_changed(self, what: str, now: Mapping[str, Any], known: Mapping[str, Any]) -> None:
        changed = [name for name in now if known.get(name, now[name]) != now[name]]
        if changed:
            raise ValueError(
                f"{what} {', '.join(changed)} has changed since {self.path} was begun: its results "
                "would not be comparable; put back what has changed, or give another folder"
            )

    def _refuse_other(self, cell: Cell, asked: Recipe) -> None:
        folder = self.run(cell)
        if not folder.recipe.is_file():
            return
        differing = _differing(folder.settings(), asked)
        if differing:
            raise ValueError(
                f"{folder.path} was made with other settings ({', '.join(differing)}): go on with "
                "the same --settings, give the changes to a variant under another name, or delete "
                "the folder to have the run made anew"
            )


def _differing(before: Any, asked: Recipe) -> list[str]:
    """Settings that differ; one that an older version did not know has its default there."""
    stored = from_mapping(Recipe, before).to_yaml()
    return differences(yaml.safe_load(stored), yaml.safe_load(asked.to_yaml()))


def _rules(recipe: Recipe) -> Any:
    """What the method of a recipe is, as JSON has it."""
    return json.loads(json.dumps(METHODS[recipe.sparsity.method].settings))
