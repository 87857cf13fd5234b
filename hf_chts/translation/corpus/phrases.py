"""Drawing noun phrases that make sense: by semantic class, with fitting dependents."""

from __future__ import annotations

import functools
import random
from collections.abc import Sequence
from typing import TypeVar

from .entries import Adjective, Adverb, Name, Noun
from .lexicon import adjectives, adverbs, names, nouns
from .tree import Coordination, Nominal, NounPhrase, Prepositional, Pronoun

T = TypeVar("T")

PERSONAL = ("I", "you", "he", "she", "we", "they")
POSSESSIVE = {"I": "my", "you": "your", "he": "his", "she": "her", "we": "our", "they": "their"}
OWNABLE = ("clothing", "text", "ridden", "pet", "small", "home", "instrument", "garden")
# Nouns that stand without an article, and those that always have the definite one.
UNIQUE = ("weather_subject",)
BARE = ("sport", "subject")


class Dice:
    """Random draws from integers alone, so that every platform draws the same."""

    def __init__(self, seed: int) -> None:
        self._bits = random.Random(seed).getrandbits

    def below(self, n: int) -> int:
        """Return an integer in [0, n)."""
        return self._bits(32) % n

    def chance(self, percent: int) -> bool:
        """Return True in ``percent`` of 100 draws."""
        return self.below(100) < percent

    def pick(self, choices: Sequence[T]) -> T:
        """Return one of the choices, all equally likely."""
        return choices[self.below(len(choices))]


@functools.cache
def _share(a: tuple[str, ...], b: tuple[str, ...]) -> bool:
    return any(item in b for item in a)


@functools.cache
def nouns_of(classes: tuple[str, ...]) -> tuple[Noun, ...]:
    """Return all nouns of any of the classes."""
    return tuple(noun for noun in nouns() if _share(noun.classes, classes))


@functools.cache
def names_of(classes: tuple[str, ...]) -> tuple[Name, ...]:
    """Return all names of any of the classes."""
    return tuple(name for name in names() if _share(name.classes, classes))


@functools.cache
def adjectives_of(classes: tuple[str, ...]) -> tuple[Adjective, ...]:
    """Return all adjectives that fit a noun of these classes."""
    return tuple(a for a in adjectives() if _share(a.classes, classes))


@functools.cache
def adverbs_of(slot: str, *classes: str) -> tuple[Adverb, ...]:
    """Return the adverbs of a slot that fit any of the classes."""
    return tuple(a for a in adverbs() if a.classes[0] == slot and _share(a.classes[1:], classes))


def owner_word(nominal: Nominal) -> str:
    """Return the possessive that refers back to a nominal, or "" where gender and sex differ."""
    word = pronoun_for(nominal).word
    return POSSESSIVE.get(word, "")


def pronoun_for(nominal: Nominal) -> Pronoun:
    """Return the pronoun that refers back to a nominal; "it" keeps the German gender."""
    if isinstance(nominal, Pronoun):
        return nominal
    if isinstance(nominal, Coordination):
        return Pronoun("they")
    if isinstance(nominal, Name):
        return Pronoun({"m": "he", "f": "she", "n": "it"}[nominal.gender])
    noun, plural = nominal.noun, nominal.plural
    if plural:
        return Pronoun("they")
    if "person" in noun.classes and noun.gender != "n":
        return Pronoun("he" if noun.gender == "m" else "she")
    return Pronoun("it", noun.gender)


def can_refer(nominal: Nominal) -> bool:
    """Whether a pronoun may refer back: not to das Kind, whose sex is unknown."""
    if isinstance(nominal, NounPhrase):
        return "person" not in nominal.noun.classes or nominal.noun.gender != "n" or nominal.plural
    if isinstance(nominal, Pronoun):
        return nominal.word in PERSONAL
    return isinstance(nominal, Name | Coordination)


def _determiner(dice: Dice, noun: Noun, plural: bool, definite: bool, owner: str) -> str:
    roll = dice.below(100)
    if _share(noun.classes, BARE):
        return ""
    if _share(noun.classes, UNIQUE):
        return "the"
    if "family" in noun.classes and roll < 85:
        return owner or dice.pick(list(POSSESSIVE.values()))
    if "family" in noun.classes:
        return "the"
    if roll < 18 and owner and _share(noun.classes, (*OWNABLE, "farm")):
        return owner
    if 18 <= roll < 28:
        return "this"
    if definite or roll < 62:
        return "the"
    if plural:
        return dice.pick(["", "", "some", "many", "all the"])
    if noun.english_plural:
        return "every" if roll > 90 and not owner else "a"
    return ""


