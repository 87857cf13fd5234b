"""Drawing clauses: a verb, what it takes, when, where and how."""

from __future__ import annotations

import functools

from .entries import Adverb, Name, Noun, Verb
from .lexicon import MODALS, verbs
from .numerals import clock, digital_clock
from .phrases import (
    Dice,
    adverbs_of,
    noun_phrase,
    nouns_of,
    object_phrase,
    owner_word,
    place_phrase,
    subject_phrase,
)
from .tree import Clause, Coordination, Gap, Nominal, NounPhrase, Prepositional, Pronoun

# Verbs of states: they neither complete ("has just"), nor recur, nor follow a modal.
_STATES = (
    "like have know belong need cost trust fear understand live wear shine grow "
    "stay remember believe hope bloom"
)
STATES = tuple(_STATES.split())
QUANTIFIERS = ("every", "some", "many", "all the")
_PUNCTUAL = "begin end leave arrive open close get wake meet come set"
PUNCTUAL = tuple(_PUNCTUAL.split())


_PERSONS = ("I", "you", "he", "she", "we", "they", "who")


@functools.cache
def plain_verbs() -> tuple[Verb, ...]:
    """Return the verbs that take no clause."""
    return tuple(verb for verb in verbs() if not verb.clauses and verb.english != "cost")


@functools.cache
def clause_verbs(kind: str) -> tuple[Verb, ...]:
    """Return the verbs that take a clause of this kind: "that", "whether" or "to"."""
    return tuple(verb for verb in verbs() if kind in verb.clauses)


@functools.cache
def _verbs_about(noun: Noun, role: str) -> tuple[Verb, ...]:
    return tuple(
        verb
        for verb in plain_verbs()
        if any(c in noun.classes for c in getattr(verb, role)) and not verb.dative
    )


def is_agent(subject: Nominal) -> bool:
    """Whether the subject can want, must and may: a person."""
    if isinstance(subject, NounPhrase | Gap):
        return "person" in subject.noun.classes
    return not (isinstance(subject, Pronoun) and subject.word not in _PERSONS)


def fill(dice: Dice, verb: Verb, subject: Nominal, definite: bool = False) -> Clause:
    """Draw everything the verb takes and, sometimes, manner and place."""
    owner = owner_word(subject) if isinstance(subject, Pronoun | Name | Coordination) else ""
    if isinstance(subject, NounPhrase) and is_agent(subject):
        owner = owner_word(subject)
    clause = Clause(subject, verb)
    if verb.dative:
        clause = clause._replace(dative=object_phrase(dice, verb.dative, True, owner))
    if verb.accusative:
        accusative = object_phrase(dice, verb.accusative, definite, owner)
        if verb.dative and isinstance(accusative, Pronoun):
            accusative = noun_phrase(dice, dice.pick(nouns_of(verb.accusative)), definite, owner)
        clause = clause._replace(accusative=accusative)
    if verb.governed:
        english, german, case, classes = verb.governed
        nominal = object_phrase(dice, classes, True, owner)
        clause = clause._replace(governed=Prepositional(english, german, case, nominal))
    elif verb.goals:
        clause = clause._replace(governed=place_phrase(dice, verb.goals, goal=True))
    if verb.places and not verb.goals and dice.chance(80 if verb.english == "live" else 35):
        clause = clause._replace(place=place_phrase(dice, verb.places))
    if verb.manners and dice.chance(25):
        clause = clause._replace(manner=dice.pick(adverbs_of("manner", *verb.manners)))
    return clause


def set_tense(dice: Dice, clause: Clause, tense: str = "") -> Clause:
    """Draw tense, modal, and the adverbs of time and frequency that agree with them."""
    state = clause.verb.english in STATES
    # "Every dog never barks" is no sentence.
    every = isinstance(clause.subject, NounPhrase) and clause.subject.determiner in QUANTIFIERS
    tense = tense or dice.pick(("present", "present", "past", "past", "future", "perfect"))
    if tense == "perfect" and (state or clause.verb.english == "be"):
        tense = "present"
    if tense == "perfect":
        frequency = (
            None if clause.negated or every else dice.pick(adverbs_of("frequency", "perfect"))
        )
        return clause._replace(tense=tense, frequency=frequency)
    modal = None
    if not state and is_agent(clause.subject) and tense in ("present", "past") and dice.chance(25):
        modal = dice.pick(MODALS if tense == "present" else (MODALS[0], MODALS[3], MODALS[4]))
    clause = clause._replace(tense=tense, modal=modal)
    if tense == "present" and not (state or modal or clause.negated or every) and dice.chance(25):
        return clause._replace(frequency=dice.pick(adverbs_of("frequency", "present")))
    if not (state or (clause.negated and tense == "present" and not modal)) and dice.chance(45):
        return clause._replace(time=_time(dice, clause))
    return clause


def _time(dice: Dice, clause: Clause) -> Adverb:
    if clause.verb.english in PUNCTUAL and dice.chance(65):
        if dice.chance(70):
            return clock(
                1 + dice.below(12), dice.pick((0, 0, 5, 10, 15, 20, 30, 30, 40, 45, 50, 55))
            )
        return digital_clock(6 + dice.below(18), 5 * dice.below(12))
    if clause.modal and clause.tense == "present":
        return dice.pick(adverbs_of("time", "future"))
    return dice.pick(adverbs_of("time", clause.tense))


def plain_clause(dice: Dice, tense: str = "", negated: bool = False) -> Clause:
    """Draw a clause around any verb that takes no clause itself."""
    verb = dice.pick(plain_verbs())
    subject = subject_phrase(dice, verb.subjects, definite=negated)
    return set_tense(dice, fill(dice, verb, subject, negated)._replace(negated=negated), tense)


def with_relative(dice: Dice, phrase: NounPhrase) -> NounPhrase:
    """Attach a relative clause in which the noun is subject, object or governed, if verbs fit."""
    role = dice.pick(("subjects", "subjects", "accusative", "governed"))
    gap = Gap(phrase.noun, phrase.plural)
    if role == "governed":
        fitting: tuple[Verb, ...] = tuple(
            verb
            for verb in plain_verbs()
            if verb.governed
            and verb.governed.english != "-"
            and any(c in phrase.noun.classes for c in verb.governed.classes)
        )
    else:
        fitting = _verbs_about(phrase.noun, role)
        fitting = tuple(verb for verb in fitting if verb.english not in ("begin", "end"))
    if not fitting:
        return phrase
    verb = dice.pick(fitting)
    if role == "subjects":
        clause = fill(dice, verb, gap)
    else:
        subject = subject_phrase(dice, verb.subjects, definite=True)
        clause = fill(dice, verb, subject)._replace(front=role, manner=None)
        if role == "accusative":
            clause = clause._replace(accusative=gap)
        elif clause.governed:
            clause = clause._replace(governed=clause.governed._replace(nominal=gap))
    tense = dice.pick(("present", "past"))
    return phrase._replace(relative=clause._replace(tense=tense))
