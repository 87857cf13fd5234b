"""What commands show on the console."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table


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