def noun_phrase(
    dice: Dice, noun: Noun, definite: bool = False, owner: str = "", plural_percent: int = 25
) -> NounPhrase:
    """Draw a noun phrase around a noun.

    Args:
        dice: Source of all randomness.
        noun: The head.
        definite: Whether indefinite determiners and numerals are out, as under negation.
        owner: Possessive that refers back to the subject, "" for none.
        plural_percent: How often a noun that has a plural is in it.
    """
    plural = bool(noun.english_plural) and "one" not in noun.classes and dice.chance(plural_percent)
    determiner = _determiner(dice, noun, plural, definite, owner)
    fitting = adjectives_of(noun.classes)
    adjective = dice.pick(fitting) if fitting and dice.chance(30) else None
    numeral = 0
    if plural and determiner in ("", "the", "this") and not definite and dice.chance(40):
        numeral = 2 + dice.below(11) if dice.chance(85) else 2 + dice.below(98)
        determiner = determiner if numeral < 10 else ""
    possessor: Nominal | None = None
    if determiner == "the" and not numeral and _share(noun.classes, OWNABLE) and dice.chance(35):
        possessor = _possessor(dice)
        determiner = "possessor"
    return NounPhrase(noun, determiner, plural, adjective, numeral, possessor)


def _possessor(dice: Dice) -> Nominal:
    if dice.chance(40):
        return dice.pick(names_of(("person",)))
    noun = dice.pick(nouns_of(("person",)))
    plural = "one" not in noun.classes and dice.chance(20)
    if "family" in noun.classes:
        return NounPhrase(noun, dice.pick(("my", "your", "our", "his", "her")), plural)
    return NounPhrase(noun, "the", plural)


def subject_phrase(dice: Dice, classes: tuple[str, ...], definite: bool = False) -> Nominal:
    """Draw a subject of the given classes."""
    if classes == ("it",):
        return Pronoun("it")
    if "person" in classes:
        roll = dice.below(100)
        if roll < 32:
            return Pronoun(dice.pick(PERSONAL))
        if roll < 50:
            return dice.pick(names_of(("person",)))
        if roll < 55:
            pair = dice.pick(names_of(("feminine",))), dice.pick(names_of(("masculine",)))
            return Coordination(*pair)
    return noun_phrase(dice, dice.pick(nouns_of(classes)), definite)


def object_phrase(
    dice: Dice, classes: tuple[str, ...], definite: bool = False, owner: str = ""
) -> Nominal:
    """Draw an object of the given classes."""
    if "person" in classes and dice.chance(20):
        if dice.chance(50):
            return dice.pick(names_of(("person",)))
        return Pronoun(dice.pick([word for word in PERSONAL if POSSESSIVE[word] != owner]))
    places = names_of(classes) if "person" not in classes else ()
    if places and dice.chance(40):
        return dice.pick(places)
    return noun_phrase(dice, dice.pick(nouns_of(classes)), definite, owner)


def place_phrase(dice: Dice, classes: tuple[str, ...], goal: bool = False) -> Prepositional:
    """Draw where something happens or, as a ``goal``, where someone goes."""
    towns, sites = names_of(classes), nouns_of(classes)
    nominal: Name | NounPhrase
    if towns and (not sites or dice.chance(50)):
        nominal = dice.pick(towns)
        where = nominal.where
    else:
        noun = dice.pick(sites)
        fitting = adjectives_of(noun.classes)
        adjective = dice.pick(fitting) if fitting and dice.chance(15) else None
        nominal = NounPhrase(noun, "a" if dice.chance(10) else "the", False, adjective)
        where = noun.where
    assert where is not None  # tests/translation/test_corpus.py checks the tables
    if not goal:
        return Prepositional(where.english, where.german, "dative", nominal)
    case = "dative" if where.whither in ("zu", "nach") else "accusative"
    return Prepositional("to", where.whither, case, nominal)
