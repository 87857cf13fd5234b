"""A run that is killed at any moment and gone on with ends like one that nobody disturbed."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from topology_logs import untimed

from hf_chts.safe_saving import UNFINISHED, what_is_damaged
from hf_chts.translation.corpus import sentence_pairs

TESTS = Path(__file__).resolve().parent
RECIPE = """
data:
  train: {files: [train.en, train.de]}
  validation: {files: [train.en, train.de], max_pairs: 8}
  test: {t: {files: [train.en, train.de], max_pairs: 2}}
  max_length: 40
tokenizer: {vocab_size: 200, joint: false, kind: unigram}
model:
  config: {d_model: 16, encoder_layers: 1, decoder_layers: 1, encoder_attention_heads: 2,
    decoder_attention_heads: 2, encoder_ffn_dim: 24, decoder_ffn_dim: 24, dropout: 0.1,
    max_position_embeddings: 64}
training: {max_steps: 9, batch_tokens: 300, evaluate_every: 2, warmup_steps: 4,
  learning_rate: 1.0e-2}
sparsity: {method: rigl, sparsity: 0.7, update_interval: 1, stop_fraction: 0.8,
  historical_weights: 1.0, new_links: warm}
evaluation: {beams: 1}
"""
OTHERWISE = {"environment.json", "topology.jsonl", "metrics.jsonl", "bleu.json", "README.md"}
"""Files that hold times of day, seconds or paths; those of them that matter are read below."""


def write_recipe(folder: Path) -> None:
    pairs = sentence_pairs(60)
    for side, name in enumerate(("en", "de")):
        (folder / f"train.{name}").write_text("".join(pair[side] + "\n" for pair in pairs))
    (folder / "recipe.yaml").write_text(RECIPE)


def without_times(rows: list[dict]) -> list[dict]:
    """Losses and figures of a run."""
    steps = [row for row in rows if "train_runtime" not in row]
    return [{k: x for k, x in row.items() if k != "topology_seconds"} for row in steps]


def metrics(run: Path) -> list[dict]:
    lines = (run / "metrics.jsonl").read_text().splitlines()
    return without_times([json.loads(line) for line in lines])


def state_of(checkpoint: Path) -> dict:
    state = json.loads((checkpoint / "trainer_state.json").read_text())
    best = Path(state.pop("best_model_checkpoint")).name
    seconds = state.pop("stateful_callbacks")["TrainingClock"]["attributes"]["seconds"]
    assert seconds > 0
    return {**state, "best": best, "log_history": without_times(state["log_history"])}


def check_same(whole: Path, killed: Path) -> None:
    files = [
        {str(path.relative_to(run)) for path in run.rglob("*") if path.is_file()}
        for run in (whole, killed)
    ]
    assert files[0] == files[1]
    assert not list(killed.rglob(UNFINISHED))
    special = {*OTHERWISE, "trainer_state.json", "checksums.json", "training_args.bin"}
    for name in sorted(files[0]):
        if Path(name).name not in special:
            assert (whole / name).read_bytes() == (killed / name).read_bytes(), name
    assert untimed(whole) == untimed(killed) != []
    assert metrics(whole) == metrics(killed) != []
    bleu = [json.loads((run / "bleu.json").read_text()) for run in (whole, killed)]
    assert bleu[0]["test"] == bleu[1]["test"]
    for checkpoint in (killed / "checkpoints").glob("checkpoint-*"):
        assert what_is_damaged(checkpoint) is None
        assert state_of(checkpoint) == state_of(whole / "checkpoints" / checkpoint.name)


def check_kills(folder: Path, ranks: int, kills: int, seed: int) -> None:
    write_recipe(folder)
    program = [sys.executable, TESTS / "killed_runs.py", folder / "recipe.yaml", folder]
    environment = {**os.environ, "PYTHONPATH": str(TESTS.parent), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [*map(str, program), str(ranks), str(kills), str(seed)],
        env=environment, capture_output=True, text=True, timeout=1800,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert len(re.findall(r" killed$", done.stdout, re.MULTILINE)) == kills
    for run in folder.glob("killed-*/"):
        check_same(folder / "whole", run)


def test_killed_at_four_moments(tmp_path) -> None:
    check_kills(tmp_path, ranks=1, kills=4, seed=1)


@pytest.mark.slow
@pytest.mark.parametrize(("ranks", "kills"), [(1, 30), (2, 10)])
def test_killed_at_many_moments(tmp_path, ranks, kills) -> None:
    check_kills(tmp_path, ranks, kills, seed=2)
