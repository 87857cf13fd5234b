"""Two gloo processes on one machine, started by torchrun."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from topology_logs import untimed

from hf_chts.safe_saving import what_is_damaged
from hf_chts.translation import run
from hf_chts.translation.corpus import sentence_pairs
from hf_chts.translation.recipe import load_recipe

ROOT = Path(__file__).resolve().parents[1]

MODEL = """
import os, random, sys, torch, transformers as hf
import hf_chts
from hf_chts.engine.ranks import leave_group

RANK, WORLD = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
torch.set_num_threads(1)


def run(folder, method, smoothing, accumulation):
    hf.set_seed(0)
    config = hf.MarianConfig(
        vocab_size=40, d_model=16, encoder_layers=1, decoder_layers=1, encoder_attention_heads=2,
        decoder_attention_heads=2, encoder_ffn_dim=24, decoder_ffn_dim=24, pad_token_id=0,
        eos_token_id=1, decoder_start_token_id=0, dropout=0.0, max_position_embeddings=32,
    )
    model = hf.MarianMTModel(config)
    sparsity = hf_chts.SparsityConfig(
        method=method, sparsity=0.7, update_interval=2, zeta=0.4, new_links="warm"
    )
    hf_chts.sparsify(model, sparsity)
    draw = torch.Generator().manual_seed(1)
    tokens = lambda n: torch.randint(3, 40, (int(n),), generator=draw).tolist()
    lengths = torch.randint(3, 12, (64,), generator=draw)
    data = [{"input_ids": tokens(n), "labels": tokens(n)} for n in lengths]

    def collate(rows):
        length = max(len(row["labels"]) for row in rows)
        ids = torch.tensor([r["input_ids"] + [0] * (length - len(r["input_ids"])) for r in rows])
        labels = torch.tensor([r["labels"] + [-100] * (length - len(r["labels"])) for r in rows])
        return {"input_ids": ids, "attention_mask": (ids != 0).long(), "labels": labels}

    args = hf.Seq2SeqTrainingArguments(
        folder, per_device_train_batch_size=8 // WORLD // accumulation, max_steps=10, seed=7,
        gradient_accumulation_steps=accumulation, learning_rate=3e-3, report_to=[],
        save_strategy="no", use_cpu=True, label_smoothing_factor=smoothing, disable_tqdm=True,
        data_seed=7, adam_epsilon=1e-5,  # the gradient of a key bias is rounding noise alone
    )
    trainer = hf_chts.SparseSeq2SeqTrainer(
        model=model, args=args, train_dataset=data, data_collator=collate
    )
    torch.manual_seed(100 + RANK)  # ranks must agree without the global generators
    random.seed(RANK)
    if RANK == 1:  # and take rank 0's model
        for layer in hf_chts.sparse_layers(model).values():
            layer.values.data.add_(1)
    trainer.train()
    state = {k: v.detach().clone() for k, v in model.state_dict().items()}
    for name, layer in hf_chts.sparse_layers(model).items():
        state[f"explored/{name}"] = layer.explored
        state[f"moment/{name}"] = trainer.optimizer.optimizer.state[layer.values]["exp_avg"]
    return state


CASES = [("chts", 0.0, 1), ("rigl", 0.1, 2), ("hebbian", 0.1, 2), ("set_tied", 0.1, 1)]
for case in CASES:
    torch.save(run(sys.argv[1], *case), f"{sys.argv[1]}/{case[0]}-{WORLD}-{RANK}.pt")
leave_group()
"""

TRANSLATION = """
import os, shutil, sys, torch, torch.distributed as dist
from pathlib import Path
from hf_chts.engine.ranks import leave_group
from hf_chts.translation import run
from hf_chts.translation.recipe import load_recipe

torch.set_num_threads(1)
folder = Path(sys.argv[1])
recipe = load_recipe(folder / "recipe.yaml")
run.train(recipe, folder / "whole")
dist.barrier()
if dist.get_rank() == 0:
    shutil.copytree(folder / "whole", folder / "resumed")
    for path in (folder / "resumed" / "checkpoints").glob("checkpoint-*"):
        if path.name not in ("checkpoint-3", "checkpoint-6"):
            shutil.rmtree(path)
    shutil.rmtree(folder / "resumed" / "model")
dist.barrier()
run.train(recipe, folder / "resumed", resume=True)
leave_group()
"""

RECIPE = """
data:
  train: {files: [train.en, train.de]}
  validation: {files: [train.en, train.de], max_pairs: 20}
  test: {t: {files: [train.en, train.de], max_pairs: 3}}
  max_length: 60
tokenizer: {vocab_size: 200}
model:
  config: {d_model: 16, encoder_layers: 1, decoder_layers: 1, encoder_attention_heads: 2,
    decoder_attention_heads: 2, encoder_ffn_dim: 24, decoder_ffn_dim: 24, dropout: 0.1,
    max_position_embeddings: 64}
