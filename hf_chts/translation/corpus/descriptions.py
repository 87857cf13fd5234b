"""Drawing sentences that say what there is and what things are like."""

from __future__ import annotations

import functools

from .clauses import with_relative
from .entries import Adjective, Adverb, Noun
from .lexicon import BE, EXIST, verbs
from .numerals import english_number, german_number
from .phrases import (
    Dice,
    adjectives_of,
    names_of,
    noun_phrase,
    nouns_of,
    place_phrase,
    subject_phrase,
)
from .tree import Clause, Comparison, Nominal, NounPhrase, Pronoun

DESCRIBED = (
    "animal",
    "clothing",
    "text",
    "thing",
    "furniture",
    "vehicle",
    "room",
    "building",
    "food",
    "drink",
    "plant",
    "settlement",
    "outdoors",
    "event",
    "language",
)
INSIDE, ROOMS = ("furniture", "device", "instrument"), ("room", "office", "classroom")
OUTSIDE = (
    *("public_place", "store", "hotel", "restaurant", "sportplace"),
    *("vehicle", "bird", "plant"),
)
AREAS = ("settlement", "city", "valley", "island")


def description(dice: Dice) -> Clause:
    """Draw "A is ...": an adjective, a comparison, a profession, an age or a price."""
    roll, tense = dice.below(100), dice.pick(("present", "present", "past"))
    if roll < 12:
        return _measure(dice)
    if roll < 25:
        noun = dice.pick(nouns_of(("profession",)))
        kind = dice.pick(adjectives_of(("profession",)))
        name = dice.pick(names_of(("feminine" if noun.gender == "f" else "masculine",)))
        role = NounPhrase(noun, "a", adjective=kind)
        return Clause(name, BE, tense, negated=dice.chance(20), predicate=role)
    if roll < 50:
        return _comparison(dice)._replace(tense=tense)
    negated = dice.chance(25)
    subject: Nominal
    if dice.chance(35):
        subject, fitting = subject_phrase(dice, ("person",), negated), adjectives_of(("person",))
    else:
        noun = _describable(dice)
        subject, fitting = noun_phrase(dice, noun, negated), adjectives_of(noun.classes)
        if not negated and dice.chance(30):
            subject = with_relative(dice, subject)
    if isinstance(subject, NounPhrase):
        subject = subject._replace(adjective=None)
    clause = Clause(subject, BE, tense, negated=negated, predicate=dice.pick(fitting))
    return clause._replace(question=not negated and dice.chance(20))


def _describable(dice: Dice) -> Noun:
    return dice.pick([noun for noun in nouns_of(DESCRIBED) if adjectives_of(noun.classes)])


@functools.cache
def _comparable() -> tuple[tuple[Noun, Adjective, tuple[Noun, ...]], ...]:
    """List nouns with an adjective, and the nouns of the same kind it fits as well."""
    found = []
    for noun in filter(lambda n: adjectives_of(n.classes), nouns_of(DESCRIBED)):
        for kind in filter(lambda a: a.comparative, adjectives_of(noun.classes)):
            others = (n for n in nouns_of(noun.classes[:1]) if n != noun)
            fitting = tuple(n for n in others if kind in adjectives_of(n.classes))
            if fitting:
                found.append((noun, kind, fitting))
    return tuple(found)


def _comparison(dice: Dice) -> Clause:
    noun, kind, others = dice.pick(_comparable())
    subject = noun_phrase(dice, noun, definite=True)._replace(adjective=None)
    standard = noun_phrase(dice, dice.pick(others), definite=True, plural_percent=0)
    standard = standard._replace(adjective=None)
    return Clause(subject, BE, predicate=Comparison(kind, standard, dice.chance(30)))


def _measure(dice: Dice) -> Clause:
    n = 2 + dice.below(98)
    english, german = english_number(n), german_number(n)
    if dice.chance(50):
        age = Adverb(f"{english} years old", f"{german} Jahre alt")
        return Clause(subject_phrase(dice, ("person",), definite=True), BE, predicate=age)
    if dice.chance(40):
        english = german = str(100 + 5 * dice.below(180))
    cost = next(verb for verb in verbs() if verb.english == "cost")
    thing = noun_phrase(dice, dice.pick(nouns_of(cost.subjects)), definite=True, plural_percent=0)
    return Clause(thing, cost, predicate=Adverb(f"{english} euros", f"{german} Euro"))


def existence(dice: Dice) -> Clause:
    """Draw "there is ..." in a town or house."""
    inside = dice.chance(40)
    noun = dice.pick(nouns_of(INSIDE if inside else OUTSIDE))
    plural = dice.chance(40)
    numeral = 2 + dice.below(20) if plural and dice.chance(60) else 0
    determiner = dice.pick(("many", "no", "some") if plural else ("a", "a", "no"))
    fitting = adjectives_of(noun.classes)
    adjective = dice.pick(fitting) if fitting and dice.chance(40) else None
    there = Clause(
        Pronoun("there"),
        EXIST,
        dice.pick(("present", "past")),
        question=determiner in ("a", "many") and dice.chance(25),
        accusative=NounPhrase(noun, "" if numeral else determiner, plural, adjective, numeral),
        place=place_phrase(dice, ROOMS if inside else AREAS),
    )
    return there if there.question or dice.chance(70) else there._replace(front="place")
