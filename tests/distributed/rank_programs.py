"""What the processes of ``test_ranks.py`` do; as a program, it imports once and forks them."""

from __future__ import annotations

import hashlib
import math
import os
import random
import sys
from pathlib import Path

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from tiny_training import SEQ2SEQ, collate, marian, pairs, trainer_of
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict
from torch.distributed.fsdp import FullyShardedDataParallel, fully_shard
from torch.nn.parallel import DistributedDataParallel
from transformers import MarianConfig, MarianMTModel, TrainerCallback

from hf_chts import SparsityConfig, Topology, sparse_layers, sparsify
from hf_chts.engine.ranks import average_gradients, broadcast_layers, keep_from_ddp, leave_group
from hf_chts.translation.decode import translate
from hf_chts.translation.tokenizer import TokenizerPair, train_tokenizer

TRAINED = {"chts": 1, "rigl": 2, "chtss": 2}  # with so many micro-batches a step
CLIP = 0.5


def links(model):
    layers = sparse_layers(model).values()
    return hashlib.sha1(b"".join(x.positions.numpy().tobytes() for x in layers)).hexdigest()


class Look(TrainerCallback):
    """The links after every step."""

    def __init__(self) -> None:
        self.links: list[str] = []

    def on_step_end(self, args, state, control, model=None, **kwargs) -> None:
        self.links.append(links(model))


def train(rank, world, folder, method):
    """A run of one global batch size, whatever the number of ranks."""
    accumulation, model, look = TRAINED[method], marian(method=method, zeta=0.4), Look()
    trainer = trainer_of(
        model, folder, callbacks=[look], max_steps=8, max_grad_norm=CLIP, learning_rate=3e-3,
        per_device_train_batch_size=8 // world // accumulation, data_seed=7,
        gradient_accumulation_steps=accumulation,
        adam_epsilon=1e-5,  # the gradient of a key bias is rounding noise alone
    )  # fmt: skip
    torch.manual_seed(100 + rank)  # ranks must agree without the global generators
    random.seed(rank)
    if rank > 0:  # and take rank 0's model
        for layer in sparse_layers(model).values():
            layer.values.data.add_(1)
    trainer.train()
    state = {key: x.detach().clone() for key, x in model.state_dict().items()}
    for name, layer in sparse_layers(model).items():
        state[f"explored/{name}"] = layer.explored
        state[f"moment/{name}"] = trainer.optimizer.optimizer.state[layer.values]["exp_avg"]
    norms = [log["grad_norm"] for log in trainer.state.log_history if "grad_norm" in log]
    return {"state": state, "links": look.links, "norms": norms}


def evaluate(rank, world, folder):
    """Evaluation and prediction by generation, of a set that does not divide evenly."""
    model, generated = marian(), []
    generate = model.generate

    def counting(inputs=None, **kwargs):
        rows = kwargs.get("input_ids", inputs)
        generated.extend(rows.sum(1).tolist())
        return generate(inputs, **kwargs)

    model.generate = counting
    trainer = trainer_of(
        model, folder, predict_with_generate=True, per_device_eval_batch_size=2,
        generation_max_length=12,
    )  # fmt: skip

    def metrics(evaluated):
        def weighed(ids):
            ids = torch.tensor(ids).clamp(min=0)
            return int((ids * torch.arange(1, ids.shape[1] + 1) * (1 + ids[:, :1])).sum())

        tokens, labels = evaluated
        return {"checksum": weighed(tokens), "labels": weighed(labels), "pairs": len(tokens)}

    trainer.compute_metrics = metrics
    found = {"eval": trainer.evaluate(pairs(10), metric_key_prefix="eval")}
    found["generated"] = list(generated)
    predicted = trainer.predict(pairs(10))
    found["test"] = predicted.metrics
    found["predicted"] = torch.tensor(predicted.predictions).clamp(min=0)
    found["logged"] = sum("eval_checksum" in log for log in trainer.state.log_history)
    return found


def translations(rank, world):
    """Of several batches, some of one sentence, with a blank line."""
    sentences = ["the dog runs", "", "a man", "the man sits on a bench", "a dog", "the dog", "a"]
    tokenizer = train_tokenizer(sentences * 3, 60)
    torch.manual_seed(0)
    config = MarianConfig(**{**SEQ2SEQ, "vocab_size": len(tokenizer), "init_std": 1.0})
    model, batches = MarianMTModel(config), []
    generate = model.generate
    model.generate = lambda **kwargs: batches.append(1) or generate(**kwargs)
    pair = TokenizerPair(tokenizer, tokenizer)
    made = translate(model, pair, sentences, beams=2, max_tokens=12, shared=True)
    return {"made": made, "batches": len(batches)}


