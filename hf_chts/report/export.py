"""Networks as GraphML files, for Gephi, Cytoscape and others."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import networkx as nx

from hf_chts.analysis.network import to_graph
from hf_chts.analysis.whole_network import chain
from hf_chts.report.run_data import RunData

MOST_LINKS = 1_000_000
"""Networks with more links are too large for GraphML, which takes about 100 bytes a link."""


def write_graphml(run: RunData, folder: Path, progress: Callable[[str], None]) -> list[str]:
    """Write each layer, and all layers joined to one directed network.

    Returns:
        What could not be written, a sentence each.
    """
    if not run.final:
        return ["there are no links to write as GraphML"]
    folder.mkdir(parents=True, exist_ok=True)
    for name, mask in run.final.items():
        progress(f"GraphML of {name}")
        graph = to_graph(mask)
        graph = nx.relabel_nodes(graph, {node: f"{node[0]}-{node[1]}" for node in graph})
        nx.write_graphml(graph, folder / f"{_file_name(name)}.graphml")
    n_links = sum(int(mask.sum()) for mask in run.final.values())
    if run.groups is None:
        return ["network.json is missing: GraphML of single layers only"]
    if n_links > MOST_LINKS:
        return [f"GraphML of single layers only: {n_links:,} links are too many for one file"]
    progress("GraphML of the whole network")
    nx.write_graphml(chain(run.final, run.groups).to_graph(), folder / "whole_network.graphml")
    return []


def _file_name(name: str) -> str:
    return "".join(c if c.isalnum() or c in "._-" else "_" for c in name)
