import json
import shutil

import numpy as np
import pytest
from run_files import STEPS, metrics, write_dense_run, write_run

from hf_chts import from_pretrained, sparse_layers
from hf_chts.report.run_data import read_run


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    return write_run(tmp_path_factory.mktemp("runs") / "one")


@pytest.fixture
def run(finished, tmp_path):
    return shutil.copytree(finished, tmp_path / "one")


def test_a_finished_run_is_read_whole(finished):
    found = read_run(finished)
    assert found.gaps == []
    assert (found.name, found.method, found.finished, found.dense) == ("one", "chts", True, False)
    assert found.steps == list(STEPS)
    assert len(found.layers) == 16
    assert found.training_seconds == 90
    assert found.final_source == "the saved model"
    assert found.translations["toy"][0] == "Ein Hund."


def test_the_saved_links_are_those_of_the_model(finished):
    found = read_run(finished).final
    layers = sparse_layers(from_pretrained(finished / "model"))
    assert found.keys() == layers.keys()
    for name, layer in layers.items():
        assert np.array_equal(found[name], layer.mask.numpy())


def test_layers_come_in_the_order_of_the_model(finished):
    assert list(read_run(finished).final) == list(json.loads(
        (finished / "network.json").read_text())["layers"])  # fmt: skip


@pytest.mark.parametrize(
    ("text", "lines"),
    [("", []), ("a\n", ["a"]), ("a\nb", ["a", "b"]), ("a\n\n", ["a", ""]), ("\n", [""])],
)
def test_every_line_is_a_translation(run, text, lines):
    (run / "translations" / "toy.txt").write_text(text)
    assert read_run(run).translations["toy"] == lines


@pytest.mark.parametrize("what", ["missing", "empty"])
def test_a_folder_without_a_run_is_refused(tmp_path, what):
    folder = tmp_path / "other"
    if what == "empty":
        folder.mkdir()
    with pytest.raises(ValueError, match="there is no folder" if what == "missing" else "no run"):
        read_run(folder)


def test_a_run_in_progress_shows_its_last_checkpoint(run):
    checkpoint = run / "checkpoints" / "checkpoint-30"
    shutil.copytree(run / "model", checkpoint)
    state = {"log_history": [*metrics(), {"loss": 3.0}]}
    (checkpoint / "trainer_state.json").write_text(json.dumps(state))
    (run / "topology.jsonl").rename(run / "checkpoints" / "topology.jsonl")
    for name in ("bleu.json", "sizes.json", "metrics.jsonl"):
        (run / name).unlink()
    shutil.rmtree(run / "model")
    found = read_run(run)
    assert not found.finished
    assert found.final_source == "the checkpoint at step 30"
    assert len(found.metrics) == len(metrics())
    assert len(found.updates) == 3 * 16
    assert found.last_step == 30
    assert found.gaps == [
        "metrics.jsonl is missing: the curves are those of the checkpoint at step 30"
    ]


def test_a_run_that_has_just_begun_shows_its_last_snapshot(run):
    shutil.rmtree(run / "model")
    for name in ("bleu.json", "metrics.jsonl"):
        (run / name).unlink()
    found = read_run(run)
    assert found.final_source == "the snapshot at step 30"
    assert found.gaps == ["there is no training log yet (metrics.jsonl): no curves are shown"]


def test_an_older_run_has_its_saved_links_and_says_what_it_lacks(run):
    (run / "network.json").unlink()
    shutil.rmtree(run / "snapshots")
    found = read_run(run)
    assert found.groups is None
    assert found.steps == []
    assert len(found.final) == 16
    assert next(iter(found.final)).startswith("model.encoder")  # as the log has it
    assert ["older run" in gap for gap in found.gaps] == [True]
    with pytest.raises(ValueError, match="there is no snapshot of step 10"):
        found.masks_at(10)


def test_nothing_to_show_of_the_topology_is_said(run):
    (run / "network.json").unlink()
    shutil.rmtree(run / "model")
    assert "no links can be read" in read_run(run).gaps[-1]


def test_a_dense_run_lacks_nothing(tmp_path):
    found = read_run(write_dense_run(tmp_path / "dense"))
    assert found.dense
    assert found.final is None
    assert found.gaps == []


def test_damaged_snapshots_are_left_out(run):
    (run / "snapshots" / "step-00000010.npz").write_bytes(b"PK\x03\x04 torn")
    np.savez_compressed(run / "snapshots" / "step-00000020.npz", fc=np.zeros((2, 2), np.uint8))
    found = read_run(run)
    assert found.steps == [0, 30]
    assert len(found.gaps) == 2
    assert "step-00000010.npz" in found.gaps[0]


def test_without_whole_snapshots_no_evolution_is_shown(run):
    for path in (run / "snapshots").iterdir():
        path.write_bytes(b"")
    assert "no evolution is shown" in read_run(run).gaps[-1]


def test_damaged_lines_are_counted(run):
    with open(run / "topology.jsonl", "a") as file:
        file.write('{"step": 40, "na\n[1]\n{"name": "no step"}\n{"step": NaN}\n\n')
    found = read_run(run)
    assert len(found.updates) == 3 * 16
    assert found.gaps == [
        "topology.jsonl: 4 of 52 lines cannot be read (the first is line 49) and are left out"
    ]


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("bleu.json", "{", "bleu.json cannot be read"),
        ("bleu.json", "[]", "bleu.json holds a list"),
        ("sizes.json", None, "sizes.json is missing"),
        ("recipe.yaml", "a: [", "recipe.yaml cannot be read"),
        ("recipe.yaml", "", "recipe.yaml holds no settings"),
        ("network.json", "{}", "network.json does not describe"),
        ("network.json", '{"layers": {"a": [Infinity, 3]}}', "network.json does not describe"),
        ("model/config.json", "{", "model/ cannot be read"),
        (
            "model/config.json",
            '{"quantization_config": {"layers": {"fc": [2, Infinity]}}}',
            "model/ cannot be read",
        ),
        ("environment.json", "\xff", "environment.json cannot be read"),
    ],
)
def test_damaged_files_are_named(run, name, text, said):
    if text is None:
        (run / name).unlink()
    else:
        (run / name).write_text(text, encoding="latin-1")
    assert said in " ".join(read_run(run).gaps)


def test_a_model_of_other_layers_is_not_used(run):
    network = json.loads((run / "network.json").read_text())
    network["layers"] = {"fc": [2, 2]}
    network["groups"] = []
    (run / "network.json").write_text(json.dumps(network))
    found = read_run(run)
    assert found.final is None
    assert "the sparse layers of the saved model are not those of network.json" in found.gaps


def test_groups_that_do_not_fit_are_left_out(run):
    network = json.loads((run / "network.json").read_text())
    network["groups"][0][0][0]["index"] = [999]
    (run / "network.json").write_text(json.dumps(network))
    found = read_run(run)
    assert found.groups is None
    assert "cannot be used" in found.gaps[0]
