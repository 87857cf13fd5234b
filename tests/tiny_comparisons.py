"""A tiny recipe and its text, for comparisons."""

from __future__ import annotations

from pathlib import Path

from hf_chts.translation.corpus import sentence_pairs

RECIPE = """
data:
  train: {files: [train.en, train.de]}
  validation: {files: [valid.en, valid.de]}
  test: {first: {files: [test.en, test.de]}}
  max_length: 48
tokenizer: {vocab_size: 200}
model:
  config: {d_model: 32, encoder_layers: 2, decoder_layers: 2, encoder_attention_heads: 4,
    decoder_attention_heads: 2, encoder_ffn_dim: 48, decoder_ffn_dim: 64, dropout: 0.1,
    max_position_embeddings: 64}
training: {max_steps: 12, batch_tokens: 500, evaluate_every: 3, warmup_steps: 4,
  learning_rate: 1.0e-2}
sparsity: {update_interval: 2, stop_fraction: 0.8}
evaluation: {beams: 1}
"""


def write_recipe(folder: Path, recipe: str = RECIPE) -> Path:
    """Write a recipe and its text; the recipe's path."""
    pairs = sentence_pairs(200)
    for name, part in (("train", pairs[:180]), ("valid", pairs[180:195]), ("test", pairs[195:])):
        for side, language in enumerate(("en", "de")):
            text = "".join(pair[side] + "\n" for pair in part)
            (folder / f"{name}.{language}").write_text(text, encoding="utf-8")
    path = folder / "recipe.yaml"
    path.write_text(recipe)
    return path
