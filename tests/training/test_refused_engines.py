"""Engines under which links cannot move are refused before training, in one sentence."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from plain_loop import Loop
from tiny_training import collate, marian, pairs
from transformers import Seq2SeqTrainingArguments

from hf_chts import SparseSeq2SeqTrainer, Topology
from hf_chts.training.refused_engines import refuse_engine

INSTEAD = "start one process a device with torchrun or accelerate as for plain data parallelism"


@pytest.mark.parametrize(
    ("setting", "value", "engine"),
    [
        ("deepspeed", {"zero_optimization": {"stage": 1}}, "DeepSpeed"),
        ("deepspeed", "zero3.json", "DeepSpeed"),
        ("_n_gpu", 2, "DataParallel"),
    ],
)
def test_the_trainer_refuses_what_its_arguments_ask_for(tmp_path, setting, value, engine) -> None:
    """Set afterwards: without the package Transformers' own arguments refuse DeepSpeed."""
    args = Seq2SeqTrainingArguments(str(tmp_path), report_to=[], use_cpu=True)
    assert args.n_gpu == 0
    setattr(args, setting, value)
    with pytest.raises(ValueError, match=rf"sparse layers do not train with {engine}.*: {INSTEAD}"):
        SparseSeq2SeqTrainer(
            model=marian(), args=args, train_dataset=pairs(), data_collator=collate
        )


@pytest.mark.parametrize("plugin", ["deepspeed_plugin", "fsdp_plugin"])
def test_the_trainer_refuses_what_accelerate_was_launched_with(tmp_path, plugin) -> None:
    args = Seq2SeqTrainingArguments(str(tmp_path), report_to=[], use_cpu=True)
    accelerator = SimpleNamespace(state=SimpleNamespace(**{plugin: object()}))
    refuse_engine(args, SimpleNamespace(state=SimpleNamespace()))
    with pytest.raises(ValueError, match=f"do not train with .*: {INSTEAD}"):
        refuse_engine(args, accelerator)


def test_an_optimizer_of_other_weights_is_refused() -> None:
    """Such as one made before the layers became sparse, or DeepSpeed's, of flat copies."""
    loop = Loop(method="set")
    copies = [parameter.detach().clone() for parameter in loop.model.parameters()]
    with pytest.raises(ValueError, match="the optimizer does not train the links of 0: make it"):
        Topology(loop.model, torch.optim.SGD(copies, 0.1), total_steps=9)
    for layer in loop.layers.values():  # frozen ones need none
        layer.values.requires_grad_(False)
    Topology(loop.model, torch.optim.SGD(copies, 0.1), total_steps=9)


def test_links_that_are_cut_up_are_refused_also_in_mid_training() -> None:
    loop = Loop(method="set")
    loop.go()
    loop.before_update()
    layer = loop.layers["2"]
    layer.values = torch.nn.Parameter(layer.values.detach()[::2].clone())
    with pytest.raises(ValueError, match=f"the links of 2 are cut up over processes.*: {INSTEAD}"):
        loop.topology.after_step(2)
