"""The paper's own results, to stand beside ours where the task is the same."""

from __future__ import annotations

from dataclasses import dataclass

from hf_chts.translation.recipe import Recipe

SOURCE = "Zhang et al., NeurIPS 2025, arXiv:2501.19107, Table 2 (mean of three seeds)"
SPARSITY = 0.9


@dataclass(frozen=True)
class PaperTask:
    """One column of the paper's table.

    Attributes:
        name: Name of the task.
        source_lang: Language of the source.
        target_lang: Language of the target.
        corpus: What the name of the training text must hold, in any case.
        test_set: Name that the test set must have in the recipe. The paper does not name its own.
        bleu: BLEU by method, those that are sparse at 90%.
    """

    name: str
    source_lang: str
    target_lang: str
    corpus: str
    test_set: str
    bleu: dict[str, float]


METHODS = ("dense", "set", "rigl", "cht", "chts", "mest", "gmp", "granet", "chtss")


def _bleu(*values: float) -> dict[str, float]:
    return dict(zip(METHODS, values, strict=True))


TASKS = (
    PaperTask("Multi30k", "en", "de", "multi30k", "test2016",
              _bleu(31.38, 29.73, 30.26, 28.38, 29.81, 30.04, 30.49, 31.62, 32.86)),
    PaperTask("IWSLT14", "en", "de", "iwslt14", "test",
              _bleu(24.48, 20.13, 21.52, 19.91, 21.92, 21.05, 22.82, 22.43, 24.31)),
    PaperTask("WMT17", "en", "de", "wmt17", "newstest2017",
              _bleu(25.22, 21.52, 22.22, 21.08, 22.40, 22.22, 23.37, 23.46, 24.61)),
)  # fmt: skip


def sparsity_of(method: str) -> float:
    """Share of inactive links at which the paper has a method."""
    return 0.0 if method == "dense" else SPARSITY


def paper_task(recipe: Recipe) -> PaperTask | None:
    """The paper's task that a recipe has the data of; None if there is none.

    Both languages must be the same, a test set must have the task's name, and the training text's
    name (of its files, or of the data set) must hold that of the corpus. Settings may differ.
    """
    data = recipe.data
    train = data.train
    text = " ".join([*(train.files or ()), train.file or "", train.dataset or ""]).lower()
    for task in TASKS:
        languages = (data.source_lang, data.target_lang) == (task.source_lang, task.target_lang)
        if languages and task.corpus in text and task.test_set in data.test:
            return task
    return None
