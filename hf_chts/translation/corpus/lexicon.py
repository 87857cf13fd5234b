"""The bilingual dictionary: the readers of the tables beside this file.

A table is a text file of rows ``English | German | ...``; its head explains its columns. Regular
forms are left out there and derived here, as in any dictionary.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from importlib import resources

from .entries import Adjective, Adverb, Governed, Modal, Name, Noun, Verb, Where

VOWELS = "aeiou"
# Verbs with these prefixes, or with the ending -ieren, form their participle without ge-.
UNSTRESSED_PREFIXES = (
    "be",
    "emp",
    "ent",
    "er",
    "ge",
    "miss",
    "ver",
    "zer",
    "über",
    "unter",
    "wieder",
)


def _rows(table: str) -> Iterator[tuple[tuple[str, ...], list[str]]]:
    """Yield the classes of the section (``[...]``) and the cells of every row of a table."""
    section: tuple[str, ...] = ()
    text = resources.files(__package__).joinpath(f"{table}.txt").read_text(encoding="utf-8")
    for line in text.splitlines():
        if line.startswith("["):
            section = tuple(line.strip("[]").split())
        elif line and not line.startswith("#"):
            yield section, [cell.strip() for cell in line.split("|")]


def _forms(cell: str) -> list[str]:
    return [form.strip() for form in cell.split(",")]


def _where(cells: list[str]) -> Where | None:
    return Where(*cells[2].split()) if len(cells) > 2 else None


def add_s(word: str) -> str:
    """Return the regular English plural of a noun, or third person of a verb."""
    if word.endswith("y") and word[-2] not in VOWELS:
        return word[:-1] + "ies"
    return word + ("es" if word.endswith(("s", "sh", "ch", "x", "o")) else "s")


def add_ed(verb: str) -> str:
    """Return the regular English past of a verb whose last consonant is not doubled."""
    if verb.endswith("y") and verb[-2] not in VOWELS:
        return verb[:-1] + "ied"
    return verb + ("d" if verb.endswith("e") else "ed")


def german_stem(infinitive: str) -> str:
    """Return what the endings of the present tense are added to."""
    return infinitive[:-2] if infinitive.endswith("en") else infinitive[:-1]


@functools.cache
def nouns() -> tuple[Noun, ...]:
    """Return all nouns; a noun is also a class of its own, called as in English."""
    entries = []
    for section, cells in _rows("nouns"):
        english, *plural = _forms(cells[0])
        german, german_plural = _forms(cells[1])
        article, lemma = german.split()
        mass = plural == ["-"]
        entries.append(
            Noun(
                english,
                "" if mass else (plural or [add_s(english)])[0],
                lemma.rstrip("*"),
                "" if mass else german_plural,
                {"der": "m", "die": "f", "das": "n"}[article],
                lemma.endswith("*"),
                (*section, english.replace(" ", "_")),
                _where(cells),
            )
        )
    return tuple(entries)


@functools.cache
def names() -> tuple[Name, ...]:
    """Return all proper names, of persons and of places."""
    entries = []
    for (section,), cells in _rows("names"):
        gender = {"feminine": "f", "masculine": "m"}.get(section, "n")
        classes = (section,) if gender == "n" else ("person", section)
        german = cells[1] if len(cells) > 1 else cells[0]
        entries.append(Name(cells[0], german, gender, classes, _where(cells)))
    return tuple(entries)


@functools.cache
def adjectives() -> tuple[Adjective, ...]:
    """Return all adjectives."""
    entries = []
    for _, cells in _rows("adjectives"):
        english, *comparative = _forms(cells[0])
        german, *forms = _forms(cells[1])
        regular = german + ("r" if german.endswith("e") else "er")
        entries.append(
            Adjective(
                english,
                "" if comparative == ["-"] else (comparative or [f"more {english}"])[0],
                german,
                forms[0] if forms else regular,
                forms[1] if len(forms) > 1 else german.removesuffix("e"),
                tuple(cells[2].split()),
            )
        )
    return tuple(entries)


@functools.cache
def adverbs() -> tuple[Adverb, ...]:
    """Return all adverbs; their classes begin with the slot they fill."""
    return tuple(Adverb(cells[0], cells[1], section) for section, cells in _rows("adverbs"))


def parse_verb(english: str, german: str) -> Verb:
    """Read the principal parts of a verb in both languages, deriving the regular ones.

    Args:
        english: For example ``"get, got, got; up"``.
        german: For example ``"auf|stehen, steht, ist aufgestanden"``.
    """
    forms, _, particle = english.partition(";")
    base, *irregular = _forms(forms)
    past, participle = irregular or [add_ed(base)] * 2
    infinitive, *strong = _forms(german)
    infinitive, reflexive = infinitive.removeprefix("sich "), infinitive.startswith("sich ")
    prefix, _, infinitive = infinitive.rpartition("/")
    stem = german_stem(infinitive)
    weak = stem + ("et" if stem.endswith(("t", "d", "chn", "ffn", "gn")) else "t")
    third, last = strong or (weak, "")
    if not last:
        bare = infinitive.startswith(UNSTRESSED_PREFIXES) or infinitive.endswith("ieren")
        last = prefix + ("" if bare else "ge") + weak
    particle = particle.strip()
    return Verb(
        english=base,
        past=past,
        participle=participle,
        particle=particle.lstrip("+"),
        stranded=particle.startswith("+"),
        infinitive=infinitive,
        third=third,
        german_participle=last.removeprefix("ist "),
        auxiliary="sein" if last.startswith("ist ") else "haben",
        prefix=prefix,
        reflexive=reflexive,
    )


def _complements(verb: Verb, cell: str) -> Verb:
    for part in filter(None, map(str.strip, cell.split(";"))):
        kind, *classes = part.split()
        if kind == "A":
            verb = verb._replace(accusative=tuple(classes))
        elif kind == "D":
            verb = verb._replace(dative=tuple(classes))
        elif kind == "P":
            english, german, case, *allowed = classes
            name = {"A": "accusative", "D": "dative"}[case]
            verb = verb._replace(governed=Governed(english, german, name, tuple(allowed)))
        elif kind == "G":
            verb = verb._replace(goals=tuple(classes))
        else:
            verb = verb._replace(clauses=(kind, *classes))
    return verb


@functools.cache
def verbs() -> tuple[Verb, ...]:
    """Return all verbs."""
    entries = []
    for _, (english, german, subjects, complements, places, manners) in _rows("verbs"):
        verb = _complements(parse_verb(english, german), complements)
        entries.append(
            verb._replace(
                subjects=tuple(subjects.split()),
                places=tuple(places.split()),
                manners=tuple(manners.split()),
            )
        )
    return tuple(entries)


BE = parse_verb("be, was, been", "sein, ist, ist gewesen")
EXIST = parse_verb("be, was, been", "geben, gibt, gegeben")
MODALS = (
    Modal("can", "could", "", "können", "kann", "konnte"),
    Modal("may", "might", "", "dürfen", "darf", "durfte"),
    Modal("should", "should", "", "sollen", "sollte", "sollte"),
    Modal("have", "had", "to", "müssen", "muss", "musste"),
    Modal("want", "wanted", "to", "wollen", "will", "wollte"),
    Modal("would", "would", "like to", "mögen", "möchte", "möchte"),
)
