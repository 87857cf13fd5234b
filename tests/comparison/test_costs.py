"""Operations counted by hand, and by the model itself."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tiny_training import SEQ2SEQ, marian, sparse
from transformers import MarianConfig, MarianMTModel

from hf_chts.comparison.costs import ForwardCost, TrainingCost, Workload, forward_cost
from hf_chts.layers.sparse_linear import sparse_layers
from hf_chts.translation.recipe import load_recipe
from hf_chts.translation.tokenizer import TokenizerPair

D, FFN, VOCABULARY = SEQ2SEQ["d_model"], SEQ2SEQ["encoder_ffn_dim"], SEQ2SEQ["vocab_size"]
SOURCE, TARGET = 5, 7


def of_linears():
    """Two operations a weight and token; keys and values of cross-attention see the source."""
    encoder = 4 * D * D + 2 * D * FFN
    decoder = 4 * D * D + 2 * D * D + 2 * D * FFN
    return 2 * SOURCE * (encoder + 2 * D * D) + 2 * TARGET * decoder


def of_the_rest():
    """Queries by keys, and weights by values, in three attentions; the vocabulary."""
    attention = SOURCE * SOURCE + TARGET * TARGET + TARGET * SOURCE
    return 2 * 2 * attention * D + 2 * TARGET * D * VOCABULARY


def test_a_dense_model_by_hand() -> None:
    cost = forward_cost(MarianMTModel(MarianConfig(**SEQ2SEQ)), SOURCE, TARGET)
    assert cost.layers == {}
    assert cost.rest == cost.at({}) == of_linears() + of_the_rest()


def test_a_sparse_model_by_hand() -> None:
    model = marian(sparsity=0.75)
    densities = {name: layer.density for name, layer in sparse_layers(model).items()}
    assert set(densities.values()) == {0.25}
    cost = forward_cost(model, SOURCE, TARGET)
    assert cost.rest == of_the_rest()
    assert sum(cost.layers.values()) == of_linears()
    assert cost.layers["model.encoder.layers.0.fc1"] == 2 * SOURCE * D * FFN
    assert cost.layers["model.decoder.layers.0.encoder_attn.k_proj"] == 2 * SOURCE * D * D
    assert cost.layers["model.decoder.layers.0.encoder_attn.q_proj"] == 2 * TARGET * D * D
    assert cost.at(densities) == of_the_rest() + of_linears() / 4


def test_a_layer_left_dense_counts_in_full() -> None:
    model = sparse(MarianMTModel(MarianConfig(**SEQ2SEQ)), exclude=["fc1", "fc2"], sparsity=0.5)
    cost = forward_cost(model, SOURCE, TARGET)
    feed_forward = 2 * (SOURCE + TARGET) * 2 * D * FFN
    assert cost.rest == of_the_rest() + feed_forward
    assert sum(cost.layers.values()) == of_linears() - feed_forward


FORWARD = ForwardCost(10.0, {"a": 100.0})
FALLING = [(0, {"a": 0.5}), (4, {"a": 0.1})]


def test_training_with_a_falling_density_by_hand() -> None:
    cost = TrainingCost(FORWARD, 2.0, FALLING, {"weight"})
    assert cost.until(0) == 0
    assert cost.until(4) == 2 * 3 * (10 + 50) * 4
    assert cost.until(6) == cost.until(4) + 2 * 3 * (10 + 10) * 2


def test_what_updates_read_is_counted_once_an_update() -> None:
    plain = TrainingCost(FORWARD, 2.0, FALLING, {"grad"})
    gradients = TrainingCost(FORWARD, 2.0, FALLING, {"weight", "dense_grad"})
    assert gradients.until(3) == plain.until(3)
    assert gradients.until(4) == plain.until(4) + 2 * 100 * (1 - 0.5)
    assert gradients.until(9) == plain.until(9) + 2 * 100 * (1 - 0.5)
    correlations = TrainingCost(FORWARD, 2.0, FALLING, {"correlation"})
    assert correlations.until(9) == plain.until(9) + 2 * 100


@given(st.integers(0, 30), st.integers(0, 30))
def test_operations_add_up_over_steps(first: int, more: int) -> None:
    cost = TrainingCost(FORWARD, 1.0, [*FALLING, (9, {"a": 0.05})], {"dense_grad"})
    steps = range(first + 1, first + more + 1)
    each = sum(cost.until(step) - cost.until(step - 1) for step in steps)
    assert cost.until(first + more) - cost.until(first) == pytest.approx(each)


class Words:
    """A tokenizer whose tokens are words and an end."""

    def __call__(self, text=None, text_target=None, **options):
        lines = text if text is not None else text_target
        return {"input_ids": [[3] * len(line.split()) + [1] for line in lines]}


def recipe_of(folder, **training):
    (folder / "text.en").write_text("a b\na\na b c\na b c d e f\n")  # 3, 2, 4 and 7 tokens
    (folder / "text.de").write_text("a\na b\na b c d\na b c\n")  # 2, 3, 5 and 4 tokens
    files = "{files: [text.en, text.de]}"
    (folder / "recipe.yaml").write_text(
        f"data: {{train: {files}, validation: {files}, test: {{t: {files}}}, max_length: 6}}\n"
        "training: {max_steps: 9, batch_tokens: 7, accumulation: 2}\n"
    )
    return load_recipe(folder / "recipe.yaml")


def test_an_average_step_by_hand(tmp_path) -> None:
    """Three pairs are short enough; the two shortest make a batch, two batches a step."""
    tokenizers = TokenizerPair(Words(), Words())
    workload = Workload.of(recipe_of(tmp_path), tokenizers)
    assert (workload.source_tokens, workload.target_tokens) == (3, 3)  # 9 / 3 and 10 / 3
    assert workload.pairs_per_step == pytest.approx(19 / 6)  # 19 tokens, pairs of 6
