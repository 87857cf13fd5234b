"""The command line."""

from __future__ import annotations

import dataclasses
import logging
import sys
import warnings
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from hf_chts.display import show_methods, show_result, show_scores, warnings_of_one_line
from hf_chts.safe_saving import write_text

app = typer.Typer(
    help="Train, evaluate and use truly sparse translation models.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
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
Beams = Annotated[
    int | None, typer.Option(help="Beam width; default: the run's, of a model 4.", min=1)
]
LengthPenalty = Annotated[
    float | None,
    typer.Option(help="Exponent of the length in beam search; default: the run's, of a model 1."),
]


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
        typer.Option(help="Go on from the checkpoint of this step; later ones are deleted.", min=1),
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace a run in the folder.")
    ] = False,
) -> None:
    """Train a translation model by a recipe, and score it on the recipe's test sets."""
    from hf_chts.engine.ranks import leave_group
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
        show_result(out, result, output)
    leave_group()


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
    target_lang: Annotated[
        str | None, typer.Option(help="Target language, for sacreBLEU; default: the run's.")
    ] = None,
    beams: Beams = None,
    length_penalty: LengthPenalty = None,
) -> None:
    """Translate a test set and score it with sacreBLEU."""
    from hf_chts.translation import run
    from hf_chts.translation.data import DataSource

    if corpus == bool(files):
        raise ValueError("give either two files or --corpus")
    source = (
        DataSource(corpus="embedded", split="test")
        if corpus
        else DataSource(files=tuple(files or ()))
    )
    language, usual = run.usual_scoring(model)
    settings = _changed(usual, beams, length_penalty)
    scores, _ = run.evaluate(model, source, target_lang or language, settings)
    show_scores(out, {"test": scores})


@app.command()
def translate(
    model: ModelFolder,
    file: Annotated[
        Path | None, typer.Argument(help="Text to translate; default: standard input.")
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="File to write; default: standard output.")
    ] = None,
    beams: Beams = None,
    length_penalty: LengthPenalty = None,
) -> None:
    """Translate text, one sentence a line, keeping the order of lines."""
    from hf_chts.translation import run
    from hf_chts.translation.data import read_lines

    if output is not None and not output.parent.is_dir():
        raise ValueError(f"{output.parent} is no folder: make it, or write to another place")
    if output is not None and output.exists() and not output.is_file():
        raise ValueError(f"{output} is no file: give one; without it, standard output is written")
    lines = _standard_input() if file is None else read_lines(file)
    settings = _changed(run.usual_scoring(model)[1], beams, length_penalty)
    text = "".join(line + "\n" for line in run.translate_stream(model, lines, settings))
    if output is None:
        sys.stdout.buffer.write(text.encode("utf-8"))  # as it is read, whatever the locale
    else:
        write_text(output, text)


@app.command()
def compare(
    recipe: RecipeFile,
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Folder of the comparison.", show_default=False)
    ],
    methods: Annotated[
        str, typer.Option(help="Rows of the table, with commas between.", show_default=False)
    ],
    overrides: Overrides = None,
    sparsity: Annotated[str, typer.Option(help="Shares of links that are inactive.")] = "0.9",
    seeds: Annotated[str, typer.Option(help="Every row is run once with each.")] = "1,2,3",
    jobs: Annotated[int, typer.Option(help="Runs at once.", min=1)] = 1,
    settings: Annotated[
        Path | None, typer.Option(help="YAML: for each row, what it changes in the recipe.")
    ] = None,
    minutes: Annotated[
        float | None, typer.Option(help="Stop after so long; the same command goes on.", min=0)
    ] = None,
    baseline: Annotated[
        str | None, typer.Option(help="Row to test the others against; default: dense.")
    ] = None,
) -> None:
    """Train by several methods, sparsities and seeds, and compare the results.

    Rows are methods (hf-chts methods), narrow-dense (dense, with as many weights as the sparse
    model), shallow-decoder (dense, with one decoder layer), and variants that the settings name.

    Given again, the command goes on where it was interrupted and leaves finished runs alone; with
    more methods, sparsities or seeds it extends the comparison. A run that fails is reported, with
    what to delete to have it tried again, and the exit status is 1, as where one was killed or met
    a full disk; it is 0 when time is up.
    """
    from hf_chts.comparison import command
    from hf_chts.translation.recipe import load_recipe

    status = command.compare(
        load_recipe(recipe, overrides or []),
        output,
        rows=methods,
        sparsity=sparsity,
        seeds=seeds,
        settings_file=settings,
        jobs=jobs,
        minutes=minutes,
        baseline=baseline,
    )
    if status:
        raise typer.Exit(status)


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
    show_methods(out)


def main() -> None:
    """Run the command line; what users can mend is one line on standard error.

    The exit status is then 2, or 3 if training diverged, or 4 if a file that is there could not be
    read, or one not be written, as on a full disk: then the same command may succeed later.
    """
    logging.getLogger("transformers").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", category=FutureWarning, module="transformers")
    from transformers.utils.logging import disable_progress_bar

    from hf_chts.training.finite import NotFiniteError

    disable_progress_bar()
    try:
        with warnings_of_one_line():
            app()
    except (ValueError, OSError, ImportError) as error:
        Console(stderr=True, highlight=False, markup=False, emoji=False).print(
            f"hf-chts: {' '.join(str(error).split())}", style="bold red", soft_wrap=True
        )
        if isinstance(error, NotFiniteError):
            raise SystemExit(3) from None
        misplaced = isinstance(error, FileNotFoundError | NotADirectoryError)
        of_disk = isinstance(error, OSError) and not misplaced
        raise SystemExit(4 if of_disk else 2) from None


def _standard_input() -> list[str]:
    """Its lines, like those of a file."""
    from hf_chts.translation.data import lines_of

    if sys.stdin is None:
        raise ValueError("standard input is closed: give a file, or send text there")
    return lines_of(sys.stdin.buffer.read(), "standard input")


def _changed(usual: Any, beams: int | None, length_penalty: float | None) -> Any:
    """A run's way to decode, but for what was asked for."""
    asked = {"beams": beams, "length_penalty": length_penalty}
    given = {name: value for name, value in asked.items() if value is not None}
    return dataclasses.replace(usual, **given)
