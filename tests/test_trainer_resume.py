from __future__ import annotations

import shutil

import pytest
import torch
from safetensors.torch import load_file
from topology_logs import untimed
from transformers import (
    AutoModelForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    TrainingArguments,
    set_seed,
)

import hf_chts
from hf_chts import SparseTrainer, SparsityConfig, sparse_layers, sparsify
from hf_chts.engine.layer_memory import KEPT

STEPS = 8
SHAPE = {
    "vocab_size": 24, "hidden_size": 16, "intermediate_size": 20, "num_hidden_layers": 1,
    "num_attention_heads": 2, "num_key_value_heads": 2, "attention_dropout": 0.1,
}  # fmt: skip


def model_of(method: str, seed: int = 0, **config):
    set_seed(seed)
    model = LlamaForCausalLM(LlamaConfig(**SHAPE))
    settings = {"sparsity": 0.7, "update_interval": 2, "stop_fraction": 1.0, "zeta": 0.4}
    sparsify(model, SparsityConfig(method=method, **{**settings, **config}))
    return model


def trainer_of(model, folder, **options):
    data = [{"input_ids": row, "labels": row} for row in torch.arange(24 * 20).view(20, 24) % 24]
    args = TrainingArguments(
        str(folder), max_steps=STEPS, per_device_train_batch_size=2, gradient_accumulation_steps=2,
        learning_rate=1e-2, save_steps=1, report_to=[], disable_tqdm=True, use_cpu=True, seed=3,
        logging_steps=2, **options,
    )  # fmt: skip
    return SparseTrainer(model=model, args=args, train_dataset=data)


def everything(trainer):
    """All that a run leaves: weights, links, explored links, optimizer state, random state."""
    found = {f"model/{k}": v for k, v in trainer.model.state_dict().items()}
    for name, layer in sparse_layers(trainer.model).items():
        for kind in KEPT:
            if getattr(layer, kind) is not None:
                found[f"{kind}/{name}"] = getattr(layer, kind)
        found[f"resting/{name}"] = torch.tensor(layer.resting)
    names = {id(p): name for name, p in trainer.model.named_parameters()}
    optimizer = trainer.optimizer.optimizer
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            found[f"lr/{names[id(parameter)]}"] = torch.tensor(group["lr"])
            for key, item in optimizer.state[parameter].items():
                found[f"{key}/{names[id(parameter)]}"] = torch.as_tensor(item)
    found["random"] = torch.get_rng_state()
    return found


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """Uninterrupted runs by method: their folder and what they left."""
    runs = {}
    for method in ("chts", "rigl", "hebbian"):
        folder = tmp_path_factory.mktemp(method)
        trainer = trainer_of(model_of(method, learning_rate_scale="smupar"), folder)
        trainer.train()
        runs[method] = folder, everything(trainer)
    return runs


def copied(source, target, step):
    """A run that was interrupted some time after ``step``."""
    shutil.copytree(source / f"checkpoint-{step}", target / f"checkpoint-{step}")
    log = (source / "topology.jsonl").read_text()
    (target / "topology.jsonl").write_text(log + '{"step": 8, "na')  # torn by the interruption


@pytest.mark.parametrize("step", [1, 2, 3, 5])  # updates follow steps 2, 4, 6, 8; epochs have 5
@pytest.mark.parametrize("method", ["chts", "rigl", "hebbian"])
def test_resumed_equals_uninterrupted(whole, method, step, tmp_path) -> None:
    folder, expected = whole[method]
    copied(folder, tmp_path, step)
    fresh = model_of(method, seed=7, learning_rate_scale="smupar")  # other weights, other links
    trainer = trainer_of(fresh, tmp_path)
    trainer.train(resume_from_checkpoint=True)
    check_same(trainer, expected, tmp_path, folder)


def check_same(trainer, expected, tmp_path, folder) -> None:
    found = everything(trainer)
    assert found.keys() == expected.keys()
    differing = [key for key in expected if not torch.equal(found[key], expected[key])]
    assert not differing
    logs = [untimed(path) for path in (tmp_path, folder)]
    assert logs[0] == logs[1]
    assert len(logs[0]) == 4 * len(sparse_layers(trainer.model))
    files = [
        (path / f"checkpoint-{STEPS}" / "model.safetensors").read_bytes()
        for path in (tmp_path, folder)
    ]
    assert files[0] == files[1]


