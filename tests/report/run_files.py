"""Folders of runs as training leaves them, made in a second."""

import json

import numpy as np
import torch
import yaml
from safetensors.torch import save_file
from tiny_training import SEQ2SEQ, marian
from transformers import MarianConfig, MarianMTModel

from hf_chts.analysis.null_models import er
from hf_chts.analysis.snapshots import pack, start_snapshots, write_snapshot
from hf_chts.layers.sparse_linear import sparse_layers
from hf_chts.monitor import groups_as_data
from hf_chts.network.wiring import hidden_groups

HOSTILE = "<script>alert('x')</script><img src=x onerror=alert(1)> & \"quotes\""
STEPS = (0, 10, 20, 30)
SIGNATURE = "nrefs:1|case:mixed|eff:no|tok:13a|smooth:exp|version:2.6.0"


def write_run(folder, *, seed=0, method="chts"):
    """A finished sparse run of a real model; its links at earlier steps are drawn at random."""
    folder.mkdir(parents=True)
    model = marian(seed=seed)
    model.save_pretrained(folder / "model")
    masks = {name: layer.mask.numpy() for name, layer in sparse_layers(model).items()}
    shapes = {name: mask.shape for name, mask in masks.items()}
    start_snapshots(folder, shapes, groups_as_data(hidden_groups(model)), 0)
    for step in STEPS:
        drawn = {n: mask if step == STEPS[-1] else er(mask, step) for n, mask in masks.items()}
        if step == 20:
            drawn["model.encoder.layers.0.fc1"][3] = False  # neuron 3 drops out for a while
        write_snapshot(folder, step, {name: pack(mask) for name, mask in drawn.items()})
    updates = [
        {"step": step, "name": name, "n_links": int(mask.sum()), "density": float(mask.mean()),
         "removed": 5, "regrown": 5, "itop": 0.3 + step / 100, "overlap": 0.1,
         "active_neurons": None, "seconds": 0.001}
        for step in STEPS[1:]
        for name, mask in masks.items()
    ]  # fmt: skip
    write_rows(folder / "topology.jsonl", updates)
    write_records(folder, method, seed)
    return folder


def write_dense_run(folder):
    folder.mkdir(parents=True)
    MarianMTModel(MarianConfig(**SEQ2SEQ)).save_pretrained(folder / "model")
    write_records(folder, "dense", 0)
    return folder


def write_records(folder, method, seed):
    sources = ["A dog.", "Two cats.", HOSTILE]
    references = ["Ein Hund.", "Zwei Katzen.", "Ende."]
    for name, lines in (("source.txt", sources), ("reference.txt", references)):
        (folder / name).write_text("".join(line + "\n" for line in lines), encoding="utf-8")
    files = [str(folder / "source.txt"), str(folder / "reference.txt")]
    recipe = {
        "data": {"test": {"toy": {"files": files}}, "source_lang": "en", "target_lang": "de"},
        "training": {"max_steps": STEPS[-1], "seed": seed},
        "model": {"family": "marian"},
        "sparsity": {"method": method, "sparsity": 0.7, "remark": HOSTILE},
    }
    (folder / "recipe.yaml").write_text(yaml.safe_dump(recipe), encoding="utf-8")
    (folder / "environment.json").write_text(json.dumps({"processor": HOSTILE, "threads": 1}))
    (folder / "patching.txt").write_text("16 of 17 layers sparse\n")
    write_rows(folder / "metrics.jsonl", metrics())
    value = {"value": 12.5, "signature": SIGNATURE}
    scores = {"bleu": value, "chrf": value, "ter": value, "paper_bleu": value, "n_sentences": 3}
    results = {"test": {"toy": scores}, "training_seconds": 90.0}
    (folder / "bleu.json").write_text(json.dumps(results))
    names = ("parameters", "linear_parameters", "optimizer_bytes", "file_bytes")
    sizes = dict.fromkeys(names, 1000) | {f"dense_{name}": 4000 for name in names}
    (folder / "sizes.json").write_text(json.dumps(sizes))
    (folder / "translations").mkdir()
    text = f"Ein Hund.\n{HOSTILE}\nEnde.\n"
    (folder / "translations" / "toy.txt").write_text(text, encoding="utf-8")


def metrics():
    training = [
        {"step": s, "loss": 5 - s / 10, "learning_rate": 0.001, "grad_norm": 1.0} for s in STEPS[1:]
    ]
    return [*training, {"step": 30, "eval_loss": 2.5, "eval_bleu": 12.0}]


def write_rows(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def write_saved_layer(folder, starts, columns, *, shape=(2, 4), name="fc"):
    """The files of a saved model with one sparse layer, its indices as given."""
    folder.mkdir(exist_ok=True)
    layers = {"quantization_config": {"layers": {"fc": list(shape)}}}
    (folder / "config.json").write_text(json.dumps(layers))
    tensors = {
        f"{name}.crow_indices": torch.tensor(starts, dtype=torch.int32),
        f"{name}.col_indices": torch.tensor(columns, dtype=torch.int16),
    }
    save_file(tensors, folder / "model.safetensors")


def a_mask(n_out=12, n_in=20, density=0.3, seed=0):
    return np.random.default_rng(seed).random((n_out, n_in)) < density
