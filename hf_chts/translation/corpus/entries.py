"""What a dictionary entry holds, one type a part of speech."""

from __future__ import annotations

from typing import NamedTuple


class Where(NamedTuple):
    """The prepositions of a place: English, German at rest (dative), German with motion."""

    english: str
    german: str
    whither: str


class Noun(NamedTuple):
    """A common noun. A mass noun has no plural (""); a weak noun ends in -n in oblique cases."""

    english: str
    english_plural: str
    german: str
    german_plural: str
    gender: str
    weak: bool
    classes: tuple[str, ...]
    where: Where | None


class Name(NamedTuple):
    """A proper name of a person (gender "m" or "f") or place ("n")."""

    english: str
    german: str
    gender: str
    classes: tuple[str, ...]
    where: Where | None


class Adjective(NamedTuple):
    """An adjective with comparatives ("" if it has none); ``stem`` takes the German endings."""

    english: str
    comparative: str
    german: str
    german_comparative: str
    stem: str
    classes: tuple[str, ...]


class Adverb(NamedTuple):
    """Any fixed expression, of one word or several."""

    english: str
    german: str
    classes: tuple[str, ...] = ()


class Governed(NamedTuple):
    """A prepositional object: the prepositions, the German case and the noun classes allowed."""

    english: str
    german: str
    case: str
    classes: tuple[str, ...]


class Verb(NamedTuple):
    """A verb: principal parts in both languages, and what it takes.

    ``particle`` follows the English verb; with ``stranded`` it is a preposition, so that pronouns
    follow it too. ``infinitive`` and ``third`` are without the separable ``prefix``.
    """

    english: str
    past: str
    participle: str
    particle: str
    stranded: bool
    infinitive: str
    third: str
    german_participle: str
    auxiliary: str
    prefix: str
    reflexive: bool
    subjects: tuple[str, ...] = ()
    accusative: tuple[str, ...] = ()
    dative: tuple[str, ...] = ()
    governed: Governed | None = None
    goals: tuple[str, ...] = ()
    clauses: tuple[str, ...] = ()
    places: tuple[str, ...] = ()
    manners: tuple[str, ...] = ()


class Modal(NamedTuple):
    """A modal verb: an English auxiliary ("can") or, with "to" in ``link``, a full verb.

    ``singular`` and ``plural`` are the German present; ``german_past`` is the Präteritum.
    """

    english: str
    past: str
    link: str
    infinitive: str
    singular: str
    german_past: str
