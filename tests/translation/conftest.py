"""One tiny translation run that several modules look at: its files, its recipe, the run itself."""

from __future__ import annotations

import pytest
from tiny_comparisons import write_recipe

from hf_chts.translation import run
from hf_chts.translation.recipe import load_recipe

RECIPE = """
data:
  train: {files: [train.en, train.de]}
  validation: {files: [valid.en, valid.de]}
  test: {first: {files: [test.en, test.de]}, second: {files: [test.en, test.de], max_pairs: 2}}
  max_length: 48
tokenizer: {vocab_size: 200}
model:
  config: {d_model: 16, encoder_layers: 1, decoder_layers: 1, encoder_attention_heads: 2,
    decoder_attention_heads: 2, encoder_ffn_dim: 24, decoder_ffn_dim: 24, dropout: 0.1,
    max_position_embeddings: 64}
training: {max_steps: 12, batch_tokens: 500, evaluate_every: 3, warmup_steps: 4,
  learning_rate: 1.0e-2}
sparsity: {method: chts, sparsity: 0.7, update_interval: 2, stop_fraction: 0.8}
evaluation: {beams: 2}
"""


@pytest.fixture(scope="session")
def folder(tmp_path_factory):
    """A recipe and its files."""
    folder = tmp_path_factory.mktemp("data")
    write_recipe(folder, RECIPE)
    return folder


@pytest.fixture(scope="session")
def recipe(folder):
    return load_recipe(folder / "recipe.yaml")


@pytest.fixture(scope="session")
def chts(recipe, folder):
    """A finished sparse run: its folder and its result."""
    output = folder / "chts"
    return output, run.train(recipe, output)
