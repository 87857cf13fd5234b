"""The abstract sentence: what both languages say, before either has said it."""

from __future__ import annotations

from typing import NamedTuple

from .entries import Adjective, Adverb, Modal, Name, Noun, Verb


class Pronoun(NamedTuple):
    """A personal pronoun, or an interrogative ("who", "what"), by its English subject form.

    ``gender`` is that of the German noun an "it" stands for.
    """

    word: str
    gender: str = "n"


class Gap(NamedTuple):
    """The relative pronoun: its antecedent's place inside the relative clause."""

    noun: Noun
    plural: bool


class NounPhrase(NamedTuple):
    """A common noun with what depends on it.

    ``determiner`` is the English word, or "" for none ("bread", "a" in the plural), or
    "possessor" where the owner stands instead ("Anna's car").
    """

    noun: Noun
    determiner: str = "the"
    plural: bool = False
    adjective: Adjective | None = None
    numeral: int = 0
    possessor: Nominal | None = None
    relative: Clause | None = None


class Coordination(NamedTuple):
    """Two nominals joined by "and"."""

    first: Nominal
    second: Nominal


Nominal = Pronoun | Gap | Name | NounPhrase | Coordination


class Prepositional(NamedTuple):
    """A preposition in both languages, the case it governs in German, and its nominal."""

    english: str
    german: str
    case: str
    nominal: Nominal


class Comparison(NamedTuple):
    """As in "bigger than the dog", or with ``equal`` "as big as the dog"."""

    adjective: Adjective
    standard: Nominal
    equal: bool = False


Predicate = Adjective | Comparison | Adverb | Nominal


class Subordinate(NamedTuple):
    """A clause that depends on another; the conjunction "to" makes it an infinitive.

    An empty conjunction makes an indirect question: its own interrogative opens it.
    """

    conjunction: Adverb
    clause: Clause
    fronted: bool = False


class Clause(NamedTuple):
    """A verb and its slots.

    ``tense`` is "present", "past", "perfect" or "future". ``front`` names the slot that opens the
    clause in the place of the subject.
    """

    subject: Nominal
    verb: Verb
    tense: str = "present"
    modal: Modal | None = None
    negated: bool = False
    question: bool = False
    front: str = "subject"
    dative: Nominal | None = None
    accusative: Nominal | None = None
    governed: Prepositional | None = None
    predicate: Predicate | None = None
    time: Adverb | None = None
    frequency: Adverb | None = None
    manner: Adverb | None = None
    place: Prepositional | Adverb | None = None
    complement: Subordinate | None = None
    adjunct: Subordinate | None = None


class Compound(NamedTuple):
    """Two main clauses joined by "and" or "but"."""

    first: Clause
    conjunction: Adverb
    second: Clause


Sentence = Clause | Compound


def is_plural(nominal: Nominal) -> bool:
    """Whether a verb agrees with the nominal in the plural."""
    if isinstance(nominal, Pronoun):
        return nominal.word in ("we", "they")
    if isinstance(nominal, Name):
        return False
    return isinstance(nominal, Coordination) or nominal.plural


def is_interrogative(value: object) -> bool:
    """Whether a slot holds a question word, or a phrase with one."""
    if isinstance(value, Prepositional):
        value = value.nominal
    if isinstance(value, NounPhrase):
        return value.determiner in ("which", "how many")
    if isinstance(value, Pronoun):
        return value.word in ("who", "what")
    return isinstance(value, Adverb) and value.classes[:1] == ("question",)
