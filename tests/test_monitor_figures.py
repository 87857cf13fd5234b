"""Which figures a monitor adds to the logs, and which it leaves out."""

from __future__ import annotations

import numpy as np
import pytest
from test_monitor import FIGURES, watched
from tiny_training import marian

from hf_chts.analysis.measures import MEASURES
from hf_chts.analysis.network import Undefined
from hf_chts.monitor import TopologyMonitor


def of_topology(logs):
    return {key for log in logs for key in log if key.startswith("topology_")}


def test_a_model_of_one_part_has_figures_of_all_its_layers_only(tmp_path) -> None:
    layers = tuple(f"model.encoder.layers.0.{name}" for name in ("fc1", "fc2"))
    _, logs, _ = watched(tmp_path, model=marian(include=layers), max_steps=2)
    found = of_topology(logs)
    assert found >= FIGURES
    assert not any("/" in key for key in found)


def test_figures_that_no_log_took_do_not_reach_the_next_run(tmp_path) -> None:
    monitor = TopologyMonitor()
    watched(tmp_path / "first", monitor, max_steps=4, logging_strategy="no")
    still = marian(method="static")
    _, logs, _ = watched(tmp_path / "second", monitor, model=still, max_steps=2, logging_steps=1)
    assert sum("loss" in log for log in logs) == 2
    assert of_topology(logs) == set()


def test_a_snapshot_alone_is_no_reason_to_log(tmp_path) -> None:
    trainer, _, _ = watched(tmp_path, TopologyMonitor(snapshot_every=3))
    steps = [row["step"] for row in trainer.state.log_history if "loss" in row]
    assert steps == [2, 4, 5, 6, 8, 10]  # updates, and every fifth step


def test_layers_where_a_measure_is_undefined_do_not_count_in_its_mean(tmp_path) -> None:
    name = "assortativity"
    monitor = TopologyMonitor(measures=[name], measure_every=2)
    _, logs, masks = watched(tmp_path, monitor, model=marian(sparsity=0.98), max_steps=2)
    values = [MEASURES[name].function(mask.numpy(), 0) for mask in masks[2].values()]
    known = [value for value in values if not isinstance(value, Undefined)]
    assert 0 < len(known) < len(values)
    assert logs[0][f"topology_mean_{name}"] == pytest.approx(np.mean(known))


def test_a_figure_that_is_undefined_everywhere_is_left_out(tmp_path) -> None:
    """Layers of one or two links have too few degrees to compare."""
    name = "assortativity"
    monitor = TopologyMonitor(measures=[name], measure_every=2)
    _, logs, masks = watched(tmp_path, monitor, model=marian(sparsity=0.996), max_steps=2)
    assert all(int(mask.sum()) in (1, 2) for mask in masks[2].values())
    assert logs[0].keys() >= FIGURES
    assert f"topology_mean_{name}" not in logs[0]