training: {max_steps: 12, batch_tokens: 300, accumulation: 2, evaluate_every: 3,
  average_last: 4, warmup_steps: 4, schedule: inoam, learning_rate: 1.0, best_by: bleu}
sparsity: {method: rigl, sparsity: 0.7, update_interval: 2, stop_fraction: 0.2}
evaluation: {beams: 1}
"""


def launch(program: str, folder: Path, ranks: int) -> None:
    worker = folder / "worker.py"
    worker.write_text(program)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable]
    if ranks > 1:
        command += ["-m", "torch.distributed.run", f"--nproc_per_node={ranks}"]
        command += [f"--master_port={port}"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [*command, str(worker), str(folder)],
        env=environment, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]


@pytest.fixture(scope="module")
def states(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ranks")
    for ranks in (2, 1):
        launch(MODEL, folder, ranks)
    return {path.stem: torch.load(path) for path in folder.glob("*.pt")}


@pytest.mark.parametrize("method", ["chts", "rigl", "hebbian", "set_tied"])
def test_ranks_agree_bit_for_bit(states, method) -> None:
    one, two = states[f"{method}-2-0"], states[f"{method}-2-1"]
    assert any("col_indices" in key for key in one)
    assert all(torch.equal(one[key], two[key]) for key in one)


@pytest.mark.parametrize("method", ["chts", "rigl", "hebbian", "set_tied"])
def test_two_ranks_equal_one_process(states, method) -> None:
    """Same global batch, so the same run up to rounding, and the same links."""
    one, two = states[f"{method}-1-0"], states[f"{method}-2-0"]
    for key, value in one.items():
        if value.is_floating_point():
            torch.testing.assert_close(two[key], value, rtol=1e-3, atol=2e-5, msg=key)
        else:
            assert torch.equal(two[key], value), key


def write_recipe(folder: Path, recipe: str) -> None:
    pairs = sentence_pairs(120)
    for side, name in enumerate(("en", "de")):
        (folder / f"train.{name}").write_text("".join(pair[side] + "\n" for pair in pairs))
    (folder / "recipe.yaml").write_text(recipe)


def test_translation_resumes_in_mid_epoch(tmp_path) -> None:
    write_recipe(tmp_path, RECIPE)
    launch(TRANSLATION, tmp_path, 2)
    whole, resumed = tmp_path / "whole", tmp_path / "resumed"
    one, two = (load_file(path / "model" / "model.safetensors") for path in (whole, resumed))
    assert all(torch.equal(one[key], two[key]) for key in one)
    assert untimed(whole) == untimed(resumed) != []
    assert (whole / "bleu.json").is_file()
    names = sorted(path.name for path in (whole / "checkpoints").glob("checkpoint-*"))
    assert names == ["checkpoint-12", "checkpoint-3", "checkpoint-6", "checkpoint-9"]
    check_one_process_goes_on(load_recipe(tmp_path / "recipe.yaml"), whole)


def check_one_process_goes_on(recipe, whole) -> None:
    """From the checkpoint of two: same links while these rest, other batches."""
    before = load_file(whole / "checkpoints" / "checkpoint-6" / "model.safetensors")
    log = untimed(whole)
    run.train(recipe, whole, resume_from=6)
    after = load_file(whole / "checkpoints" / "checkpoint-12" / "model.safetensors")
    links = [key for key in after if key.endswith("col_indices")]
    assert links
    assert all(torch.equal(before[key], after[key]) for key in links)
    assert any(not torch.equal(before[key], after[key]) for key in after)
    assert untimed(whole) == log
    metrics = [json.loads(line) for line in (whole / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in metrics if "eval_loss" in row] == [3, 6, 9, 12]


ONE_TO_TWO = """
import sys, torch
from pathlib import Path
from hf_chts.engine.ranks import leave_group
from hf_chts.translation import run
from hf_chts.translation.recipe import load_recipe

torch.set_num_threads(1)
folder = Path(sys.argv[1])
recipe = load_recipe(folder / "recipe.yaml")
run.train(recipe, folder / "run", resume_from=3)
leave_group()
"""


def test_two_processes_go_on_with_the_run_of_one(tmp_path) -> None:
    write_recipe(
        tmp_path,
        RECIPE.replace("stop_fraction: 0.2", "stop_fraction: 0.4").replace(
            "average_last: 4", "average_last: 0"
        ),
    )
    recipe = load_recipe(tmp_path / "recipe.yaml")
    run.train(recipe, tmp_path / "run")
    launch(ONE_TO_TWO, tmp_path, 2)
    rows = [json.loads(line) for line in (tmp_path / "run/topology.jsonl").read_text().splitlines()]
    assert sorted({row["step"] for row in rows}) == [2, 4]
    for path in (tmp_path / "run" / "checkpoints").glob("checkpoint-*"):
        assert what_is_damaged(path) is None
        ranks = 1 if path.name == "checkpoint-3" else 2
        assert len(list(path.glob("rng_state*"))) == ranks
    assert (tmp_path / "run" / "bleu.json").is_file()
