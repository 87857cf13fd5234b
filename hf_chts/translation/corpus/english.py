"""English clauses: do-support, agreement, and the order subject, verb, object, adverbials."""

from __future__ import annotations

from typing import NamedTuple

from .entries import Adjective, Adverb, Modal, Name, Verb
from .lexicon import add_s
from .numerals import english_number
from .tree import (
    Clause,
    Comparison,
    Coordination,
    Gap,
    Nominal,
    NounPhrase,
    Predicate,
    Prepositional,
    Pronoun,
    Subordinate,
    is_interrogative,
    is_plural,
)

OBJECT_FORM = {"I": "me", "he": "him", "she": "her", "we": "us", "they": "them"}
# Spelt with a vowel but spoken with a consonant.
CONSONANT_SOUND = ("uni", "use", "euro")


class VerbGroup(NamedTuple):
    """The auxiliary, which questions and negation need, and the other verb forms."""

    auxiliary: str
    rest: str


def _article(following: str) -> str:
    vowel = following[0] in "aeiou" and not following.startswith(CONSONANT_SOUND)
    return "an" if vowel else "a"


def _noun_phrase(phrase: NounPhrase) -> str:
    noun = phrase.noun.english_plural if phrase.plural else phrase.noun.english
    words = [phrase.adjective.english, noun] if phrase.adjective else [noun]
    if phrase.numeral:
        words.insert(0, english_number(phrase.numeral))
    determiner = phrase.determiner
    if phrase.possessor:
        owner = nominal_text(phrase.possessor)
        determiner = owner + ("'" if is_plural(phrase.possessor) and owner[-1] == "s" else "'s")
    elif determiner == "a":
        determiner = _article(words[0])
    elif determiner == "this" and phrase.plural:
        determiner = "these"
    text = " ".join(filter(None, [determiner, *words]))
    return f"{text} {clause_text(phrase.relative)}" if phrase.relative else text


def nominal_text(nominal: Nominal, is_object: bool = False) -> str:
    """Render a nominal as a subject or an object."""
    if isinstance(nominal, Pronoun):
        return OBJECT_FORM.get(nominal.word, nominal.word) if is_object else nominal.word
    if isinstance(nominal, Gap):
        if "person" not in nominal.noun.classes:
            return "that"
        return "whom" if is_object else "who"
    if isinstance(nominal, Name):
        return nominal.english
    if isinstance(nominal, Coordination):
        return f"{nominal_text(nominal.first)} and {nominal_text(nominal.second)}"
    return _noun_phrase(nominal)


def _prepositional(phrase: Prepositional) -> str:
    if isinstance(phrase.nominal, Gap):
        human = "person" in phrase.nominal.noun.classes
        return f"{phrase.english} {'whom' if human else 'which'}"
    nominal = nominal_text(phrase.nominal, is_object=True)
    if is_interrogative(phrase) and nominal == "who":
        nominal = "whom"
    return nominal if phrase.english == "-" else f"{phrase.english} {nominal}"


def _predicate(predicate: Predicate) -> str:
    if isinstance(predicate, Adjective | Adverb):
        return predicate.english
    if isinstance(predicate, Comparison):
        standard, adjective = nominal_text(predicate.standard), predicate.adjective
        if predicate.equal:
            return f"as {adjective.english} as {standard}"
        return f"{adjective.comparative} than {standard}"
    return nominal_text(predicate)


def _slot(clause: Clause, slot: str) -> str:
    value = getattr(clause, slot)
    if value is None:
        return ""
    if isinstance(value, Adverb):
        return value.english
    if isinstance(value, Prepositional):
        return _prepositional(value)
    if slot == "predicate":
        return _predicate(value)
    return nominal_text(value, is_object=slot != "subject")


