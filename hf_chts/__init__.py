"""Truly sparse training of Transformers by Cannistraci-Hebb theory."""

import importlib
import os
from typing import TYPE_CHECKING, Any

if "OMP_WAIT_POLICY" not in os.environ:
    # How often a waiting thread of GNU OpenMP looks before it sleeps; read once, when torch loads
    # it. The default of 300,000 makes training ten times as slow where cores have other work, too.
    os.environ.setdefault("GOMP_SPINCOUNT", "3000")

from hf_chts.checkpoint import from_pretrained, save_pretrained
from hf_chts.compaction import CompactionReport, compact
from hf_chts.config import SparsityConfig
from hf_chts.layers.sparse_linear import SparseLinear, sparse_layers
from hf_chts.patching import densify, sparsify
from hf_chts.rules.scores import initial_mask, link_scores
from hf_chts.topology import Topology
from hf_chts.training.faster_step import faster_step

if TYPE_CHECKING:
    from hf_chts.monitor import TopologyMonitor
    from hf_chts.trainer import SparseSeq2SeqTrainer, SparseTrainer

__version__ = "0.1.0"
__all__ = [
    "CompactionReport",
    "SparseLinear",
    "SparseSeq2SeqTrainer",
    "SparseTrainer",
    "SparsityConfig",
    "Topology",
    "TopologyMonitor",
    "compact",
    "densify",
    "faster_step",
    "from_pretrained",
    "initial_mask",
    "link_scores",
    "save_pretrained",
    "sparse_layers",
    "sparsify",
]
_ON_DEMAND = {
    "SparseSeq2SeqTrainer": "hf_chts.trainer",
    "SparseTrainer": "hf_chts.trainer",
    "TopologyMonitor": "hf_chts.monitor",
}
"""Names that need Transformers' trainer, whose import would be a third of the package's."""


def __getattr__(name: str) -> Any:
    if name not in _ON_DEMAND:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = value = getattr(importlib.import_module(_ON_DEMAND[name]), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_ON_DEMAND})
