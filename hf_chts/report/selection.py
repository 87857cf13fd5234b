"""Which layers and snapshots a report shows in full, and what it calls them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence

from hf_chts.report.saved_masks import Shape

MOST_LAYERS = 12
MOST_SNAPSHOTS = 12


def choose_layers(layers: Mapping[str, Shape], pattern: str | None) -> list[str]:
    """Layers to look at closely.

    Args:
        layers: All sparse layers.
        pattern: A regular expression to find in their names; None: of each kind of layer (names
            with digits collapsed) the one in the middle, and of these kinds at most twelve, evenly
            spread.

    Raises:
        ValueError: If the pattern is no regular expression, or no layer has it.
    """
    if pattern is not None:
        try:
            found = [name for name in layers if re.search(pattern, name)]
        except re.error as error:
            raise ValueError(f"--layers {pattern!r} is no regular expression: {error}") from None
        if not found and layers:
            raise ValueError(
                f"--layers {pattern!r} fits no layer; one of them: {next(iter(layers))}"
            )
        return found
    kinds: dict[str, list[str]] = {}
    for name in layers:
        kinds.setdefault(re.sub(r"\d+", "*", name), []).append(name)
    return [kinds[kind][len(kinds[kind]) // 2] for kind in spread(list(kinds), MOST_LAYERS)]


def spread(items: Sequence[str], most: int) -> list[str]:
    """At most so many items, evenly spread, the first and the last among them."""
    return [items[i] for i in places(len(items), most)]


def places(n_items: int, most: int) -> list[int]:
    """Places of at most so many of ``n_items``, evenly spread from the first to the last."""
    n = min(n_items, most)
    return [round(i * (n_items - 1) / max(n - 1, 1)) for i in range(n)]


def short_names(names: Iterable[str]) -> dict[str, str]:
    """Names without the words that all of them begin with."""
    split = [name.split(".") for name in names]
    shared = _shared(split)
    return {".".join(words): ".".join(words[shared:]) for words in split}


def group_label(name: str) -> str:
    """Name of a group of neurons, what its layers share said once: ``layers.0: fc1 > fc2``."""
    parts = re.split(r"( \+ | \| | > )", name)
    split = [part.split(".") for part in parts[::2]]
    shared = _shared(split)
    parts[::2] = [".".join(words[shared:]) for words in split]
    where = ".".join(split[0][:shared])
    return f"{where}: {''.join(parts)}" if where else "".join(parts)


def _shared(names: Sequence[Sequence[str]]) -> int:
    """How many words all names begin with, their last words aside."""
    shared = 0
    while all(len(n) > shared + 1 and n[shared] == names[0][shared] for n in names) and names:
        shared += 1
    return shared