def _finite(verb: Verb, clause: Clause) -> str:
    """Inflect a verb for the tense and subject of a clause."""
    subject = clause.subject
    if isinstance(subject, Pronoun) and subject.word == "there" and clause.accusative:
        subject = clause.accusative
    word = subject.word if isinstance(subject, Pronoun) else ""
    plural = is_plural(subject) or word == "you"
    if verb.english == "be":
        if clause.tense == "past":
            return "were" if plural else "was"
        return "are" if plural else "am" if word == "I" else "is"
    if clause.tense == "past":
        return verb.past
    if plural or word == "I":
        return verb.english
    return "has" if verb.english == "have" else add_s(verb.english)


_DO = Verb("do", "did", "done", "", False, "", "", "", "", "", False)
_HAVE = _DO._replace(english="have", past="had")


def _modal_group(modal: Modal, clause: Clause, support: bool) -> VerbGroup:
    base = clause.verb.english
    if modal.english in ("have", "want"):
        full = _DO._replace(english=modal.english, past=modal.past)
        if support:
            return VerbGroup(_finite(_DO, clause), f"{full.english} to {base}")
        return VerbGroup("", f"{_finite(full, clause)} to {base}")
    auxiliary = modal.past if clause.tense == "past" else modal.english
    return VerbGroup(auxiliary, f"{modal.link} {base}".strip())


def verb_group(clause: Clause, support: bool) -> VerbGroup:
    """Split the verb forms of a clause; ``support`` asks for an auxiliary, if need be "do"."""
    verb = clause.verb
    if clause.modal:
        return _modal_group(clause.modal, clause, support)
    if clause.tense == "future":
        return VerbGroup("will", verb.english)
    if clause.tense == "perfect":
        present = clause._replace(tense="present")
        return VerbGroup(_finite(_HAVE, present), verb.participle)
    if verb.english == "be":
        return VerbGroup(_finite(verb, clause), "")
    if support:
        return VerbGroup(_finite(_DO, clause), verb.english)
    return VerbGroup("", _finite(verb, clause))


def _objects(clause: Clause) -> str:
    """Render particle and objects: "puts on the coat", but "puts it on"."""
    particle = clause.verb.particle
    slots = [s for s in ("dative", "accusative") if s != clause.front]
    objects = " ".join(filter(None, (_slot(clause, slot) for slot in slots)))
    pronoun = any(isinstance(getattr(clause, slot), Pronoun) for slot in slots)
    order = [objects, particle] if pronoun and not clause.verb.stranded else [particle, objects]
    return " ".join(filter(None, order))


def _rest(clause: Clause) -> str:
    """Render what follows the verb: objects, manner, place and time, then dependent clauses."""
    slots = [s for s in ("governed", "predicate", "manner", "place", "time") if s != clause.front]
    words = [_objects(clause), *(_slot(clause, slot) for slot in slots)]
    if clause.negated and clause.tense == "perfect":
        words.append("yet")
    for part in (clause.complement, clause.adjunct):
        if part and not part.fronted:
            words.append(_dependent(part))
    return " ".join(filter(None, words))


def _dependent(part: Subordinate) -> str:
    if part.conjunction.german in ("zu", "um"):
        negation = "not " if part.clause.negated else ""
        verb = part.clause.verb.english
        return f"{part.conjunction.english} {negation}to {verb} {_rest(part.clause)}".strip()
    return f"{part.conjunction.english} {clause_text(part.clause)}".strip()


def clause_text(clause: Clause) -> str:
    """Render a clause; in a question the auxiliary precedes the subject, unless that is "who"."""
    inverted = clause.question and not is_interrogative(clause.subject)
    auxiliary, rest = verb_group(clause, support=inverted or clause.negated)
    negation = "not" if clause.negated else ""
    front = _slot(clause, clause.front) if clause.front != "subject" else ""
    subject = _slot(clause, "subject")
    frequency = _slot(clause, "frequency") if clause.front != "frequency" else ""
    opening = [auxiliary, subject] if inverted else [subject, auxiliary]
    words = [front, *opening, negation, frequency, rest, _rest(clause)]
    if clause.adjunct and clause.adjunct.fronted:
        words.insert(0, f"{_dependent(clause.adjunct)} ,")
    return " ".join(filter(None, words)).replace("can not ", "cannot ")
