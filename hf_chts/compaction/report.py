"""What compaction took out of a model, and why not more, as a table for people."""

from __future__ import annotations

from dataclasses import dataclass

from hf_chts.network.linears import family
from hf_chts.network.patch_report import aligned


@dataclass(frozen=True)
class CompactionRow:
    """Hidden neurons or heads at one place.

    Attributes:
        name: Where they are: two feed-forward layers, an attention module, or a lone layer.
        unit: ``"neurons"``, ``"heads"`` or ``"layer"``.
        before: How many there were; 0 where nothing may be taken out.
        after: How many there are.
        reason: Why nothing may be taken out; empty if it may.
    """

    name: str
    unit: str
    before: int
    after: int
    reason: str


@dataclass(frozen=True)
class CompactionReport:
    """What compaction took out. ``print(report)`` shows it.

    Attributes:
        rows: Every place, in the model's order.
        parameters_before: Numbers in all parameters before.
        parameters_after: And after.
        links_before: Active links before.
        links_after: And after.
        links_dense: Links that the sparse layers would have now if they were dense.
        active_neuron_rate: ANP, the share of hidden neurons that percolation leaves active, in
            [0, 1], before compaction; None where no hidden neurons are known. Source: Zhang et
            al., CHT, ICLR 2024 (active neuron post-percolation rate).
    """

    rows: tuple[CompactionRow, ...]
    parameters_before: int
    parameters_after: int
    links_before: int
    links_after: int
    links_dense: int
    active_neuron_rate: float | None

    @property
    def sparsity(self) -> float:
        """Share of links that are inactive in the layers as they are now, in [0, 1)."""
        return 1 - self.links_after / self.links_dense

    @property
    def changed(self) -> bool:
        """Whether anything was taken out."""
        return any(row.after < row.before for row in self.rows)

    def __str__(self) -> str:
        """The table of places, families together, and the totals."""
        return f"{aligned(self._places(), '<>><')}\n\n{self._totals()}"

    def _places(self) -> list[tuple[str, ...]]:
        families: dict[tuple[str, str, str], list[CompactionRow]] = {}
        for row in self.rows:
            families.setdefault((family(row.name), row.unit, row.reason), []).append(row)
        table: list[tuple[str, ...]] = [("between layers", "neurons", "heads", "state")]
        for (name, unit, reason), rows in families.items():
            before, after = (
                sum(getattr(row, side) for row in rows) for side in ("before", "after")
            )
            count = f"{before:,} > {after:,}" if before else "-"
            state = "compacted" if after < before else "all active"
            table.append(
                (
                    f"{name} x{len(rows)}" if len(rows) > 1 else name,
                    count if unit == "neurons" else "-",
                    count if unit == "heads" else "-",
                    f"kept: {reason}" if reason else state,
                )
            )
        return table

    def _totals(self) -> str:
        def line(name: str, before: int, after: int) -> tuple[str, ...]:
            return (name, f"{before:,}", f"{after:,}", f"{after / max(1, before):.4f}")

        table = [
            ("", "before", "after", "ratio"),
            line("parameters", self.parameters_before, self.parameters_after),
            line("active links", self.links_before, self.links_after),
        ]
        rate = self.active_neuron_rate
        anp = "no hidden neurons known" if rate is None else f"{rate:.4f}"
        return f"{aligned(table, '<>>>')}\nactive neurons (ANP)  {anp}"
