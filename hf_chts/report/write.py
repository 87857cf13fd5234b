"""From run folders to a report."""

from __future__ import annotations

import dataclasses
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Column

from hf_chts.report.comparison import comparison
from hf_chts.report.evolution import evolutions, shown_steps
from hf_chts.report.examples import example_sets
from hf_chts.report.export import write_graphml
from hf_chts.report.figure_store import FigureStore
from hf_chts.report.layer_panels import layer_panels
from hf_chts.report.layer_table import layer_tables
from hf_chts.report.neurons import active_share, neurons_section
from hf_chts.report.page import evolution_data, render
from hf_chts.report.run_data import RunData, read_run
from hf_chts.report.selection import choose_layers
from hf_chts.report.summary import MEASURES, Tile, score_table, size_table, tiles
from hf_chts.report.training_curves import explored, topology_charts, training_charts
from hf_chts.safe_saving import write_text


def write_report(
    run_dir: str | Path,
    *,
    compare: Sequence[str | Path] = (),
    output: str | Path | None = None,
    figures: str | Path | None = None,
    graphml: str | Path | None = None,
    layers: str | None = None,
) -> Path:
    """Write the report of a run, finished or not.

    Args:
        run_dir: Folder of the run.
        compare: Folders of other runs to show beside it.
        output: HTML file to write; None: ``report.html`` in the run's folder.
        figures: Folder for every figure as PNG and SVG; None: none are written.
        graphml: Folder for every layer and the whole network as GraphML; None: none are written.
        layers: Regular expression that picks the layers to look at closely and to compare with
            random ones; None: at most twelve, one of each kind.

    Returns:
        The HTML file.

    Raises:
        ValueError: If a folder holds no run, ``layers`` fits no layer, ``output`` is a folder, or
            ``figures`` or ``graphml`` is none.
        OSError: If one of them cannot be written, before the work begins.
    """
    run, *others = _named([read_run(folder) for folder in (run_dir, *compare)])
    chosen = choose_layers(run.layers, layers) if run.final else []
    path = run.path / "report.html" if output is None else Path(output)
    if path.is_dir():
        raise ValueError(f"{path} is a folder: give the HTML file to write")
    _try_writing(path, [Path(folder) for folder in (figures, graphml) if folder is not None])
    store = FigureStore(None if figures is None else Path(figures))
    n_graphs = len(run.final or ()) + 1 if graphml is not None else 0
    n_closely = len(chosen) * (2 if shown_steps(run) else 1)
    n_steps = 3 + len(run.final or ()) + n_closely + n_graphs
    with _progress(n_steps) as progress:
        content = _content(run, others, chosen, layers, store, progress)
        if graphml is not None:
            gaps = write_graphml(run, Path(graphml), progress)
            content["gaps"] += [(run.name, gap) for gap in gaps]
        progress("the page")
        write_text(path, render(content))
    return path


def _try_writing(file: Path, folders: Sequence[Path]) -> None:
    """Make the folders, and find out now, not after minutes of work, whether files fit in."""
    for folder in folders:
        if folder.exists() and not folder.is_dir():
            raise ValueError(f"{folder} is a file: give a folder to write to")
    for folder in (file.parent, *folders):
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
    if file.exists():
        file.open("ab").close()


def _content(
    run: RunData,
    others: list[RunData],
    chosen: list[str],
    layers: str | None,
    store: FigureStore,
    progress: Callable[[str], None],
) -> dict[str, Any]:
    """Everything the page shows."""
    runs = [run, *others]
    progress("curves")
    gaps = [(one.name, gap) for one in runs for gap in one.gaps]
    found = layer_tables(run, chosen, progress) if run.final else None
    evolved = evolutions(run, chosen, store, progress)
    summaries = [tiles(one, active_share(one), explored(one)) for one in runs]
    rows, signatures = score_table(runs)
    steps = shown_steps(run)
    panels = layer_panels(run, chosen, store, progress)
    progress("hidden neurons")
    return {
        "run": run,
        "others": others,
        "runs": runs,
        "gaps": gaps,
        "sparse": not run.dense,
        "tiles": summaries[0],
        "side_by_side": _side_by_side(summaries),
        "score_names": [label for _, label in MEASURES],
        "score_rows": rows,
        "signatures": signatures,
        "size_rows": size_table(runs),
        "comparison": comparison(run, others, store),
        "training_charts": training_charts(runs, store),
        "topology_charts": topology_charts(runs, store),
        "table": found and found[0],
        "parts_table": found and found[1],
        "panels": panels,
        "chosen_note": _chosen_note(run, chosen, layers),
        "evolutions": evolved,
        "evolution_note": _evolution_note(run, steps),
        "evolution_data": evolution_data(steps, evolved),
        "steps": steps,
        "neurons": neurons_section(run, store),
        "example_sets": example_sets(run, others),
    }


def _side_by_side(summaries: Sequence[Sequence[Tile]]) -> list[tuple[str, list[Tile | None]]]:
    """Summaries as rows of a table, a cell for each run; None where a run lacks the tile."""
    found = [{tile.label: tile for tile in row} for row in summaries]
    labels = dict.fromkeys(label for row in found for label in row)
    return [(label, [row.get(label) for row in found]) for label in labels]


def _chosen_note(run: RunData, chosen: Sequence[str], pattern: str | None) -> str:
    how = "one of each kind, at most twelve" if pattern is None else f"those that fit {pattern!r}"
    return (
        f"{len(chosen)} of {len(run.layers)} sparse layers are shown ({how}; choose others with "
        f"--layers). Links are those of {run.final_source}."
    )


def _evolution_note(run: RunData, steps: Sequence[int]) -> str:
    note = "Move the slider, or press Play, to follow the links of a layer through training."
    if len(steps) < len(run.steps):
        note += f" {len(steps)} of {len(run.steps)} snapshots are shown, evenly spread."
    return note


def _named(runs: Sequence[RunData]) -> list[RunData]:
    """The runs with names that differ: folders of the same name get their parents' too."""
    names = [run.name for run in runs]
    full = [f"{run.path.resolve().parent.name}/{run.name}" for run in runs]
    chosen = full if len(set(names)) < len(names) else names
    return [
        dataclasses.replace(run, name=name if chosen.count(name) == 1 else f"{name} ({place})")
        for place, (run, name) in enumerate(zip(runs, chosen, strict=True), start=1)
    ]


@contextmanager
def _progress(n_steps: int) -> Iterator[Callable[[str], None]]:
    """A bar on a terminal, nothing elsewhere; what it yields is told each thing that begins."""
    one_line = Column(no_wrap=True, overflow="ellipsis")
    what = TextColumn("{task.description}", table_column=one_line)
    columns = (TextColumn("report"), BarColumn(30), TimeElapsedColumn(), what)
    console = Console(stderr=True, markup=False)
    with Progress(*columns, console=console, disable=not sys.stderr.isatty()) as bar:
        task = bar.add_task("", total=n_steps, completed=-1)

        def begin(what: str) -> None:
            bar.update(task, advance=1, description=what)

        yield begin
