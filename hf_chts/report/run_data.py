"""Everything a report says about one run, read from the run's folder."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hf_chts.analysis.neurons import check_groups
from hf_chts.analysis.snapshots import NETWORK_FILE, Groups, Snapshots, load_snapshots
from hf_chts.report.files import Row, mapping, number, read_json, read_rows, read_text, read_yaml
from hf_chts.report.saved_masks import Mask, Shape, read_masks

MARKS = ("recipe.yaml", "metrics.jsonl", "bleu.json", "topology.jsonl", "checkpoints")
"""A folder with none of these is not a run's."""


@dataclass(frozen=True)
class RunData:
    """What a run's folder holds.

    Attributes:
        name: The folder's name.
        path: The folder.
        recipe: The resolved recipe; ``recipe_text`` as it was written.
        environment: Versions, machine and command of the last part of the run.
        earlier: Likewise of the parts before it that ran on something else.
        patching: Which layers are sparse and why, as text.
        metrics: Lines of the training log, by step.
        updates: Topology updates, a line for each layer, by step.
        scores: Scores by test set.
        training_seconds: Wall time of the training; None if it is not known.
        sizes: Numbers of parameters and bytes, beside the dense model's.
        translations: Translations by test set, a sentence a line.
        groups: Hidden neurons between layers; None if it is not known which there are.
        snapshots: Links during training; None if there are none.
        steps: Steps of the snapshots that are whole, rising.
        final: Masks of the saved model, or else of the last snapshot, in the order of the model;
            None if there are none.
        final_source: Where ``final`` comes from, in words.
        finished: Whether the run came to its scores.
        dense: Whether the recipe asks for a dense model.
        gaps: What is missing or damaged, a sentence each.
    """

    name: str
    path: Path
    recipe: Mapping[str, Any]
    recipe_text: str
    environment: Mapping[str, Any]
    earlier: list[Mapping[str, Any]]
    patching: str
    metrics: list[Row]
    updates: list[Row]
    scores: Mapping[str, Any]
    training_seconds: float | None
    sizes: Mapping[str, Any]
    translations: Mapping[str, list[str]]
    groups: Groups | None
    snapshots: Snapshots | None
    steps: list[int]
    final: Mapping[str, Mask] | None
    final_source: str
    finished: bool
    dense: bool
    gaps: list[str]

    @property
    def method(self) -> str:
        """Name of the training method."""
        return str(mapping(self.recipe, "sparsity").get("method", "unknown"))

    @property
    def layers(self) -> dict[str, Shape]:
        """Shape (out, in) of each sparse layer, in the order of the model."""
        return {name: (mask.shape[0], mask.shape[1]) for name, mask in (self.final or {}).items()}

    @property
    def density(self) -> float:
        """Active links over possible links, of all sparse layers together."""
        if self.final is None:
            raise ValueError("a run without links has no density")
        masks = self.final.values()
        return sum(int(mask.sum()) for mask in masks) / sum(mask.size for mask in masks)

    def masks_at(self, step: int) -> dict[str, Mask]:
        """Masks of the snapshot at one of ``steps``."""
        if self.snapshots is None:
            raise ValueError(f"there is no snapshot of step {step} in {self.path}")
        return self.snapshots.masks(step)

    @property
    def max_steps(self) -> float | None:
        """Steps that the recipe asks for."""
        return number(self.recipe, "training", "max_steps")

    @property
    def last_step(self) -> float:
        """The last step in any log."""
        return max((row["step"] for row in (*self.metrics, *self.updates)), default=0)


def read_run(folder: str | Path) -> RunData:
    """Read a run's folder, finished or not.

    Raises:
        ValueError: If the folder is missing or holds no run.
    """
    path, gaps = _checked(Path(folder)), list[str]()
    recipe = read_yaml(path / "recipe.yaml", gaps)
    environment = read_json(path / "environment.json", gaps)
    earlier = environment.pop("earlier", None)
    results = read_json(path / "bleu.json", gaps) if (path / "bleu.json").exists() else {}
    finished, dense = bool(results), mapping(recipe, "sparsity").get("method") == "dense"
    updates = _log(path, "topology.jsonl", gaps)
    snapshots = None if dense else _network(path, gaps)
    steps = [] if snapshots is None else _whole(snapshots, gaps)
    final, final_source = (None, "") if dense else _final(path, snapshots, steps, gaps)
    final = final and {name: final[name] for name in _ordered(final, snapshots, updates)}
    return RunData(
        name=path.resolve().name,
        path=path,
        recipe=recipe,
        recipe_text=read_text(path / "recipe.yaml"),
        environment=environment,
        earlier=[x for x in earlier if isinstance(x, dict)] if isinstance(earlier, list) else [],
        patching=read_text(path / "patching.txt"),
        metrics=_metrics(path, gaps),
        updates=updates,
        scores=mapping(results, "test"),
        training_seconds=number(results, "training_seconds"),
        sizes=read_json(path / "sizes.json", gaps) if finished else {},
        translations=_translations(path / "translations"),
        groups=_groups(snapshots, final, gaps),
        snapshots=snapshots,
        steps=steps,
        final=final,
        final_source=final_source,
        finished=finished,
        dense=dense,
        gaps=gaps,
    )


