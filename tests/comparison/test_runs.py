"""Runs in processes of their own: started, killed, gone on with, failing, left alone."""

from __future__ import annotations

import io
import json
import os
import re
import resource
import signal
import sys
import threading
import time
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import yaml
from rich.console import Console
from safetensors.torch import load_file
from tiny_comparisons import write_recipe
from topology_logs import untimed

from hf_chts import cli
from hf_chts.comparison.folder import ComparisonFolder
from hf_chts.comparison.grid import Cell, recipes_for
from hf_chts.comparison.jobs import run_all
from hf_chts.comparison.progress import Progress
from hf_chts.methods import METHODS
from hf_chts.translation.recipe import load_recipe

CHTS, STATIC = Cell("chts", 0.7, 1), Cell("static", 0.7, 1)
DIVERGES = {"static": {"training": {"learning_rate": 1e30, "clip": 0.0, "warmup_steps": 0}}}


@pytest.fixture(scope="module", autouse=True)
def _one_thread_for_each_run():
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMP_NUM_THREADS", "1")
        patch.setenv("PYTHONPATH", str(Path(__file__).resolve().parents[2]))
        yield


@pytest.fixture(scope="module")
def recipe(tmp_path_factory):
    return load_recipe(write_recipe(tmp_path_factory.mktemp("runs")))


def run(path, recipe, *cells, terminal=False, seconds=None, **options):
    """Bring a comparison on as the command does; the signal, and what was shown."""
    folder, shown = ComparisonFolder(path), io.StringIO()
    recipes = recipes_for(recipe, cells, DIVERGES)
    console = Console(file=shown, force_terminal=terminal, width=200, highlight=False)
    with folder.lock():
        folder.extend(recipe, DIVERGES, [0.7], recipes, {})
        if seconds is not None:  # from here on: what is above may take long beside other work
            options["deadline"] = time.monotonic() + seconds
        with Progress(folder, recipes, console) as progress:
            received = run_all(folder, recipes, progress, jobs=options.pop("jobs", 1), **options)
    return received, shown.getvalue()


def command(*arguments):
    """The command line in this process; exit status, output, errors."""
    output, errors = io.StringIO(), io.StringIO()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["hf-chts", "compare", *map(str, arguments)])
        patch.setenv("COLUMNS", "250")
        with redirect_stdout(output), redirect_stderr(errors), pytest.raises(SystemExit) as stopped:
            cli.main()
    return stopped.value.code or 0, output.getvalue(), errors.getvalue()


@pytest.fixture(scope="module")
def both(tmp_path_factory, recipe):
    """Two runs at once, one of which diverges, by the command line."""
    folder = tmp_path_factory.mktemp("both")
    (folder / "recipe.yaml").write_text(recipe.to_yaml())
    (folder / "settings.yaml").write_text(yaml.safe_dump(DIVERGES))
    arguments = [folder / "recipe.yaml", "--methods", "static,chts", "--sparsity", "0.7"]
    arguments += ["--seeds", "1", "--jobs", "2", "--settings", folder / "settings.yaml"]
    arguments += ["--output", folder / "out"]
    return folder / "out", arguments, command(*arguments)


def test_a_done_run_is_an_ordinary_one(both) -> None:
    path, _, (status, output, shown) = both
    assert status == 1
    assert output.endswith("1 of 2 runs done, 1 failed\n")
    folder = ComparisonFolder(path)
    assert folder.state(CHTS) == "done"
    done = path / "runs" / "chts-0.7-1"
    bleu = json.loads((done / "bleu.json").read_text())["test"]["first"]["bleu"]["value"]
    assert folder.bleu(CHTS) == {"first": bleu}
    assert f"chts-0.7-1: BLEU {bleu:.2f} on first" in shown
    assert not (done / "checkpoints").exists()
    said = json.loads((done / "environment.json").read_text())["command"]
    assert said == f"hf-chts train {path}/recipes/chts-0.7-1.yaml --output {done}"
    assert "chts at 70.00% sparsity" in (path / "logs" / "chts-0.7-1.log").read_text()


