"""Recipes: a translation experiment as one strict YAML file."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import yaml

from hf_chts.config import SparsityConfig, check_types, from_mapping
from hf_chts.translation.data import DataSource


@dataclass(frozen=True)
class ModelSection:
    """The model: a family with sizes, made from scratch, or a pretrained one.

    Attributes:
        family: Model type of Transformers, for example ``"marian"``, ``"bart"`` or ``"t5"``.
        config: Fields of that family's configuration; vocabulary and special tokens are filled in
            from the tokenizer.
        pretrained: Hub id or folder of a model to start from, instead of the two above.
        init_scale: Factor on the Xavier weights of the linear layers that stay dense, above 0.
    """

    family: str = "marian"
    config: dict[str, Any] = field(default_factory=dict)
    pretrained: str | None = None
    init_scale: float = 1.0

    def __post_init__(self) -> None:
        check_types(self)


@dataclass(frozen=True)
class TokenizerSection:
    """The tokenizer: trained on the corpus, or taken from a pretrained model.

    Attributes:
        kind: ``"bpe"`` or ``"unigram"``.
        vocab_size: Most tokens, special ones included.
        joint: One vocabulary for both languages, or one each.
        pretrained: Hub id or folder to take it from; by default that of a pretrained model.
        source_code: Source language code of multilingual tokenizers, for example ``"eng_Latn"``.
        target_code: Target language code, likewise.
    """

    kind: Literal["bpe", "unigram"] = "bpe"
    vocab_size: int = 8000
    joint: bool = True
    pretrained: str | None = None
    source_code: str | None = None
    target_code: str | None = None

    def __post_init__(self) -> None:
        check_types(self)


@dataclass(frozen=True)
class DataSection:
    """The text.

    Attributes:
        train: Training pairs.
        validation: Pairs that choose the best checkpoint.
        test: Test sets by name.
        source_lang: Language of the source, for example ``"en"``; for reports.
        target_lang: Language of the target; chooses sacreBLEU's tokenizer.
        max_length: Longest side of a training pair in tokens; longer pairs are reported, left out.
        root: Folder that the names of ``files`` and ``file`` start from; None: the recipe's own
            folder where the files are there, else the working directory.
    """

    train: DataSource
    validation: DataSource
    test: dict[str, Any]
    source_lang: str = "en"
    target_lang: str = "de"
    max_length: int = 128
    root: str | None = None

    def __post_init__(self) -> None:
        check_types(self)
        if not self.test:
            raise ValueError("test takes at least one test set by name")
        sets = {
            name: source
            if isinstance(source, DataSource)
            else from_mapping(DataSource, source, f"data.test.{name}.")
            for name, source in self.test.items()
        }
        object.__setattr__(self, "test", {n: self._rooted(source) for n, source in sets.items()})
        for name in ("train", "validation"):
            object.__setattr__(self, name, self._rooted(getattr(self, name)))
        object.__setattr__(self, "root", None)  # the names hold it now

    def _rooted(self, source: DataSource) -> DataSource:
        if self.root is None:
            return source
        root = Path(self.root)
        files = source.files and tuple(str(root / name) for name in source.files)
        return dataclasses.replace(
            source, files=files, file=source.file and str(root / source.file)
        )


@dataclass(frozen=True)
class TrainingSection:
    """The optimisation. A step is an optimizer step.

    Attributes:
        max_steps: Steps of the training, at least 1.
        batch_tokens: Most padded tokens of one side in a batch of one process.
        accumulation: Batches whose gradients are added up for a step.
        learning_rate: Peak rate; for ``noam`` and ``inoam`` the factor on the noam formula.
        schedule: ``"noam"``, ``"inoam"`` (noam with a warm-up after every topology update), or a
            schedule of Transformers: ``"inverse_sqrt"``, ``"linear"``, ``"cosine"``,
            ``"constant_with_warmup"``.
        warmup_steps: Steps of linear warm-up.
        label_smoothing: In [0, 1).
        betas: Decay rates of Adam's two moments.
        epsilon: Adam's epsilon.
        weight_decay: Decoupled weight decay.
        clip: Largest norm of the gradient; 0 does not clip.
        precision: ``"fp32"`` or ``"bf16"`` (autocast).
        gradient_checkpointing: Trade time for memory.
        evaluate_every: Steps between two validations, which also write a checkpoint.
        best_by: ``"loss"`` (validation loss) or ``"bleu"`` (BLEU of the validation set).
        average_last: Average the weights of so many last checkpoints instead of taking the best
            one; 0 takes the best.
        seed: Seed of data order, dropout and the dense weights.
    """

    max_steps: int
    batch_tokens: int = 4096
    accumulation: int = 1
    learning_rate: float = 5e-4
    schedule: Literal[
        "noam", "inoam", "inverse_sqrt", "linear", "cosine", "constant_with_warmup"
    ] = "inverse_sqrt"
    warmup_steps: int = 1000
    label_smoothing: float = 0.1
    betas: tuple[float, ...] = (0.9, 0.98)
    epsilon: float = 1e-9
    weight_decay: float = 0.0
    clip: float = 1.0
    precision: Literal["fp32", "bf16"] = "fp32"
    gradient_checkpointing: bool = False
    evaluate_every: int = 500
    best_by: Literal["loss", "bleu"] = "loss"
    average_last: int = 0
    seed: int = 1

    def __post_init__(self) -> None:
        check_types(self)
        for name in ("max_steps", "batch_tokens", "accumulation", "evaluate_every"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1; got {getattr(self, name)}")
        if len(self.betas) != 2:
            raise ValueError(f"betas takes two numbers; got {list(self.betas)}")
        if self.average_last < 0 or self.average_last == 1:
            raise ValueError(f"average_last takes 0 or at least 2; got {self.average_last}")


@dataclass(frozen=True)
class EvaluationSection:
    """Decoding and scoring.

    Attributes:
        beams: Beam width.
        length_penalty: Exponent of the length that divides a hypothesis' log-probability.
        batch_tokens: Most padded source tokens in a batch.
    """

    beams: int = 4
    length_penalty: float = 1.0
    batch_tokens: int = 4096

    def __post_init__(self) -> None:
        check_types(self)


@dataclass(frozen=True)
class Recipe:
    """One experiment: what to translate, with which model, how sparse, how trained."""

    data: DataSection
    training: TrainingSection
    model: ModelSection = field(default_factory=ModelSection)
    tokenizer: TokenizerSection = field(default_factory=TokenizerSection)
    sparsity: SparsityConfig = field(default_factory=SparsityConfig)
    evaluation: EvaluationSection = field(default_factory=EvaluationSection)

    def to_yaml(self) -> str:
        """The recipe with every value written out."""
        return yaml.safe_dump(_plain(dataclasses.asdict(self)), sort_keys=False, allow_unicode=True)


def load_recipe(path: str | Path, overrides: Sequence[str] = ()) -> Recipe:
    """Read a recipe, its bases and the overrides of the command line.

    A recipe may name another one under ``base``, relative to its own folder; it then holds only
    what differs. Data files are found relative to the folder of the recipe that names them, or,
    where they are not there, relative to the working directory.

    Args:
        path: The YAML file.
        overrides: Assignments ``section.key=value``, the value in YAML.

    Raises:
        ValueError: If a file is missing or no mapping, a key is unknown or a value does not fit.
    """
    settings = _read(Path(path), ())
    for assignment in overrides:
        _assign(settings, assignment)
    try:
        return from_mapping(Recipe, settings)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def _read(path: Path, seen: tuple[Path, ...]) -> dict[str, Any]:
    if not path.is_file():
        raise ValueError(f"no recipe {path}: give the path of a YAML file")
    if path.resolve() in seen:
        raise ValueError(f"{path} is its own base")
    try:
        settings = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is not YAML: {' '.join(str(error).split())}") from None
    if not isinstance(settings, dict):
        raise ValueError(f"{path}: a recipe is a mapping of sections; got {settings!r}")
    _anchor_files(settings.get("data"), path.parent)
    base = settings.pop("base", None)
    if base is None:
        return settings
    return _merged(_read(path.parent / str(base), (*seen, path.resolve())), settings)


def _anchor_files(data: Any, folder: Path) -> None:
    """Make file names relative to the recipe's folder, where the files are there."""
    if not isinstance(data, dict):
        return
    for source in data.values():
        _anchor_files(source, folder)
    if isinstance(data.get("files"), list):
        data["files"] = [_anchored(name, folder) for name in data["files"]]
    if isinstance(data.get("file"), str):
        data["file"] = _anchored(data["file"], folder)


def _anchored(name: Any, folder: Path) -> Any:
    found = isinstance(name, str) and (folder / name).is_file()
    return str(folder / name) if found else name


def _merged(base: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """Sections of both; where both have one, its keys are merged; rules are replaced whole."""
    merged = copy.deepcopy(base)
    for key, value in changes.items():
        both = isinstance(value, dict) and isinstance(merged.get(key), dict)
        merged[key] = _merged(merged[key], value) if both and "rule" not in value else value
    return merged


def _assign(settings: dict[str, Any], assignment: str) -> None:
    key, equals, text = assignment.partition("=")
    path = key.split(".")
    if not equals or not all(path) or len(path) < 2:
        raise ValueError(f"{assignment!r} is no override: write section.key=value")
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError:
        raise ValueError(f"{assignment!r}: the value is not YAML") from None
    place = settings
    for part in path[:-1]:
        inner = place.setdefault(part, {})
        if not isinstance(inner, dict):
            raise ValueError(f"{assignment!r}: {part} holds {inner!r}, not a section")
        place = inner
    place[path[-1]] = value


def _plain(value: Any) -> Any:
    """Nested data without tuples and without fields that are None."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items() if item is not None}
    return [_plain(item) for item in value] if isinstance(value, list | tuple) else value
