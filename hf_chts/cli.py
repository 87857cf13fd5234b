"""The command line."""

from __future__ import annotations

import io
import logging
import sys
import warnings
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Column, Table

from hf_chts.methods import DEFAULTS, METHODS

app = typer.Typer(
    help="Train, evaluate and use truly sparse translation models.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)
out = Console(highlight=False, markup=False, emoji=False)  # text of people is shown as it is

RecipeFile = Annotated[Path, typer.Argument(help="A recipe (YAML).", show_default=False)]
Overrides = Annotated[
    list[str] | None,
    typer.Argument(help="Changes to the recipe: section.key=value ...", show_default=False),
]
ModelFolder = Annotated[
    Path, typer.Argument(help="Folder of a finished run or of a saved model.", show_default=False)
]
Beams = Annotated[int, typer.Option(help="Beam width.", min=1)]
LengthPenalty = Annotated[float, typer.Option(help="Exponent of the length in beam search.")]


@app.command()
def train(
    recipe: RecipeFile,
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Folder of the run.", show_default=False)
    ],
    overrides: Overrides = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on after an interruption.")] = False,
    resume_from: Annotated[
        int | None,
        typer.Option(help="Go on from the checkpoint of this step; later ones are deleted."),
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace a run in the folder.")
    ] = False,
) -> None:
    """Train a translation model by a recipe, and score it on the recipe's test sets."""
    from accelerate import PartialState

    from hf_chts.translation import run
    from hf_chts.translation.recipe import load_recipe

    result = run.train(
        load_recipe(recipe, overrides or []),
        output,
        resume=resume,
        resume_from=resume_from,
        overwrite=overwrite,
    )
    if result.scores:
        _show_result(result, output)
    PartialState().destroy_process_group()  # its threads abort a process that leaves them running


@app.command()
def evaluate(
    model: ModelFolder,
    files: Annotated[
        list[str] | None,
        typer.Argument(
            help="Source and reference file, line-aligned; .gz too.", show_default=False
        ),
    ] = None,
    corpus: Annotated[
        bool, typer.Option("--corpus", help="Score on the embedded corpus' test split instead.")
    ] = False,
    target_lang: Annotated[str, typer.Option(help="Target language, for sacreBLEU.")] = "de",
    beams: Beams = 4,
    length_penalty: LengthPenalty = 1.0,
) -> None:
    """Translate a test set and score it with sacreBLEU."""
    from hf_chts.translation import run
    from hf_chts.translation.data import DataSource
    from hf_chts.translation.sections import EvaluationSection

    if corpus == bool(files):
        raise ValueError("give either two files or --corpus")
    source = (
        DataSource(corpus="embedded", split="test")
        if corpus
        else DataSource(files=tuple(files or ()))
    )
    settings = EvaluationSection(beams=beams, length_penalty=length_penalty)
    scores, _ = run.evaluate(model, source, target_lang, settings)
    _show_scores({"test": scores})


@app.command()
def translate(
    model: ModelFolder,
    file: Annotated[
        Path | None, typer.Argument(help="Text to translate; default: standard input.")
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="File to write; default: standard output.")
    ] = None,
    beams: Beams = 4,
    length_penalty: LengthPenalty = 1.0,
) -> None:
    """Translate text, one sentence a line, keeping the order of lines."""
    from hf_chts.translation import run
    from hf_chts.translation.data import read_lines
    from hf_chts.translation.sections import EvaluationSection

    lines = _standard_input() if file is None else read_lines(file)
    settings = EvaluationSection(beams=beams, length_penalty=length_penalty)
    text = "".join(line + "\n" for line in run.translate_stream(model, lines, settings))
    if output is None:
        sys.stdout.write(text)
    else:
        output.write_text(text, encoding="utf-8")


@app.command()
def inspect(
    model: Annotated[
        str, typer.Argument(help="A recipe, a model folder or a hub id.", show_default=False)
    ],
    overrides: Overrides = None,
) -> None:
    """Show which linear layers would be, or are, sparse, and why."""
    from hf_chts.inspection import inspect_model

    out.print(str(inspect_model(model, overrides or [])), soft_wrap=True)


@app.command()
def report(
    run: Annotated[Path, typer.Argument(help="Folder of a run.", show_default=False)],
    compare: Annotated[
        list[Path] | None,
        typer.Option("--compare", help="Another run to show beside it; repeat for more."),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="HTML file; by default report.html of the run."),
    ] = None,
    figures: Annotated[
        Path | None, typer.Option(help="Folder for all figures as PNG and SVG.")
    ] = None,
    graphml: Annotated[
        Path | None, typer.Option(help="Folder for the networks as GraphML.")
    ] = None,
    layers: Annotated[
        str | None,
        typer.Option(help="Regular expression: layers to look at closely; by default 12 at most."),
    ] = None,
) -> None:
    """Write a report of a run as one HTML page that opens offline."""
    from hf_chts.report import write_report

    path = write_report(
        run, compare=compare or (), output=output, figures=figures, graphml=graphml, layers=layers
    )
    out.print(f"wrote {path}", soft_wrap=True)


@app.command()
def methods() -> None:
    """List training methods and rules with their papers."""
    from hf_chts.rules.initial import initial
    from hf_chts.rules.regrowth import regrowth
    from hf_chts.rules.removal import removal

    kinds = ("initial", "removal", "regrowth", "zeta_schedule", "density_schedule")
    table = Table("method", "initial", "removal", "regrowth", "zeta", "density", title="Methods")
    papers = Table(
        "method", Column("paper, and where this differs", overflow="fold"), title="Sources"
    )
    for name, row in METHODS.items():
        settings = DEFAULTS | row.settings
        still = settings["regrowth"] is None
        chosen = ["-" if name == "dense" else _rule_name(settings[kind]) for kind in kinds]
        table.add_row(name, *chosen[:3], "-" if still else chosen[3], chosen[4])
        papers.add_row(name, f"{row.paper}\n{row.deviations}".strip())
    out.print(table)
    out.print(papers)
    rules = Table("kind", "rule", Column("source", overflow="fold"), title="Rules")
    for registry in (initial, removal, regrowth):
        for name, rule in sorted(registry.items()):
            rules.add_row(registry.kind, name, rule.source)
    out.print(rules)


def main() -> None:
    """Run the command line; what users can mend is one line on standard error, exit status 2."""
    logging.getLogger("transformers").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", category=FutureWarning, module="transformers")
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()
    try:
        app()
    except (ValueError, OSError, ImportError) as error:
        Console(stderr=True, highlight=False, markup=False, emoji=False).print(
            f"hf-chts: {' '.join(str(error).split())}", style="bold red", soft_wrap=True
        )
        raise SystemExit(2) from None


def _standard_input() -> list[str]:
    """Lines in UTF-8, ended by line feeds only, like those of files."""
    stream = io.TextIOWrapper(sys.stdin.buffer, "utf-8", newline="\n")
    return [line.rstrip("\r\n") for line in stream]


def _rule_name(spec: Any) -> str:
    return "-" if spec is None else spec["rule"] if isinstance(spec, dict) else str(spec)


def _show_scores(scores: dict[str, Any]) -> None:
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


def _show_result(result: Any, output: Path) -> None:
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
    _show_scores(result.scores)
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
