"""The folder of a run: what lies where, and what may be written there."""

from __future__ import annotations

import json
import os
import platform
import re
import subprocess
import sys
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
import yaml

from hf_chts.safe_saving import (
    UNFINISHED,
    checkpoints,
    discard,
    sweep,
    what_is_damaged,
    write_text,
)
from hf_chts.translation.recipe import Recipe

_CONTENTS = {
    *("recipe.yaml", "environment.json", "patching.txt", "tokenizer", "checkpoints", "model"),
    *("topology.jsonl", "metrics.jsonl", "bleu.json", "sizes.json", "translations"),
    *("network.json", "snapshots", "report.html"),
}
"""Everything a run writes; a folder with anything else is not deleted."""


@dataclass(frozen=True)
class RunFolder:
    """Paths of one run.

    ``recipe.yaml`` the recipe with every value, ``environment.json`` versions and machine,
    ``patching.txt`` which layers are sparse, ``tokenizer/``, ``checkpoints/`` to resume from,
    ``topology.jsonl`` every topology update, ``metrics.jsonl`` losses, ``model/`` the result,
    ``bleu.json`` scores with signatures, ``sizes.json``, ``translations/`` of the test sets, and
    ``network.json`` and ``snapshots/`` with the links over time, for ``hf-chts report``.
    """

    path: Path

    @property
    def recipe(self) -> Path:
        """The resolved recipe."""
        return self.path / "recipe.yaml"

    @property
    def checkpoints(self) -> Path:
        """Checkpoints to resume from."""
        return self.path / "checkpoints"

    @property
    def tokenizer(self) -> Path:
        """The tokenizers of the run."""
        return self.path / "tokenizer"

    @property
    def model(self) -> Path:
        """The trained model with its tokenizers."""
        return self.path / "model"

    def check(
        self,
        recipe: Recipe,
        *,
        resume: bool = False,
        resume_from: int | None = None,
        overwrite: bool = False,
    ) -> str | None:
        """Find out whether a run may use the folder; nothing is changed.

        Args:
            recipe: What will run.
            resume: Go on from the last checkpoint.
            resume_from: Go on from the checkpoint of this step.
            overwrite: Delete an earlier run that lies here.

        Returns:
            The checkpoint to resume from, or None to start anew.

        Raises:
            ValueError: If another run lies here and no option was given, if options exclude each
                other, if a file or other files lie here, if there is nothing to resume, if the
                recipe differs from the one that was interrupted, or if the checkpoint is damaged.
        """
        for place in (self.path, *self.path.parents):
            if place.exists() and not place.is_dir():
                raise ValueError(f"{place} is a file: give a folder for the run")
        if resume or resume_from is not None:
            if overwrite:
                raise ValueError(
                    "a run is either gone on with or replaced: leave out --overwrite, or --resume "
                    "and --resume-from"
                )
            return self._checkpoint_of(recipe, resume_from)
        found = {path.name for path in self.path.iterdir()} if self.path.is_dir() else set()
        found.discard(UNFINISHED)
        if foreign := sorted(found - _CONTENTS if self.recipe.is_file() else found):
            raise ValueError(
                f"{self.path} holds other files ({foreign[0]}): give a new or empty folder"
            )
        if found and not overwrite:
            raise ValueError(
                f"{self.path} holds a run already: use --resume to go on with it, "
                "--overwrite to replace it, or another folder"
            )
        return None

    def start(self, recipe: Recipe) -> None:
        """Make the folder, and delete the run that lies there, if any; see :meth:`check`.

        The old run's recipe goes last, and its checkpoints before anything they need: a start that
        is killed leaves a run that can be resumed or replaced.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        sweep(self.path)
        old = {path.name: path for path in self.path.iterdir() if path != self.recipe}
        for name in sorted(old, key=lambda name: name != "checkpoints"):
            discard(old[name])
        write_text(self.recipe, recipe.to_yaml())

    def settings(self) -> dict[str, Any]:
        """The run's recipe as plain data.

        Raises:
            ValueError: If the file is damaged.
        """
        try:
            found = yaml.safe_load(self.recipe.read_text(encoding="utf-8"))
            if all(isinstance(found[key], dict) for key in ("data", "training", "tokenizer")):
                return dict(found)
        except (yaml.YAMLError, ValueError, TypeError, KeyError, RecursionError):
            pass
        raise ValueError(f"{self.recipe} is damaged: put the recipe of the run back")

    def _checkpoint_of(self, recipe: Recipe, step: int | None) -> str | None:
        if not self.recipe.is_file():
            raise ValueError(f"{self.path} holds no run to resume: start it without --resume")
        differing = differences(self.settings(), yaml.safe_load(recipe.to_yaml()))
        if differing:
            raise ValueError(
                f"the recipe differs from the one in {self.path} in {', '.join(differing)}: "
                "resume with the same recipe, or start a new run"
            )
        found = checkpoints(self.checkpoints)
        if step is None and not found:
            return None
        chosen = self.checkpoints / f"checkpoint-{max(found) if step is None else step}"
        if damage := what_is_damaged(chosen):
            earlier = [str(n) for n, path in found.items() if path != chosen]
            others = f"go on from another one with --resume-from {' or '.join(earlier)}"
            otherwise = others if earlier else "start the run anew with --overwrite"
            raise ValueError(f"{chosen} cannot be resumed: {damage}; {otherwise}")
        return str(chosen)

    def write_json(self, name: str, data: Any) -> None:
        """Write plain data under a name of this folder."""
        text = json.dumps(data, indent=2, ensure_ascii=False)
        write_text(self.path / name, text + "\n")

    def record_environment(self) -> None:
        """Write what this process runs on, and where that differs, what ran before a resume."""
        name, now = "environment.json", environment()
        before = dict(now)
        if (self.path / name).is_file():
            with suppress(ValueError):  # damaged: it tells nothing
                before = dict(json.loads((self.path / name).read_text(encoding="utf-8")))
        earlier = before.pop("earlier", [])
        if any(before.get(key) != now[key] for key in now if key != "command"):
            earlier.append(before)
        self.write_json(name, now | ({"earlier": earlier} if earlier else {}))


def environment() -> dict[str, Any]:
    """Versions, machine and command of this process, for the record of a run."""
    packages = ("hf-chts", "torch", "transformers", "accelerate", "tokenizers", "sacrebleu")
    return {
        "command": " ".join(["hf-chts", *sys.argv[1:]]),
        "python": platform.python_version(),
        **{name: _version(name) for name in packages},
        "commit": _commit(),
        "processor": _processor(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
    }


def _version(name: str) -> str | None:
    try:
        return version(name)
    except ImportError:  # run from a source tree
        return None


def _commit() -> str | None:
    """The commit of this package's source tree, where it runs from one."""
    if not _git("ls-files", Path(__file__).name):
        return None  # installed in a folder of someone else's repository, such as .venv
    name = _git("describe", "--always")
    changed = _git("status", "--porcelain", "--untracked-files=no")
    return f"{name}-dirty" if name and changed else name or None


def _git(*command: str) -> str:
    """What git says of the source tree, without a lock that a killed run would leave there."""
    git = ["git", "--no-optional-locks", "-C", str(Path(__file__).parent), *command]
    try:
        return subprocess.run(git, capture_output=True, text=True, check=False).stdout.strip()
    except OSError:
        return ""


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").split("\n"):
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def differences(before: Any, after: Any, where: str = "") -> list[str]:
    """Dotted names of the settings in which two recipes differ; files by where they lie."""
    if not (isinstance(before, dict) and isinstance(after, dict)):
        if re.fullmatch(r"data\..*\.files?", where):
            before, after = _places(before), _places(after)
        return [] if before == after else [where]
    names = []
    for key in dict.fromkeys((*before, *after)):
        inner = f"{where}.{key}" if where else str(key)
        names += differences(before.get(key), after.get(key), inner)
    return names


def _places(names: Any) -> Any:
    """Where files lie, however they are named."""
    listed = [names] if isinstance(names, str) else names
    return [os.path.realpath(str(name)) for name in listed] if isinstance(listed, list) else names