def test_a_run_that_diverges_is_recorded_and_stops_no_other(both) -> None:
    path, _, (_, output, shown) = both
    folder = ComparisonFolder(path)
    assert folder.state(STATIC) == "failed"
    failure = json.loads((path / "runs" / "static-0.7-1" / "failed.json").read_text())
    assert failure["outcome"] == "diverged"
    assert failure["error"].startswith("step 2: ")
    assert failure["exit_status"] == 3
    assert "static-0.7-1: diverged: step 2" in shown
    assert "1 diverged" in output
    assert f"(delete {path}/runs/static-0.7-1 to have it tried again)" in shown


def test_what_has_ended_is_left_alone(both) -> None:
    path, arguments, (_, output, _) = both
    before = {file: file.stat().st_mtime_ns for file in (path / "runs").rglob("*")}
    assert command(*arguments) == (1, output, "")
    assert before == {file: file.stat().st_mtime_ns for file in (path / "runs").rglob("*")}


def test_the_record_holds_what_was_asked_for(both, recipe) -> None:
    path, arguments, _ = both
    folder = ComparisonFolder(path)
    record = json.loads(folder.record.read_text())
    assert record["commands"] == [f"hf-chts compare {' '.join(map(str, arguments))}"]
    assert record["methods"] == ["static", "chts"]
    assert (record["sparsities"], record["seeds"]) == ([0.7], [1])
    assert record["settings"] == {"static": DIVERGES["static"]}
    assert record["recipe"]["training"]["max_steps"] == 12
    more = recipes_for(recipe, [Cell("set", 0.8, 2), Cell("dense", 0.0, 2)], {})
    folder.extend(recipe, {}, [0.8], more, {})
    assert folder.cells() == [STATIC, CHTS, Cell("set", 0.8, 2), Cell("dense", 0.0, 2)]
    record = json.loads(folder.record.read_text())
    assert record["methods"] == ["static", "chts", "set", "dense"]
    assert (record["sparsities"], record["seeds"]) == ([0.7, 0.8], [1, 2])
    assert record["settings"] == {"static": DIVERGES["static"]}


def test_other_settings_are_refused(both, recipe) -> None:
    path, *_ = both
    folder = ComparisonFolder(path)
    before = folder.record.read_text()
    changed = recipes_for(recipe, [CHTS], {"chts": {"sparsity": {"zeta": 0.1}}})
    with pytest.raises(ValueError, match=r"chts-0.7-1 was made with .*\(sparsity.zeta\): go on"):
        folder.extend(recipe, {}, [0.7], changed, {})
    longer = replace(recipe, training=replace(recipe.training, max_steps=13, clip=2.0))
    with pytest.raises(ValueError, match=r"differs .* in training.clip, training.max_steps: go"):
        folder.extend(longer, {}, [0.7], {}, {})
    other = replace(recipe, sparsity=replace(recipe.sparsity, method="set", seed=3))
    folder.extend(other, {}, [0.7], {}, {})  # no run takes these from the shared recipe
    stored = folder.run(CHTS).recipe
    older = re.sub(r"\n  head_wise: .*", "", text := stored.read_text())
    assert older != text
    stored.write_text(older)  # by a version that did not have the setting
    folder.extend(recipe, DIVERGES, [0.7], recipes_for(recipe, [CHTS], {}), {})
    assert json.loads(before)["cells"] == json.loads(folder.record.read_text())["cells"]


def test_killed_runs_go_on_and_end_the_same(both, recipe, tmp_path) -> None:
    """SIGKILL to the command alone, in the middle of a run, which then ends by itself."""
    path = tmp_path / "out"
    forked = os.fork()
    if forked == 0:
        run(path, recipe, CHTS)
        os._exit(0)
    checkpoints = path / "runs" / CHTS.name / "checkpoints"
    _wait_for(lambda: list(checkpoints.glob("checkpoint-*")))
    children = Path(f"/proc/{forked}/task/{forked}/children").read_text().split()
    os.kill(forked, signal.SIGKILL)
    os.waitpid(forked, 0)
    _wait_for(lambda: not any(map(_alive, children)))
    assert ComparisonFolder(path).state(CHTS) == "begun"
    received, shown = run(path, recipe, CHTS)
    assert received == 0
    assert "chts-0.7-1: goes on from step" in shown
    undisturbed = both[0] / "runs" / CHTS.name
    resumed = path / "runs" / CHTS.name
    first, second = (load_file(one / "model/model.safetensors") for one in (undisturbed, resumed))
    assert first.keys() == second.keys()
    assert all(torch.equal(first[key], second[key]) for key in first)
    assert untimed(undisturbed) == untimed(resumed)


