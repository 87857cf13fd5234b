"""The model card of a trained model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hf_chts.layers.sparse_linear import sparse_layers
from hf_chts.methods import METHODS
from hf_chts.translation.bleu import Scores
from hf_chts.translation.data import DataSource
from hf_chts.translation.recipe import Recipe
from hf_chts.translation.sizes import Sizes

_TEXT = """---
library_name: transformers
pipeline_tag: translation
language: [{source}, {target}]
tags: [hf-chts, sparse, {method}]
---
# {source}-{target} translation, {method}

{what}

## Use

```python
import hf_chts  # teaches Transformers to load sparse layers
from transformers import AutoModelForSeq2SeqLM, AutoTokenizer

model = AutoModelForSeq2SeqLM.from_pretrained("this folder")
tokenizer = AutoTokenizer.from_pretrained("this folder")
```

Without `import hf_chts` Transformers only warns and fills the sparse layers with random numbers;
`hf_chts.from_pretrained` checks that nothing is missing.

## Training

Trained on {pairs:,} sentence pairs ({data}) for {steps:,} steps, seed {seed}. Method: {paper}.

## Scores

{scores}

## Sizes

{sizes}
"""


def write_model_card(
    folder: Path, recipe: Recipe, model: Any, scores: dict[str, Scores], sizes: Sizes, pairs: int
) -> None:
    """Write ``README.md`` beside the weights: method, sparsity, data, scores with signatures."""
    method = recipe.sparsity.method
    layers = sparse_layers(model)
    if layers:
        share = 1 - sizes.linear_parameters / sizes.dense_linear_parameters
        what = f"{share:.2%} of the links of {len(layers)} linear layers are inactive, not stored."
    else:
        what = "A dense model, the baseline of sparse ones."
    lines: list[tuple[str, ...]] = [("test set", "score", "value", "sacreBLEU signature")]
    for name, s in scores.items():
        named = (("BLEU", s.bleu), ("chrF", s.chrf), ("TER", s.ter))
        lines += [(name, label, f"{x.value:.2f}", f"`{x.signature}`") for label, x in named]
    text = _TEXT.format(
        source=recipe.data.source_lang,
        target=recipe.data.target_lang,
        method=method,
        what=what,
        pairs=pairs,
        data=_data(recipe.data.train),
        steps=recipe.training.max_steps,
        seed=recipe.training.seed,
        paper=METHODS[method].paper,
        scores=_markdown(lines),
        sizes=_markdown([("", "dense", "sparse", "ratio"), *sizes.rows()]),
    )
    (folder / "README.md").write_text(text, encoding="utf-8")


def _data(source: DataSource) -> str:
    """What the training text is called, without the folders of the machine it lay on."""
    if source.corpus is not None:
        return f"{source.corpus} corpus"
    if source.dataset is not None and not Path(source.dataset).exists():
        return source.dataset
    paths = source.files or (source.file or source.dataset or "",)
    return ", ".join(Path(path).name for path in paths)


def _markdown(rows: list[tuple[str, ...]]) -> str:
    lines = ["| " + " | ".join(row) + " |" for row in rows]
    lines.insert(1, "|" + " --- |" * len(rows[0]))
    return "\n".join(lines)