@pytest.mark.parametrize("method", ["chts", "rigl"])
def test_from_pretrained_model_resumes(whole, method, tmp_path) -> None:
    folder, expected = whole[method]
    copied(folder, tmp_path, 4)
    model = AutoModelForCausalLM.from_pretrained(folder / "checkpoint-4")
    trainer = trainer_of(model, tmp_path)
    trainer.train(resume_from_checkpoint=str(tmp_path / "checkpoint-4"))
    check_same(trainer, expected, tmp_path, folder)


def test_historical_weights_and_early_stop_are_resumed(tmp_path) -> None:
    memory = {"historical_weights": 1.0, "early_stop": 0.35, "head_wise": True, "new_links": "warm"}
    folders = tmp_path / "whole", tmp_path / "resumed"
    trainer = trainer_of(model_of("chts", **memory), folders[0])
    trainer.train()
    layers = sparse_layers(trainer.model).values()
    assert 0 < sum(layer.resting for layer in layers) < len(layers)
    assert all(layer.past_positions.numel() for layer in layers)
    copied(*folders, 5)
    resumed = trainer_of(model_of("chts", seed=7, **memory), folders[1])
    resumed.train(resume_from_checkpoint=True)
    check_same(resumed, everything(trainer), folders[1], folders[0])


def test_density_of_the_checkpoint_wins(tmp_path) -> None:
    """Density falls during training: a fresh model has more links than the checkpoint."""
    moving = {"initial_sparsity": 0.2, "density_schedule": "linear"}
    folders = tmp_path / "whole", tmp_path / "resumed"
    trainer = trainer_of(model_of("rigl", **moving), folders[0])
    trainer.train()
    copied(*folders, 5)
    resumed = trainer_of(model_of("rigl", seed=7, **moving), folders[1])
    resumed.train(resume_from_checkpoint=True)
    check_same(resumed, everything(trainer), folders[1], folders[0])


def test_checkpoint_carries_explored_links(whole) -> None:
    folder, expected = whole["chts"]
    explored = load_file(folder / f"checkpoint-{STEPS}" / "topology.safetensors")
    assert explored
    for key, bits in explored.items():
        name, _, kind = key.rpartition(".")
        assert kind == "explored"
        assert torch.equal(bits, expected[f"explored/{name}"])


def test_checkpoints_of_other_models_are_refused(whole, tmp_path) -> None:
    dense = trainer_of(model_of("dense"), tmp_path)
    dense.args.max_steps = 1
    dense.train()
    trainer = trainer_of(model_of("set"), tmp_path / "sparse")
    before = {name: x.clone() for name, x in trainer.model.state_dict().items()}
    with pytest.raises(ValueError, match=r"has no topology for 7 sparse layers \(first: model\."):
        trainer.train(resume_from_checkpoint=str(tmp_path / "checkpoint-1"))
    checkpoint = str(whole["chts"][0] / "checkpoint-2")
    with pytest.raises(ValueError, match="holds links of 7 layers that are not sparse here"):
        trainer_of(model_of("dense"), tmp_path).train(resume_from_checkpoint=checkpoint)
    fewer = trainer_of(model_of("set", exclude=("o_proj",)), tmp_path)
    with pytest.raises(ValueError, match=r"links of 1 layers .*o_proj"):
        fewer.train(resume_from_checkpoint=checkpoint)
    after = trainer.model.state_dict()
    assert all(torch.equal(after[name], x) for name, x in before.items())


def test_checkpoints_without_optimizer_are_refused(tmp_path) -> None:
    trainer = trainer_of(model_of("chts"), tmp_path, save_only_model=True)
    trainer.train()
    again = trainer_of(model_of("chts", seed=7), tmp_path)
    links = [layer.positions.clone() for layer in sparse_layers(again.model).values()]
    with pytest.raises(ValueError, match=r"has no optimizer\.pt, as with save_only_model"):
        again.train(resume_from_checkpoint=True)
    after = [layer.positions for layer in sparse_layers(again.model).values()]
    assert all(map(torch.equal, links, after))


def test_resuming_twice_in_one_process(whole, tmp_path) -> None:
    folder, expected = whole["rigl"]
    copied(folder, tmp_path, 3)
    trainer = trainer_of(model_of("rigl", learning_rate_scale="smupar"), tmp_path)
    trainer.train(resume_from_checkpoint=str(tmp_path / "checkpoint-3"))
    trainer.train(resume_from_checkpoint=str(tmp_path / "checkpoint-3"))
    check_same(trainer, expected, tmp_path, folder)


def test_public_names() -> None:
    assert hf_chts.SparseTrainer is SparseTrainer