def test_signals_stop_the_runs(recipe, tmp_path) -> None:
    before = signal.getsignal(signal.SIGTERM)
    path = tmp_path / "out"

    def interrupt():
        _wait_for(ComparisonFolder(path).log(CHTS).is_file)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=interrupt).start()
    received, shown = run(path, recipe, CHTS, STATIC, terminal=True)
    assert received == signal.SIGTERM
    assert "chts-0.7-1: started" in shown
    assert "chts-0.7-1: stopped, before its first checkpoint" in shown
    assert "static" not in shown
    assert signal.getsignal(signal.SIGTERM) is before
    assert ComparisonFolder(path).state(CHTS) == "new"


def test_time_that_is_up_stops_the_runs(recipe, tmp_path) -> None:
    path = tmp_path / "out"
    assert run(path, recipe, CHTS, seconds=0) == (0, "")
    received, shown = run(path, recipe, CHTS, STATIC, seconds=0.5)
    assert received == 0
    assert "chts-0.7-1: stopped" in shown
    assert "static" not in shown


def test_a_killed_run_is_left_to_go_on(recipe, tmp_path) -> None:
    """Somebody, or the system for want of memory, kills the run and not the command."""
    folder = ComparisonFolder(tmp_path / "out")

    def kill():
        _wait_for(folder.log(CHTS).is_file)
        (child,) = Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children").read_text().split()
        os.kill(int(child), signal.SIGKILL)

    threading.Thread(target=kill).start()
    received, shown = run(folder.path, recipe, CHTS)
    assert received == 0
    assert "stopped, before its first checkpoint: killed by signal 9 (SIGKILL); last said" in shown
    assert folder.state(CHTS) == "new"
    assert not folder.failure(CHTS).exists()


def test_a_full_disk_fails_no_run(both, recipe, tmp_path) -> None:
    """Files of more than 30,000 bytes cannot be written, as checkpoints are."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (30_000, limits[1]))
    try:
        received, shown = run(tmp_path / "out", recipe, CHTS)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert received == 0
    assert re.search(r"chts-0.7-1: stopped, before its .* could not be written", shown)
    assert ComparisonFolder(tmp_path / "out").state(CHTS) == "begun"
    run(tmp_path / "out", recipe, CHTS)
    assert ComparisonFolder(tmp_path / "out").bleu(CHTS) == ComparisonFolder(both[0]).bleu(CHTS)


def test_how_to_try_a_failed_run_again(tmp_path) -> None:
    folder, shown = ComparisonFolder(tmp_path), io.StringIO()
    progress = Progress(folder, {}, Console(file=shown, width=200))
    progress.recipes = {CHTS: load_recipe(write_recipe(tmp_path))}
    progress.started(CHTS, 0)
    progress.failed(CHTS, "failed", "the tokenizer broke", 8)
    path = tmp_path / "runs" / "chts-0.7-1"
    advice = f"(delete {path}/failed.json to have it go on from step 8, or {path} to have it tried"
    assert f"failed: the tokenizer broke {advice} again)" in shown.getvalue()


def test_what_a_killed_command_left_of_a_done_run_goes(both, recipe) -> None:
    path, *_ = both
    left = ComparisonFolder(path).run(CHTS).checkpoints / "checkpoint-6"
    left.mkdir(parents=True)
    run(path, recipe, CHTS)
    assert not left.parent.exists()


def test_changed_rules_and_texts_are_refused(both, recipe, monkeypatch) -> None:
    folder = ComparisonFolder(both[0])
    before = folder.record.read_text()
    recipes = recipes_for(recipe, [CHTS], {})
    source = next(iter(json.loads(before)["texts"]))
    with pytest.raises(ValueError, match=rf"the text of {re.escape(source)} has changed since"):
        folder.extend(recipe, {}, [0.7], recipes, {source: 5, "another": 6})
    changed = replace(METHODS["chts"], settings={"removal": "mest"})
    monkeypatch.setitem(METHODS, "chts", changed)
    with pytest.raises(ValueError, match="the rules of method chts has changed since"):
        folder.extend(recipe, {}, [0.7], recipes, {})
    assert folder.record.read_text() == before


def _wait_for(condition) -> None:
    until = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.01)


def _alive(pid: str) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
