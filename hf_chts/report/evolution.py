"""How single layers changed over training: matrix, degrees and counts at each snapshot."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from hf_chts.analysis import plots
from hf_chts.analysis.degree import degrees, heterogeneity
from hf_chts.analysis.history import overlap
from hf_chts.report.figure_store import Chart, FigureStore
from hf_chts.report.images import Picture, change_picture
from hf_chts.report.run_data import RunData
from hf_chts.report.saved_masks import Mask
from hf_chts.report.selection import MOST_SNAPSHOTS, places

COUNTS = (
    "active links",
    "grown since the snapshot before",
    "removed since the snapshot before",
    "shared with the start",
    "largest input degree",
    "largest output degree",
    "degree heterogeneity, inputs",
    "degree heterogeneity, outputs",
    "neurons without a link",
)


@dataclass(frozen=True)
class Evolution:
    """One layer over time.

    Attributes:
        name: The layer.
        pictures: Its matrix at each step shown: links kept, grown and removed.
        counts: Values of ``COUNTS`` in words, a row for each step.
        inputs: Degree distributions of its inputs at all steps; each line has its own group id.
        outputs: Likewise of its outputs.
        whole: Whether a pixel is one link.
    """

    name: str
    pictures: list[Picture]
    counts: list[list[str]]
    inputs: Chart
    outputs: Chart
    whole: bool


def shown_steps(run: RunData) -> list[int]:
    """Steps of the snapshots to show, evenly spread; none if there are fewer than two."""
    if len(run.steps) < 2:
        return []
    return [run.steps[place] for place in places(len(run.steps), MOST_SNAPSHOTS)]


def evolutions(
    run: RunData, names: Sequence[str], store: FigureStore, progress: Callable[[str], None]
) -> list[Evolution]:
    """Follow some layers through the steps shown."""
    steps = shown_steps(run)
    if not steps:
        return []
    histories: dict[str, dict[int, Mask]] = {name: {} for name in names}
    for step in steps:
        masks = run.masks_at(step)
        for name in names:
            histories[name][step] = masks[name]
    found = []
    for name in names:
        progress(f"the evolution of {name}")
        found.append(_evolution(name, histories[name], store))
    return found


def _evolution(name: str, history: dict[int, Mask], store: FigureStore) -> Evolution:
    masks = list(history.values())
    before = [masks[0], *masks[:-1]]
    of = {step: degrees(mask) for step, mask in history.items()}
    pictures = [change_picture(a, b) for a, b in zip(before, masks, strict=True)]
    charts = {
        side: store.chart(
            f"evolution-{side}-{name}",
            plots.degree_evolution(
                {step: getattr(d, side) for step, d in of.items()},
                title=f"Degrees of {side} over training",
            ),
            "The thick line is the step shown.",
        )
        for side in ("inputs", "outputs")
    }
    return Evolution(
        name=name,
        pictures=pictures,
        counts=[_counts(masks[0], a, b) for a, b in zip(before, masks, strict=True)],
        inputs=charts["inputs"],
        outputs=charts["outputs"],
        whole=pictures[0].block == (1, 1),
    )


def _counts(first: Mask, before: Mask, mask: Mask) -> list[str]:
    of, n_links = degrees(mask), int(mask.sum())
    shared = overlap(first, mask).shared
    start = int(first.sum())
    isolated = int((of.inputs == 0).sum() + (of.outputs == 0).sum())
    return [
        f"{n_links:,}",
        f"{int((mask & ~before).sum()):,}",
        f"{int((before & ~mask).sum()):,}",
        f"{shared:,} of {start:,}" + (f" ({shared / start:.0%})" if start else ""),
        f"{int(of.inputs.max()):,}",
        f"{int(of.outputs.max()):,}",
        _number(heterogeneity(of.inputs)),
        _number(heterogeneity(of.outputs)),
        f"{isolated:,} of {sum(mask.shape):,}",
    ]


def _number(value: object) -> str:
    return f"{value:.3f}" if isinstance(value, float) else str(value)
