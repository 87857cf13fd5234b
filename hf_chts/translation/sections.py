"""The sections of a recipe, each checked by itself."""

from __future__ import annotations

import dataclasses
import math
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from hf_chts.config import check_types, from_mapping
from hf_chts.translation.data import DataSource


@dataclass(frozen=True)
class ModelSection:
    """The model: a family with sizes, made from scratch, or a pretrained one.

    Attributes:
        family: Model type of Transformers, for example ``"marian"``, ``"bart"`` or ``"t5"``.
        config: Fields of that family's configuration; vocabulary and special tokens are filled in
            from the tokenizer. Of a pretrained model, fields to change, such as ``dropout``; its
            sizes stay.
        pretrained: Hub id or folder of a model to start from, in place of ``family``.
        init_scale: Factor on the Xavier weights of the linear layers that stay dense, above 0.
    """

    family: str = "marian"
    config: dict[str, Any] = field(default_factory=dict)
    pretrained: str | None = None
    init_scale: float = 1.0

    def __post_init__(self) -> None:
        check_types(self)
        if self.init_scale <= 0:
            raise ValueError(f"init_scale must be above 0; got {self.init_scale}")


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
        _at_least(self, 1, "vocab_size")


@dataclass(frozen=True)
class DataSection:
    """The text.

    Attributes:
        train: Training pairs.
        validation: Pairs that choose the best checkpoint.
        test: Test sets by name; names are words of letters, digits, ``_``, ``.`` and ``-``.
        source_lang: Language of the source, for example ``"en"``; for reports.
        target_lang: Language of the target; chooses sacreBLEU's tokenizer.
        max_length: Longest side of a training pair in tokens; longer pairs are reported, left out.
        root: Folder that the names of ``files`` and ``file`` start from; None: that of the recipe
            that names them where the files are there, else the working directory.
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
        _at_least(self, 1, "max_length")
        if not self.test:
            raise ValueError("test takes at least one test set by name")
        sets = {}
        for name, source in self.test.items():
            if not re.fullmatch(r"\w[\w.-]*", str(name)):  # translations go to a file of this name
                raise ValueError(f"test takes names of letters, digits, _, . and -; got {name!r}")
            try:
                given = isinstance(source, DataSource)
                sets[str(name)] = source if given else from_mapping(DataSource, source)
            except ValueError as error:
                raise ValueError(f"test.{name}: {error}") from None
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
        learning_rate: Peak rate, above 0; for ``noam`` and ``inoam`` the factor on the noam
            formula.
        schedule: ``"noam"``, ``"inoam"`` (noam with a warm-up after every topology update), or a
            schedule of Transformers: ``"inverse_sqrt"``, ``"linear"``, ``"cosine"``,
            ``"constant_with_warmup"``.
        warmup_steps: Steps of linear warm-up, at least 0; for ``noam`` and ``inoam`` at least 1.
        label_smoothing: In [0, 1).
        betas: Decay rates of Adam's two moments, each in [0, 1).
        epsilon: Adam's epsilon, at least 0.
        weight_decay: Decoupled weight decay, at least 0.
        clip: Largest norm of the gradient, at least 0; 0 does not clip.
        precision: ``"fp32"`` or ``"bf16"`` (autocast).
        gradient_checkpointing: Trade time for memory.
        evaluate_every: Steps between two validations, which also write a checkpoint.
        best_by: ``"loss"`` (validation loss) or ``"bleu"`` (BLEU of the validation set);
            checkpoints from before the density is the final one do not count.
        average_last: Average the weights of so many last checkpoints instead of taking the best
            one; 0 takes the best.
        seed: Seed of data order, dropout and the dense weights, in [0, 2**32).
        report_to: Where the Trainer sends its logs beside the run's folder, for example
            ``["tensorboard"]`` or ``["wandb"]``.
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
    report_to: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        check_types(self)
        _at_least(self, 1, "max_steps", "batch_tokens", "accumulation", "evaluate_every")
        _at_least(self, int("noam" in self.schedule), "warmup_steps")
        _at_least(self, 0, "epsilon", "weight_decay", "clip", "seed")
        if self.seed >= 2**32:  # NumPy takes no larger one
            raise ValueError(f"seed must be below 2**32; got {self.seed}")
        if not 0 < self.learning_rate < math.inf:
            raise ValueError(f"learning_rate must lie in (0, inf); got {self.learning_rate}")
        if not 0 <= self.label_smoothing < 1:
            raise ValueError(f"label_smoothing must lie in [0, 1); got {self.label_smoothing}")
        if len(self.betas) != 2 or not all(0 <= beta < 1 for beta in self.betas):
            raise ValueError(f"betas takes two numbers in [0, 1); got {list(self.betas)}")
        object.__setattr__(self, "betas", tuple(self.betas))
        object.__setattr__(self, "report_to", tuple(self.report_to))
        checkpoints = -(-self.max_steps // self.evaluate_every)
        if self.average_last != 0 and not 2 <= self.average_last <= checkpoints:
            raise ValueError(
                "average_last takes 0, or at least 2 and at most the number of checkpoints, "
                f"max_steps / evaluate_every = {checkpoints}; got {self.average_last}"
            )


@dataclass(frozen=True)
class EvaluationSection:
    """Decoding and scoring.

    Attributes:
        beams: Beam width, at least 1.
        length_penalty: Exponent of the length that divides a hypothesis' log-probability.
        batch_tokens: Most padded source tokens in a batch, at least 1.
    """

    beams: int = 4
    length_penalty: float = 1.0
    batch_tokens: int = 4096

    def __post_init__(self) -> None:
        check_types(self)
        _at_least(self, 1, "beams", "batch_tokens")
        if not math.isfinite(self.length_penalty):
            raise ValueError(f"length_penalty must be finite; got {self.length_penalty}")


def _at_least(section: Any, lowest: int, *names: str) -> None:
    for name in names:
        if not lowest <= getattr(section, name) < math.inf:
            raise ValueError(f"{name} must be at least {lowest}; got {getattr(section, name)}")
