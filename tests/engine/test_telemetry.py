"""What updates tell about themselves, summed up for a log."""

from __future__ import annotations

import pytest

from hf_chts.engine.telemetry import LayerUpdate, summary


def row(name, n_links, density, removed, regrown, overlap, itop):
    return LayerUpdate(name, n_links, density, removed, regrown, overlap, itop, None, 0.25)


def test_a_log_has_sums_over_updates_and_the_state_after_the_last_one() -> None:
    """Two layers, of 100 and 300 links, and two updates."""
    first = [row("a", 50, 0.5, 7, 5, 0.5, 0.6), row("b", 60, 0.2, 9, 9, 0.1, 0.3)]
    last = [row("a", 40, 0.4, 12, 2, 0.3, 0.7), row("b", 30, 0.1, 31, 1, 0.1, 0.5)]
    assert summary([first, last]) == pytest.approx(
        {
            "topology_density": 70 / 400,
            "topology_removed": 7 + 9 + 12 + 31,
            "topology_regrown": 5 + 9 + 2 + 1,
            "topology_overlap": (0.5 + 0.1 + 0.3 + 0.1) / 4,
            "topology_itop": (0.7 * 100 + 0.5 * 300) / 400,
            "topology_seconds": 1.0,
        }
    )
