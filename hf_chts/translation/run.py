"""The main job: from a recipe to a trained sparse translation model, its scores and its files."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import torch
import transformers
from rich.console import Console
from safetensors import SafetensorError
from transformers import AutoModelForSeq2SeqLM

from hf_chts.engine.budget import refuse_standstill
from hf_chts.monitor import TopologyMonitor
from hf_chts.network.patch_report import PatchReport
from hf_chts.patching import sparsify
from hf_chts.safe_saving import sweep, whole_folder, write_text
from hf_chts.training.topology_log import LOG_FILE
from hf_chts.translation.arguments import tell_long_warmup, training_arguments
from hf_chts.translation.averaging import average_checkpoints, refuse_moving_links
from hf_chts.translation.batches import Collator
from hf_chts.translation.bleu import Scores, score, scorers
from hf_chts.translation.data import DataSource, ParallelText, load_pairs
from hf_chts.translation.decode import translate_by
from hf_chts.translation.encode import encode
from hf_chts.translation.model import (
    keep_frozen,
    make_model,
    make_tokenizers,
    refuse_misfit,
    settled,
)
from hf_chts.translation.model_card import write_model_card
from hf_chts.translation.progress import ShowProgress
from hf_chts.translation.recipe import Recipe, load_recipe
from hf_chts.translation.run_folder import RunFolder
from hf_chts.translation.sections import EvaluationSection
from hf_chts.translation.sizes import Sizes
from hf_chts.translation.tokenizer import TokenizerPair
from hf_chts.translation.training import TranslationTrainer


@dataclasses.dataclass(frozen=True)
class Result:
    """What a finished run has to show.

    Attributes:
        scores: Scores of each test set by name.
        sizes: The model beside the dense one.
        examples: Source, translation and reference of the first test sentences.
        seconds: Wall time of the training itself, over all parts of a resumed run.
    """

    scores: dict[str, Scores]
    sizes: Sizes
    examples: list[tuple[str, str, str]]
    seconds: float


def train(
    recipe: Recipe,
    output: str | Path,
    *,
    resume: bool = False,
    resume_from: int | None = None,
    overwrite: bool = False,
) -> Result:
    """Run a recipe from its text to its scores.

    Args:
        recipe: What to train; see :func:`hf_chts.translation.recipe.load_recipe`.
        output: Folder of the run; :class:`RunFolder` says what lies in it.
        resume: Go on from the last checkpoint of an interrupted run.
        resume_from: Go on from the checkpoint of this step instead, and delete later ones.
        overwrite: Replace a run that lies in the folder.

    Raises:
        ValueError: If the recipe, its data or the folder do not fit, or a checkpoint is damaged;
            before anything is written. In training, if a loss, gradient or weight is not finite.
        ImportError: If a package is missing that the data or the scores take.
        OSError: If a file cannot be read or written, for example on a full disk.
    """
    refuse_moving_links(recipe)
    refuse_standstill(recipe.sparsity, recipe.training.max_steps, tell=False)
    tell_long_warmup(recipe)
    recipe = settled(recipe)
    scorers(recipe.data.target_lang)
    folder = RunFolder(Path(output))
    args = training_arguments(recipe)
    main = args.process_index == 0
    goes_on = resume or resume_from is not None
    checkpoint = None
    if main or goes_on:
        checkpoint = folder.check(
            recipe, resume=resume, resume_from=resume_from, overwrite=overwrite
        )
    sets = {name: load_pairs(source) for name, source in recipe.data.test.items()}
    with args.main_process_first(local=False):
        kept = (goes_on or not main) and folder.tokenizer.is_dir()
        trainer, patching = _trainer(recipe, args, folder, kept)
        if main:
            _begin(recipe, folder, trainer.tokenizers, goes_on)
            write_text(folder.path / "patching.txt", f"{patching}\n")
            folder.record_environment()
        trainer.tokenizers = _kept_tokenizers(recipe, folder)  # the same where a run is resumed
    trainer.args.output_dir = str(folder.checkpoints)
    left_out = trainer.train_dataset.left_out
    console = Console(quiet=not main, highlight=False, markup=False, emoji=False)
    console.print(f"{left_out}\n{trainer.eval_dataset.left_out}\n")
    console.print(f"{patching}\n", soft_wrap=True)
    seconds = _fit(trainer, folder, checkpoint)
    return _finish(recipe, folder, sets, left_out.n_kept, seconds, main)


def _trainer(
    recipe: Recipe, args: Any, folder: RunFolder, kept: bool
) -> tuple[TranslationTrainer, PatchReport]:
    """The trainer with its model and text, and what was made sparse; nothing is written yet.

    Args:
        recipe: What to train.
        args: The trainer's arguments.
        folder: The run's folder.
        kept: Take the tokenizers from there.
    """
    text, validation_text = load_pairs(recipe.data.train), load_pairs(recipe.data.validation)
    tokenizers = _kept_tokenizers(recipe, folder) if kept else make_tokenizers(recipe, text)
    encoded = encode(text, tokenizers, recipe.data.max_length)
    validation = encode(validation_text, tokenizers, recipe.data.max_length)
    transformers.set_seed(recipe.training.seed)
    model = make_model(recipe, tokenizers)
    collator = Collator.of(model, tokenizers, 8 if torch.cuda.is_available() else 1)
    refuse_misfit(recipe, model, collator([encoded[encoded.longest]]))
    patching = sparsify(model, recipe.sparsity)
    trainer = TranslationTrainer(
        recipe,
        tokenizers,
        validation_text,
        model=model,
        args=args,
        train_dataset=encoded,
        eval_dataset=validation,
        data_collator=collator,
        callbacks=[ShowProgress(), TopologyMonitor(folder.path)],
    )
    return trainer, patching


def _kept_tokenizers(recipe: Recipe, folder: RunFolder) -> TokenizerPair:
    codes = recipe.tokenizer.source_code, recipe.tokenizer.target_code
    return TokenizerPair.load(folder.tokenizer, *codes)


def _begin(recipe: Recipe, folder: RunFolder, tokenizers: TokenizerPair, goes_on: bool) -> None:
    """Change the folder for the first time, when all has been found to fit."""
    if goes_on:
        sweep(folder.path)
    else:
        folder.start(recipe)
    if not folder.tokenizer.is_dir():
        with whole_folder(folder.tokenizer) as path:
            tokenizers.save(path)


def _fit(trainer: TranslationTrainer, folder: RunFolder, checkpoint: str | None) -> float:
    """Train, and save what came of it; the seconds it took."""
    trainer.remove_callback(transformers.PrinterCallback)
    trainer.train(resume_from_checkpoint=checkpoint)
    if trainer.args.process_index == 0:
        _save(trainer, folder)
    trainer.accelerator.wait_for_everyone()
    return trainer.clock.seconds


def _save(trainer: TranslationTrainer, folder: RunFolder) -> None:
    """Settle on the weights to keep, and save them beside the records of the training."""
    if trainer.recipe.training.average_last:
        average_checkpoints(trainer.model, folder.checkpoints, trainer.recipe.training.average_last)
    with whole_folder(folder.model) as path:
        trainer.model.save_pretrained(path)
        trainer.tokenizers.save(path)
    rows = "".join(json.dumps(entry) + "\n" for entry in trainer.state.log_history)
    write_text(folder.path / "metrics.jsonl", rows)
    log = folder.checkpoints / LOG_FILE
    if log.is_file():
        write_text(folder.path / LOG_FILE, log.read_text(encoding="utf-8"))


def _finish(
    recipe: Recipe,
    folder: RunFolder,
    sets: dict[str, ParallelText],
    n_pairs: int,
    seconds: float,
    main: bool,
) -> Result:
    """Translate the test sets with the saved model, on all processes; score and record on one."""
    model, tokenizers = load_model(folder.path)  # not the one in memory, which may run in bf16
    made = {
        name: translate_by(model, tokenizers, text.source, recipe.evaluation)
        for name, text in sets.items()
    }
    if not main:
        return Result({}, Sizes.of(model, folder.model), [], seconds)
    (folder.path / "translations").mkdir(exist_ok=True)
    scores: dict[str, Scores] = {}
    examples: list[tuple[str, str, str]] = []
    for name, text in sets.items():
        hypotheses = made[name]
        lines = "".join(line + "\n" for line in hypotheses)
        write_text(folder.path / "translations" / f"{name}.txt", lines)
        scores[name] = score(hypotheses, text.target, recipe.data.target_lang)
        examples = examples or list(zip(text.source, hypotheses, text.target, strict=True))[:10]
    sizes = Sizes.of(model, folder.model)
    folder.write_json("sizes.json", sizes.as_dict())
    write_model_card(folder.model, recipe, model, scores, sizes, n_pairs)
    record = {name: s.as_dict() for name, s in scores.items()}
    folder.write_json("bleu.json", {"test": record, "training_seconds": round(seconds, 1)})
    return Result(scores, sizes, examples, seconds)


def load_model(directory: str | Path) -> tuple[Any, TokenizerPair]:
    """A model, sparse or dense, and its tokenizers, from a run's folder or a model's.

    Raises:
        ValueError: If there is no model, or it brings code of its own, which is never run.
    """
    path, codes = _run_of(directory), (None, None)
    if not path.is_dir():
        raise ValueError(f"there is no folder {directory}: give that of a finished run or model")
    if (path / "model").is_dir():
        section = RunFolder(path).settings()["tokenizer"]
        codes = (section.get("source_code"), section.get("target_code"))
        path = path / "model"
    elif not (path / "config.json").is_file():
        raise ValueError(f"{directory} holds no model: give the folder of a finished run or model")
    try:
        model = AutoModelForSeq2SeqLM.from_pretrained(path, trust_remote_code=False)
    except SafetensorError as error:
        raise ValueError(f"the weights in {path} are damaged ({error}): copy them again") from None
    keep_frozen(model)
    if torch.cuda.is_available():
        model = model.cuda()
    return model.eval(), TokenizerPair.load(path, *codes)


def _run_of(directory: str | Path) -> Path:
    """The run's folder where its model's is given, whose recipe says how to translate."""
    path = Path(directory)
    inside = path.name == "model" and RunFolder(path.parent).recipe.is_file()
    return path.parent if inside else path


def usual_scoring(directory: str | Path) -> tuple[str | None, EvaluationSection]:
    """Target language and decoding by which a run was scored; None and defaults for a model.

    Raises:
        ValueError: If the run's recipe is damaged.
    """
    path = RunFolder(_run_of(directory)).recipe
    if not path.is_file():
        return None, EvaluationSection()
    recipe = load_recipe(path)
    return recipe.data.target_lang, recipe.evaluation


def evaluate(
    directory: str | Path,
    source: DataSource,
    target_lang: str | None,
    evaluation: EvaluationSection,
) -> tuple[Scores, list[str]]:
    """Score a trained model on parallel text.

    Returns:
        The scores and the translations.

    Raises:
        ValueError: If there is no model, or the data are empty or malformed.
        FileNotFoundError: If a file is missing.
        ImportError: If a package is missing that the data or the scores take.
    """
    scorers(target_lang)
    text = load_pairs(source)
    model, tokenizers = load_model(directory)
    hypotheses = translate_by(model, tokenizers, text.source, evaluation)
    return score(hypotheses, text.target, target_lang), hypotheses


def translate_stream(
    directory: str | Path, lines: list[str], evaluation: EvaluationSection
) -> list[str]:
    """Translate lines with a trained model, in order."""
    model, tokenizers = load_model(directory)
    return translate_by(model, tokenizers, lines, evaluation)
