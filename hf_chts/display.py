"""What commands show on the console."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Column, Table

from hf_chts.methods import DEFAULTS, METHODS
from hf_chts.rules.initial import initial
from hf_chts.rules.regrowth import regrowth
from hf_chts.rules.removal import removal


def show_scores(out: Console, scores: dict[str, Any]) -> None:
    """Scores of test sets, with signatures."""
    table = Table("test set", "score", "value", "sacreBLEU signature", title="Scores")
    for name, s in scores.items():
        named = (
            ("BLEU", s.bleu),
            ("chrF", s.chrf),
            ("TER", s.ter),
            ("BLEU, lower-cased", s.paper_bleu),
        )
        for label, x in named:
            table.add_row(name, label, f"{x.value:.2f}", x.signature)
    table.columns[2].justify = "right"
    table.columns[3].overflow = "fold"
    out.print(table)


def show_result(out: Console, result: Any, output: Path) -> None:
    """Examples, scores and sizes of a finished run, and what to do with it."""
    examples = Table("", "sentence", title="First test sentences", show_lines=False)
    for source, translation, reference in result.examples:
        examples.add_row("source", source)
        examples.add_row("translation", translation, style="bold")
        examples.add_row("reference", reference, end_section=True)
    out.print(examples)
    sizes = Table("size", "dense", "this model", "ratio", title="Sizes")
    for row in result.sizes.rows():
        sizes.add_row(*row)
    for column in sizes.columns[1:]:
        column.justify = "right"
    out.print(sizes)
    show_scores(out, result.scores)
    name, first = next(iter(result.scores.items()))
    out.print(
        f"BLEU on {name}: {first.bleu.value:.2f} ({first.bleu.signature}); "
        f"trained in {result.seconds / 60:.1f} minutes\n\n"
        "What to try next\n"
        f'  echo "Your sentence." | hf-chts translate {output}\n'
        f"  hf-chts inspect {output}/model\n"
        f'  pip install "hf-chts[analysis]" && hf-chts report {output}\n'
        "  hf-chts methods\n"
        "  the same recipe with another method:  sparsity.method=set  or  sparsity.sparsity=0.95",
        soft_wrap=True,
    )


def show_methods(out: Console) -> None:
    """Methods with their settings and papers, and rules."""
    kinds = ("initial", "removal", "regrowth", "zeta_schedule", "density_schedule")
    table = Table(
        *("method", "initial", "removal", "regrowth", "zeta", "density", "tied links"),
        title="Methods",
        caption="auto, where none is named: chts_tied, or chts where layers cannot share links; "
        "chtss_cubic where weights are kept, as those of a pretrained model",
    )
    papers = Table(
        "method", Column("paper, and where this differs", overflow="fold"), title="Sources"
    )
    for name, row in METHODS.items():
        settings = DEFAULTS | row.settings
        still = settings["regrowth"] is None
        chosen = ["-" if name == "dense" else _rule_name(settings[kind]) for kind in kinds]
        tied = "yes" if settings["tied_links"] else "-"
        table.add_row(name, *chosen[:3], "-" if still else chosen[3], chosen[4], tied)
        papers.add_row(name, f"{row.paper}\n{row.deviations}".strip())
    out.print(table)
    out.print(papers)
    rules = Table("kind", "rule", Column("source", overflow="fold"), title="Rules")
    for registry in (initial, removal, regrowth):
        for name, rule in sorted(registry.items()):
            rules.add_row(registry.kind, name, rule.source)
    out.print(rules)


def _rule_name(spec: Any) -> str:
    return "-" if spec is None else spec["rule"] if isinstance(spec, dict) else str(spec)


@contextmanager
def warnings_of_one_line() -> Iterator[None]:
    """A context in which users are told what they can mend without its place in the code."""
    usual = warnings.formatwarning

    def told(
        message: Warning | str,
        category: type[Warning],
        filename: str,
        lineno: int,
        line: str | None = None,
    ) -> str:
        if category is not UserWarning:
            return usual(message, category, filename, lineno, line)
        return f"warning: {' '.join(str(message).split())}\n"

    warnings.formatwarning = told
    try:
        yield
    finally:
        warnings.formatwarning = usual
