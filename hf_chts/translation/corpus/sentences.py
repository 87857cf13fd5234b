"""Drawing sentences: the patterns of the corpus and how often each comes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .clauses import (
    STATES,
    clause_verbs,
    fill,
    is_agent,
    plain_clause,
    plain_verbs,
    set_tense,
    with_relative,
)
from .descriptions import description, existence
from .entries import Adverb, Verb
from .lexicon import BE
from .phrases import (
    Dice,
    adjectives_of,
    adverbs_of,
    can_refer,
    nouns_of,
    pronoun_for,
    subject_phrase,
)
from .tree import (
    Clause,
    Compound,
    Nominal,
    NounPhrase,
    Pronoun,
    Sentence,
    Subordinate,
)

AND, BUT = Adverb("and", "und"), Adverb("but", "aber")
BECAUSE, ALTHOUGH = Adverb("because", "weil"), Adverb("although", "obwohl")
THAT, WHETHER = Adverb("that", "dass"), Adverb("whether", "ob")
TO, IN_ORDER_TO = Adverb("", "zu"), Adverb("in order", "um")
INDIRECT = Adverb("", "")
# Conjunctions with the tenses of the main and of the subordinate clause.
CONJUNCTIONS = (
    (Adverb("if", "wenn"), "future", "present"),
    (Adverb("when", "als"), "past", "past"),
    (Adverb("while", "während"), "past", "past"),
    (Adverb("before", "bevor"), "past", "past"),
    (BECAUSE, "past", "past"),
    (ALTHOUGH, "past", "past"),
)
PURPOSES = (
    "buy",
    "meet",
    "visit",
    "fetch",
    "help",
    "sell",
    "read",
    "play",
    "rest",
    "swim",
    "collect",
)


def statement(dice: Dice) -> Clause:
    """Draw a main clause; an adverbial may come first, and the last noun may have a relative."""
    clause = plain_clause(dice, negated=dice.chance(18))
    if clause.time and dice.chance(45):
        clause = clause._replace(front="time")
    elif clause.place and not clause.negated and dice.chance(20):
        clause = clause._replace(front="place")
    if dice.chance(25):
        return _attach_relative(dice, clause)
    return clause


def _attach_relative(dice: Dice, clause: Clause) -> Clause:
    subject, accusative = clause.subject, clause.accusative
    if isinstance(subject, NounPhrase) and subject.determiner in ("the", "a", "this", ""):
        return clause._replace(subject=with_relative(dice, subject))
    if isinstance(accusative, NounPhrase) and accusative.determiner in ("the", "a"):
        last = clause._replace(accusative=with_relative(dice, accusative), place=None, manner=None)
        return last if last.front == "time" else last._replace(time=None, front="subject")
    return clause


def yes_no_question(dice: Dice) -> Clause:
    """Draw a question for yes or no."""
    return _asked(dice)._replace(question=True)


def _asked(dice: Dice) -> Clause:
    """Draw a clause one may ask about: nobody asks what they do themselves."""
    clause = plain_clause(dice)
    return _asked(dice) if clause.subject == Pronoun("I") else clause


def wh_question(dice: Dice) -> Clause:
    """Draw a question with an interrogative for any slot."""
    return _interrogative(dice, _asked(dice))._replace(question=True)


def _interrogative(dice: Dice, clause: Clause) -> Clause:
    """Put an interrogative into a slot of a clause, and the slot in front."""
    verb, slots = clause.verb, ["time", "why"]
    if clause.tense == "perfect":  # "when has she ..." is no English
        clause = clause._replace(tense="past", frequency=None)
    slots += ["subject"] * 2 * ("person" in verb.subjects)
    slots += ["accusative"] * 3 * bool(verb.accusative and not verb.dative)
    slots += ["place"] * 2 * bool(verb.places and not verb.goals) + ["manner"] * bool(verb.manners)
    slot = dice.pick(slots)
    if slot == "subject":
        return clause._replace(subject=_who(dice, verb))
    if slot == "accusative":
        people = [c for c in ("person", "child") if c in verb.accusative]
        asked: Nominal = Pronoun("who" if people else "what")
        if dice.chance(60):
            noun = dice.pick(nouns_of(verb.accusative))
            many = bool(noun.english_plural) and dice.chance(40)
            asked = NounPhrase(noun, "how many" if many else "which", many)
        return clause._replace(accusative=asked, front=slot)
    word = {"time": "when", "why": "why", "place": "where", "manner": "how"}[slot]
    slot = "time" if slot == "why" else slot
    asked_adverb = adverbs_of("question", word)[0]
    changes: dict[str, Any] = {slot: asked_adverb, "front": slot, "frequency": None}
    return clause._replace(**changes)


def _who(dice: Dice, verb: Verb) -> Nominal:
    if dice.chance(60):
        return Pronoun("who")
    return NounPhrase(dice.pick(nouns_of(verb.subjects)), "which")


def compound(dice: Dice) -> Compound:
    """Draw two main clauses, the second about what the first mentions."""
    first = plain_clause(dice, dice.pick(("present", "past", "future")))
    if can_refer(first.subject) and dice.chance(50):
        subject: Nominal = pronoun_for(first.subject)
    else:
        subject = subject_phrase(dice, ("person",))
    it = _follow_up(dice, first, subject)
    if it:
        return Compound(first, AND if dice.chance(70) else BUT, it)
    second = plain_clause(dice, first.tense, negated=dice.chance(30))
    return Compound(first, BUT if second.negated else AND, second)


def _follow_up(dice: Dice, first: Clause, subject: Nominal) -> Clause | None:
    """Draw a second clause whose object is a pronoun for the object of the first."""
    thing = first.accusative
    if not isinstance(thing, NounPhrase) or not is_agent(subject) or not can_refer(thing):
        return None
    fitting = [
        verb
        for verb in plain_verbs()
        if any(c in thing.noun.classes for c in verb.accusative)
        and "person" in verb.subjects
        and not verb.dative
        and verb.english not in (first.verb.english, "have")
    ]
    if not fitting or (thing.determiner in ("", "every") and not thing.plural):
        return None
    clause = fill(dice, dice.pick(fitting), subject)
    clause = clause._replace(place=None, manner=None)
    return clause._replace(accusative=pronoun_for(thing), tense=first.tense)


def subordination(dice: Dice) -> Clause:
    """Draw a main clause with an adverbial clause before or behind it."""
    conjunction, tense, other = dice.pick(CONJUNCTIONS)
    main = plain_clause(dice, tense)._replace(time=None)
    if conjunction in (BECAUSE, ALTHOUGH) and dice.chance(50):
        tense = dice.pick(("present", "past"))
        main = plain_clause(dice, tense)._replace(time=None)
        clause = _reason(dice, main)
    else:
        clause = plain_clause(dice, other, negated=conjunction in (BECAUSE,) and dice.chance(30))
        if can_refer(main.subject) and is_agent(main.subject) and "person" in clause.verb.subjects:
            clause = clause._replace(subject=pronoun_for(main.subject))
        clause = clause._replace(frequency=None)
    return main._replace(adjunct=Subordinate(conjunction, clause, dice.chance(35)))


def _reason(dice: Dice, main: Clause) -> Clause:
    """Draw "it is ..." of the object, or "she is ..." of the subject."""
    about = main.subject
    if isinstance(main.accusative, NounPhrase) and "person" not in main.accusative.noun.classes:
        about = main.accusative
    fitting = adjectives_of(about.noun.classes if isinstance(about, NounPhrase) else ("person",))
    if not can_refer(about) or not fitting:
        return plain_clause(dice, main.tense)
    return Clause(pronoun_for(about), BE, main.tense, predicate=dice.pick(fitting))


def reported(dice: Dice) -> Clause:
    """Draw a verb of saying or knowing with a that-clause or an indirect question."""
    kind = dice.pick(("that", "that", "whether"))
    verb = dice.pick(clause_verbs(kind))
    tense = dice.pick(("present", "past"))
    clause = plain_clause(dice, dice.pick((tense, "future") if tense == "present" else ("past",)))
    conjunction = THAT if kind == "that" else WHETHER
    if kind == "whether" and dice.chance(60):
        clause, conjunction = _interrogative(dice, clause), INDIRECT
    negated = verb.english == "know" and kind == "whether"
    subject = subject_phrase(dice, ("person",), definite=negated)
    main = Clause(subject, verb, tense, negated=negated)
    return main._replace(complement=Subordinate(conjunction, clause))


def infinitive(dice: Dice) -> Clause:
    """Draw a verb with an infinitive, or a movement with its purpose."""
    tense = dice.pick(("present", "past"))
    subject = subject_phrase(dice, ("person",))
    if dice.chance(60):
        main = set_tense(dice, Clause(subject, dice.pick(clause_verbs("to"))), tense)
        main, purpose = main._replace(time=None), False
        pool = [v for v in plain_verbs() if v.english not in (*STATES, "lose", "miss")]
    else:
        movement = [v for v in plain_verbs() if v.goals and "person" in v.subjects]
        main, purpose = fill(dice, dice.pick(movement), subject)._replace(tense=tense), True
        pool = [v for v in plain_verbs() if v.english in PURPOSES]
    verb = dice.pick([v for v in pool if "person" in v.subjects])
    clause = fill(dice, verb, subject)._replace(place=None)
    part = Subordinate(IN_ORDER_TO if purpose else TO, clause)
    return main._replace(adjunct=part) if purpose else main._replace(complement=part)


PATTERNS: tuple[tuple[Callable[[Dice], Sentence], int], ...] = (
    (statement, 38),
    (yes_no_question, 10),
    (wh_question, 12),
    (description, 12),
    (existence, 4),
    (compound, 6),
    (subordination, 8),
    (reported, 5),
    (infinitive, 5),
)
_WHEEL = tuple(pattern for pattern, percent in PATTERNS for _ in range(percent))


def sentence(dice: Dice) -> Sentence:
    """Draw one sentence."""
    return dice.pick(_WHEEL)(dice)
