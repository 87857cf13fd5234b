"""A close look at single layers: matrix, degrees, and the hyperbolic disc."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int

from hf_chts.analysis import plots
from hf_chts.analysis.community import Communities, communities
from hf_chts.analysis.degree import PowerLaw, degrees, fit_power_law
from hf_chts.analysis.hyperbolic import Embedding, coalescent_embedding
from hf_chts.analysis.network import Undefined
from hf_chts.report.figure_store import Chart, FigureStore
from hf_chts.report.images import Picture, matrix_picture
from hf_chts.report.run_data import RunData
from hf_chts.report.saved_masks import Mask

MOST_DRAWN_LINKS = 2000
STEEP = 5
"""Exponents far above those of scale-free networks, 2 to 3; random layers have 10 and more."""


@dataclass(frozen=True)
class LayerPanel:
    """What is shown of one layer.

    Attributes:
        name: The layer.
        pictures: Its matrix in several orders of rows and columns, by the name of the order.
        block: What a pixel of them stands for, in words; empty if for one link.
        degrees: Degree distributions with their power laws.
        fits: The fits in words.
        disc: The layer in the hyperbolic disc; None if it cannot be embedded.
        disc_note: What the disc shows, or why there is none.
    """

    name: str
    pictures: dict[str, Picture]
    block: str
    degrees: Chart
    fits: list[str]
    disc: Chart | None
    disc_note: str


def layer_panels(
    run: RunData, names: Sequence[str], store: FigureStore, progress: Callable[[str], None]
) -> list[LayerPanel]:
    """Panels of some layers of a run that has links."""
    panels = []
    for name in names:
        progress(f"a close look at {name}")
        panels.append(_panel(name, (run.final or {})[name], store))
    return panels


def _panel(name: str, mask: Mask, store: FigureStore) -> LayerPanel:
    found = communities(mask)
    pictures = {
        order: matrix_picture(mask[np.ix_(rows, columns)])
        for order, (rows, columns) in _orders(mask, found).items()
    }
    if store.folder is not None:  # the page has the pictures above
        store.keep(f"adjacency-{name}", plots.adjacency(mask, title=f"Active links of {name}"))
    rows, columns = pictures["as numbered"].block
    chart, fits = _degree_chart(name, mask, store)
    disc, note = _disc(name, mask, found, store)
    return LayerPanel(
        name=name,
        pictures=pictures,
        block="" if (rows, columns) == (1, 1) else f"{rows} x {columns} neurons",
        degrees=chart,
        fits=fits,
        disc=disc,
        disc_note=note,
    )


def _orders(
    mask: Mask, found: Communities | Undefined
) -> dict[str, tuple[Int[np.ndarray, " out"], Int[np.ndarray, " in"]]]:
    of = degrees(mask)
    orders = {
        "as numbered": (np.arange(mask.shape[0]), np.arange(mask.shape[1])),
        "by degree": (
            np.argsort(-of.outputs, kind="stable"),
            np.argsort(-of.inputs, kind="stable"),
        ),
    }
    if isinstance(found, Communities):
        orders["by community"] = (
            np.lexsort((-of.outputs, found.outputs)),
            np.lexsort((-of.inputs, found.inputs)),
        )
    return orders


def _degree_chart(name: str, mask: Mask, store: FigureStore) -> tuple[Chart, list[str]]:
    of = degrees(mask)
    sides = {"inputs": of.inputs, "outputs": of.outputs}
    fits = {side: fit_power_law(values) for side, values in sides.items()}
    laws = {
        side: (fit.gamma, float(fit.x_min))
        for side, fit in fits.items()
        if isinstance(fit, PowerLaw)
    }
    figure = plots.degree_distribution(sides, laws, title="Degree distribution")
    words = [f"{side}: {_fit_in_words(fit)}" for side, fit in fits.items()]
    return store.chart(f"degrees-{name}", figure), words


def _fit_in_words(fit: PowerLaw | Undefined) -> str:
    if isinstance(fit, Undefined):
        return f"power law {fit}"
    verdict = "ruled out" if fit.p_value < 0.1 else "not ruled out"
    steep = "so steep a tail is one of random layers too" if fit.gamma > STEEP else ""
    return "; ".join(
        clause
        for clause in (
            f"gamma = {fit.gamma:.2f} from degree {fit.x_min} on ({fit.n_tail} neurons), "
            f"p = {fit.p_value:.2f}: a power law is {verdict}",
            _rival_in_words(fit),
            steep,
        )
        if clause
    )


def _rival_in_words(fit: PowerLaw) -> str:
    """The law that beats the power law most surely; empty where the power law is the likeliest."""
    rivals = {name: one for name, one in fit.alternatives.items() if one.log_ratio < 0}
    if not rivals:
        return ""
    name = min(rivals, key=lambda name: rivals[name].p_value)
    article = "an" if name[0] in "aeiou" else "a"
    how = "better" if rivals[name].p_value < 0.1 else "as well"
    return f"{article} {name} law fits {how} (p = {rivals[name].p_value:.2f})"


def _disc(
    name: str, mask: Mask, found: Communities | Undefined, store: FigureStore
) -> tuple[Chart | None, str]:
    embedding = coalescent_embedding(mask)
    if isinstance(embedding, Undefined) or isinstance(found, Undefined):
        return None, f"The hyperbolic disc is {embedding or found}."
    labels = {"in": found.inputs, "out": found.outputs}
    community = np.array([labels[side][i] for side, i in embedding.nodes])
    links = _links(mask, embedding)
    drawn = min(len(links), MOST_DRAWN_LINKS)
    chosen = np.sort(np.random.default_rng(0).choice(len(links), drawn, replace=False))
    figure = plots.disc(
        embedding.angle, embedding.radius, community, links[chosen], title="Hyperbolic disc"
    )
    note = (
        f"{embedding.largest_component_share:.0%} of the neurons (the largest component), coloured "
        f"by community: {len(found.sizes)} communities, modularity {found.modularity.barber:.3f}. "
        f"{drawn:,} of {len(links):,} links are drawn."
    )
    return store.chart(f"disc-{name}", figure), note


def _links(mask: Mask, embedding: Embedding) -> Int[np.ndarray, "links 2"]:
    """Links between embedded neurons, as pairs of places among the nodes."""
    place = {node: index for index, node in enumerate(embedding.nodes)}
    outputs, inputs = np.nonzero(mask)
    pairs = [
        (place["in", i], place["out", o])
        for o, i in zip(outputs.tolist(), inputs.tolist(), strict=True)
        if ("in", i) in place and ("out", o) in place
    ]
    return np.array(pairs, dtype=np.int64).reshape(-1, 2)
