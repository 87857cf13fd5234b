"""What patching did to a model, and why, as a table for people."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import nn

from hf_chts.config import SparsityConfig
from hf_chts.layers.sparse_linear import SparseLinear, sparse_layers
from hf_chts.network.linears import LINEAR_CLASSES, Finding, family, linear_shape, used_once
from hf_chts.network.ties import places
from hf_chts.network.wiring import Sized


@dataclass(frozen=True)
class LayerRow:
    """One linear layer of the report.

    Attributes:
        name: Qualified name.
        out_features: Output neurons.
        in_features: Input neurons.
        sparse: Whether it is sparse.
        reason: Why, or why not.
        n_links: Active links; all of them where the layer is dense.
        links_of: The layer that it shares its links with, if it is tied to one before it.
    """

    name: str
    out_features: int
    in_features: int
    sparse: bool
    reason: str
    n_links: int
    links_of: str = ""

    @property
    def density(self) -> float:
        """Share of links that are active."""
        return self.n_links / (self.out_features * self.in_features)


@dataclass(frozen=True)
class PatchReport:
    """What became sparse, what stayed dense and why. ``print(report)`` shows it.

    Attributes:
        rows: Every linear layer, in the model's order.
        config: The configuration, with the method's choices filled in.
        embedding_parameters: Numbers in embedding tables, each table once.
        rest_parameters: Numbers in everything else: dense linear layers, biases, norms.
    """

    rows: tuple[LayerRow, ...]
    config: SparsityConfig
    embedding_parameters: int
    rest_parameters: int

    @classmethod
    def of(
        cls,
        model: nn.Module,
        findings: list[Finding],
        counts: dict[str, int],
        config: SparsityConfig,
    ) -> PatchReport:
        """Describe what the findings and link counts make of a dense model."""
        leads = _leads(model, used_once(findings), config)
        rows = []
        for finding in findings:
            name, (out, inp), reason = finding.name, finding.shape, finding.reason
            n_links = counts.get(name, out * inp)
            lead = leads.get(name, "")
            rows.append(LayerRow(name, out, inp, finding.sparse, reason, n_links, lead))
        everything = sum(parameter.numel() for parameter in model.parameters())
        sparse = sum(row.out_features * row.in_features for row in rows if row.sparse)
        embeddings = _embedding_parameters(model)
        return cls(tuple(rows), config, embeddings, everything - embeddings - sparse)

    @classmethod
    def of_sparse(cls, model: nn.Module, config: SparsityConfig) -> PatchReport:
        """Describe a model that is sparse already, with the links it really has."""
        rows, leads = [], _leads(model, sparse_layers(model), config)
        for name, module in model.named_modules():
            if isinstance(module, SparseLinear):
                out, inp, lead = module.out_features, module.in_features, leads.get(name, "")
                rows.append(LayerRow(name, out, inp, True, "linear layer", module.nnz, lead))
            elif isinstance(module, LINEAR_CLASSES):
                out, inp = linear_shape(module)
                rows.append(LayerRow(name, out, inp, False, "left dense", out * inp))
        everything = sum(parameter.numel() for parameter in model.parameters())
        links = sum(row.n_links for row in rows if row.sparse)
        embeddings = _embedding_parameters(model)
        return cls(tuple(rows), config, embeddings, everything - embeddings - links)

    @property
    def sparse_links(self) -> int:
        """Active links of all sparse layers."""
        return sum(row.n_links for row in self.rows if row.sparse)

    @property
    def sparse_dense_size(self) -> int:
        """Links that those layers would have if they were dense."""
        return sum(row.out_features * row.in_features for row in self.rows if row.sparse)

    def __str__(self) -> str:
        """The table of layers, families together, and the totals."""
        return f"{self._head()}\n\n{aligned(self._families(), '<>>><')}\n\n{self._totals()}"

    def _head(self) -> str:
        config = self.config
        if config.method == "dense":
            return f"dense: none of {len(self.rows)} linear layers sparse"
        start = "weights kept" if config.weight_init == "keep" else f"weights {config.weight_init}"
        return (
            f"{config.method} at {config.sparsity:.2%} sparsity{self._now()}: {self._count()} "
            f"linear layers sparse (initial topology {_spec(config.initial)}, {start})"
        )

    def _now(self) -> str:
        """The sparsity that there is, where the density has yet to fall."""
        if self.config.density_schedule == "constant" or not self.sparse_dense_size:
            return ""
        now = 1 - self.sparse_links / self.sparse_dense_size
        return f" ({now:.2%} now)" if self.config.sparsity - now > 0.0005 else ""

    def _count(self) -> str:
        return f"{sum(row.sparse for row in self.rows)} of {len(self.rows)}"

    def _families(self) -> list[tuple[str, ...]]:
        groups: dict[tuple[str, int, int, str], list[LayerRow]] = {}
        for row in self.rows:
            leaf = row.links_of.rpartition(".")[2]
            state = "sparse" if row.sparse else f"dense: {row.reason}"
            state += f", links of {leaf}" if leaf else ""
            key = (family(row.name), row.out_features, row.in_features, state)
            groups.setdefault(key, []).append(row)
        table: list[tuple[str, ...]] = [("linear layers", "out x in", "links", "density", "state")]
        for (name, out, inp, state), same in groups.items():
            n_links = sum(row.n_links for row in same)
            density = n_links / sum(row.out_features * row.in_features for row in same)
            label = f"{name} x{len(same)}" if len(same) > 1 else name
            table.append((label, f"{out} x {inp}", f"{n_links:,}", f"{density:.4f}", state))
        return table

    def _totals(self) -> str:
        dense = self.sparse_dense_size + self.embedding_parameters + self.rest_parameters
        now = self.sparse_links + self.embedding_parameters + self.rest_parameters

        def line(name: str, before: int, after: int) -> tuple[str, ...]:
            share = f"{after / before:.4f}" if before else "-"
            return (name, f"{before:,}", f"{after:,}", share)

        table = [
            ("parameters", "dense", "sparse", "ratio"),
            line("sparse linear layers", self.sparse_dense_size, self.sparse_links),
            line("embeddings", self.embedding_parameters, self.embedding_parameters),
            line("rest (dense linears, biases, norms)", self.rest_parameters, self.rest_parameters),
            line("total", dense, now),
        ]
        return aligned(table, "<>>>")


def _leads(model: nn.Module, layers: Mapping[str, Sized], config: SparsityConfig) -> dict[str, str]:
    """The layer that each tied layer has its links of, but for the first ones."""
    where = places(model, layers, tied=bool(config.tied_links and layers))
    return {name: place.lead for name, place in where.items() if place.lead != name}


def _embedding_parameters(model: nn.Module) -> int:
    """Numbers in embedding tables, a shared table counted once."""
    tables = (module.weight for module in model.modules() if isinstance(module, nn.Embedding))
    return sum({id(table): table.numel() for table in tables}.values())


def _spec(spec: object) -> str:
    """A rule and its parameters in few words."""
    if not isinstance(spec, dict):
        return str(spec)
    params = ", ".join(f"{key}={value}" for key, value in spec.items() if key != "rule")
    return f"{spec['rule']}({params})" if params else str(spec["rule"])


def aligned(table: list[tuple[str, ...]], alignment: str) -> str:
    """Columns as wide as their widest cell, with a rule under the header."""
    widths = [max(len(row[column]) for row in table) for column in range(len(table[0]))]
    lines = [
        "  ".join(
            f"{cell:{side}{width}}"
            for cell, side, width in zip(row, alignment, widths, strict=True)
        )
        for row in table
    ]
    return "\n".join([lines[0], "-" * len(lines[0]), *lines[1:]])