def _checked(path: Path) -> Path:
    if not path.is_dir():
        raise ValueError(f"there is no folder {path}: give the folder of a run")
    if not any((path / mark).exists() for mark in MARKS):
        raise ValueError(
            f"{path} holds no run ({', '.join(MARKS)} are all missing): give the folder that was "
            "given to hf-chts train --output"
        )
    return path


def _log(path: Path, name: str, gaps: list[str]) -> list[Row]:
    """A log, which lies among the checkpoints until the run is finished."""
    rows = read_rows(path / name, gaps) or read_rows(path / "checkpoints" / name, gaps)
    return sorted(rows, key=lambda row: row["step"])


def _metrics(path: Path, gaps: list[str]) -> list[Row]:
    rows = _log(path, "metrics.jsonl", gaps)
    if rows:
        return rows
    last = max(_checkpoints(path), default=None)
    if last is None:
        gaps.append("there is no training log yet (metrics.jsonl): no curves are shown")
        return []
    state = path / "checkpoints" / f"checkpoint-{last}" / "trainer_state.json"
    history = read_json(state, gaps).get("log_history")
    gaps.append(f"metrics.jsonl is missing: the curves are those of the checkpoint at step {last}")
    rows = history if isinstance(history, list) else []
    return [row for row in rows if number(row, "step") is not None]


def _network(path: Path, gaps: list[str]) -> Snapshots | None:
    folders = [path, path / "checkpoints"]  # a trainer's output folder, where nobody chose one
    folder = next((one for one in folders if (one / NETWORK_FILE).is_file()), None)
    if folder is None:
        gaps.append(
            f"{NETWORK_FILE} is missing (an older run): which neurons lie between layers is not "
            "known, and no evolution is shown"
        )
        return None
    try:
        return load_snapshots(folder)
    except ValueError as error:
        gaps.append(str(error))
        return None


def _whole(snapshots: Snapshots, gaps: list[str]) -> list[int]:
    """Steps whose snapshot can be read."""
    steps = []
    for step in snapshots.steps:
        try:
            snapshots.masks(step)
        except ValueError as error:
            gaps.append(str(error))
        else:
            steps.append(step)
    if not steps:
        gaps.append("there are no snapshots of the topology during training: no evolution is shown")
    return steps


def _final(
    path: Path, snapshots: Snapshots | None, steps: list[int], gaps: list[str]
) -> tuple[Mapping[str, Mask] | None, str]:
    """The links to analyse, and where they are from."""
    masks, source = _saved(path, snapshots, gaps)
    if masks is None and snapshots and steps:
        return snapshots.masks(steps[-1]), f"the snapshot at step {steps[-1]}"
    if masks is None:
        gaps.append("no links can be read, so nothing is said about the topology")
    return masks, source


def _saved(
    path: Path, network: Snapshots | None, gaps: list[str]
) -> tuple[Mapping[str, Mask] | None, str]:
    """The links of the result, or else of the last checkpoint, and which of the two it is."""
    last = max(_checkpoints(path), default=None)
    places = {"the saved model": path / "model"}
    if last is not None:
        places[f"the checkpoint at step {last}"] = path / "checkpoints" / f"checkpoint-{last}"
    for name, folder in places.items():
        if not (folder / "config.json").is_file():
            continue
        try:
            masks = read_masks(folder)
        except ValueError as error:
            gaps.append(str(error))
            continue
        shapes = {layer: mask.shape for layer, mask in masks.items()}
        if masks and (network is None or network.layers == shapes):
            return masks, name
        gaps.append(f"the sparse layers of {name} are not those of {NETWORK_FILE}")
    return None, ""


def _checkpoints(path: Path) -> list[int]:
    names = [file.parent.name for file in path.glob("checkpoints/checkpoint-*/trainer_state.json")]
    return [int(step) for name in names if (step := name.rpartition("-")[2]).isdigit()]


def _groups(
    network: Snapshots | None, final: Mapping[str, Mask] | None, gaps: list[str]
) -> Groups | None:
    if network is None or final is None:
        return None
    try:
        check_groups(final, network.groups)
    except (ValueError, TypeError, KeyError) as error:
        gaps.append(f"the neurons between layers in {NETWORK_FILE} cannot be used: {error}")
        return None
    return network.groups


def _ordered(
    masks: Mapping[str, Mask], network: Snapshots | None, updates: list[Row]
) -> dict[str, None]:
    """Names of layers in the order of the model, which network.json and the log keep."""
    known = network.layers if network else (str(row.get("name")) for row in updates)
    return dict.fromkeys((*(name for name in known if name in masks), *sorted(masks)))


def _translations(folder: Path) -> dict[str, list[str]]:
    texts = {path.stem: read_text(path) for path in sorted(folder.glob("*.txt"))}
    return {
        name: text.removesuffix("\n").split("\n") if text else [] for name, text in texts.items()
    }