def one_layer(rank, world):
    """A model with a single layer, which one rank works out for all."""
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(8, 8))
    sparsify(model, SparsityConfig(sparsity=0.5, update_interval=1, stop_fraction=1.0))
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    topology = Topology(model, optimizer, total_steps=3)
    for step in (1, 2, 3):
        topology.before_backward(step)
        model(torch.ones(2, 8)).square().sum().backward()
        optimizer.step()
        topology.after_step(step)
    return links(model)


def plain_loop(rank, world, shard):
    """A loop without a trainer; a method whose density falls."""
    torch.manual_seed(0)
    model = marian(method="chtss")
    layers = sparse_layers(model)
    runs = model
    if shard == "ddp" and world > 1:
        keep_from_ddp(model)
        if rank:
            for layer in layers.values():
                layer.values.data.zero_()
        runs = DistributedDataParallel(model, find_unused_parameters=True)
        broadcast_layers(layers)
    elif shard == "fsdp2" and world > 1:
        shard_dense_part(model, {layer.values for layer in layers.values()})
    optimizer = torch.optim.AdamW(model.parameters(), 1e-2, eps=1e-5)
    topology = Topology(model, optimizer, total_steps=6)
    data = collate(pairs(8))
    mine = {key: x[rank::world].contiguous() for key, x in data.items()}
    total = (data["labels"] != -100).sum()
    seen, sizes = [], []
    for step in range(1, 7):
        topology.before_backward(step)
        logits = runs(**mine).logits.flatten(0, 1)
        loss = torch.nn.functional.cross_entropy(logits, mine["labels"].flatten(), reduction="sum")
        (loss * world / total).backward()
        if world > 1:
            average_gradients(layers)
        optimizer.step()
        topology.after_step(step)
        optimizer.zero_grad()
        seen.append(links(model))
        sizes.append(sum(layer.nnz for layer in layers.values()))
    whole = get_model_state_dict(model, options=StateDictOptions(full_state_dict=True))
    return {"links": seen, "sizes": sizes, "state": {k: x.clone() for k, x in whole.items()}}


def shard_dense_part(model, ignored=frozenset()):
    mesh = torch.distributed.init_device_mesh("cpu", (dist.get_world_size(),))
    for part in [*model.model.encoder.layers, *model.model.decoder.layers, model]:
        fully_shard(part, mesh=mesh, ignored_params=set(ignored))
    return model


def message(act, *args, **kwargs):
    """What an act is refused with."""
    try:
        act(*args, **kwargs)
    except ValueError as error:
        return str(error)
    return None


def refusals(rank, world, folder):
    """Engines that cut links up."""

    def topology(model):
        Topology(model, torch.optim.SGD(model.parameters(), 0.1), total_steps=9)

    def flat(**options):
        model, device = marian(), torch.device("cpu")
        parts = model.model.encoder.layers
        parts[0] = FullyShardedDataParallel(parts[0], device_id=device, **options)
        return model

    return {
        "fsdp": message(trainer_of, marian(), folder, fsdp=True, fsdp_config={"version": 2}),
        "fully_shard": message(topology, shard_dense_part(marian())),
        "flat": message(topology, flat()),
        "original": message(topology, flat(use_orig_params=True)),
    }


def one_rank_goes_wrong(rank, world, folder):
    """A loss that is no number on one rank: all of them stop, and none changes a link."""
    model = marian()
    trainer = trainer_of(model, folder, max_steps=4, per_device_train_batch_size=4)
    steps = []

    def loss(outputs, labels, num_items_in_batch=None):
        steps.append(links(model))
        total = outputs.logits.square().mean()
        return total * math.nan if rank == 1 and len(steps) == 4 else total

    trainer.compute_loss_func = loss
    return {"message": message(trainer.train), "before": steps[-1], "after": links(model)}


def work(rank, world, folder):
    """All that one process does."""
    os.environ.update(RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE=str(world))
    torch.set_num_threads(1)
    found = {}
    if world == 1:
        for name in ("RANK", "LOCAL_RANK", "WORLD_SIZE"):
            del os.environ[name]
    for method in TRAINED:
        found[method] = train(rank, world, folder, method)
    if world < 4:
        found["evaluated"] = evaluate(rank, world, folder)
        for shard in ("ddp", "fsdp2"):
            found[shard] = plain_loop(rank, world, shard)
        found["translated"] = translations(rank, world)
        found["one_layer"] = one_layer(rank, world)
    if world == 2:
        found["refused"] = refusals(rank, world, folder)
        found["wrong"] = one_rank_goes_wrong(rank, world, folder)
    torch.save(found, folder / f"{world}-{rank}.pt")
    leave_group()


def main() -> None:
    """Run with one, two and four processes."""
    folder, ports = Path(sys.argv[1]), sys.argv[2:]
    for world, port in zip((1, 2, 4), ports, strict=True):
        os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=port)
        print(f"== {world}", flush=True)
        mp.start_processes(work, (world, folder), nprocs=world, start_method="fork")


if __name__ == "__main__":
    main()
