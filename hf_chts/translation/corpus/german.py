"""German clauses, built by the fields of traditional grammar.

A main clause is *front field, finite verb, middle field, verb rest, end field*; in a subordinate
clause the finite verb joins the rest at the end, and in an infinitive "zu" takes its place.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from .entries import Adjective, Adverb, Modal, Verb
from .german_nouns import case_form
from .lexicon import german_stem
from .tree import (
    Clause,
    Comparison,
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

# Tenses of the auxiliaries, and the few verbs whose past is the Präteritum.
PRETERITE = {
    "sein": "war",
    "haben": "hatte",
    "wissen": "wusste",
    "mögen": "mochte",
    "kennen": "kannte",
}
BE_PRESENT = {"1s": "bin", "2s": "bist", "3s": "ist", "p": "sind"}
MIDDLE_FIELD = (
    *("time", "frequency", "dative", "accusative", "negation"),
    *("manner", "place", "governed", "predicate"),
)


CONTRACTIONS = {
    "in dem": "im",
    "an dem": "am",
    "zu dem": "zum",
    "zu der": "zur",
    "von dem": "vom",
    "in das": "ins",
    "an das": "ans",
}


class Text(NamedTuple):
    """Words of a constituent, and the relative clause that may move behind the verb."""

    core: str
    tail: str = ""

    def __str__(self) -> str:
        return f"{self.core} {self.tail}".strip()


class VerbGroup(NamedTuple):
    """The finite verb, its separated prefix, and the rest that closes the clause."""

    finite: str
    prefix: str
    rest: str


def _nominal(nominal: Nominal, case: str) -> Text:
    core = case_form(nominal, case)
    if isinstance(nominal, NounPhrase) and nominal.relative:
        return Text(core, f", {subordinate_text(nominal.relative)} ,")
    return Text(core)


def _prepositional(phrase: Prepositional) -> Text:
    """Join preposition and nominal, contracting the article unless a relative clause follows."""
    text, nominal = _nominal(phrase.nominal, phrase.case), phrase.nominal
    core = f"{phrase.german} {text.core}"
    the = isinstance(nominal, NounPhrase) and (
        nominal.determiner == "the" or isinstance(nominal.possessor, NounPhrase)
    )
    if the and not text.tail:
        article = " ".join(core.split(" ", 2)[:2])
        core = CONTRACTIONS.get(article, article) + core[len(article) :]
    return Text(core, text.tail)


def _person(clause: Clause) -> str:
    subject = clause.subject
    if is_plural(subject):
        return "p"
    word = subject.word if isinstance(subject, Pronoun) else ""
    return {"I": "1s", "you": "2s"}.get(word, "3s")


def _past_form(third: str, person: str) -> str:
    """Inflect a Präteritum (war, konnte) or möchte from its third person."""
    if third.endswith("e"):
        return third + {"2s": "st", "p": "n"}.get(person, "")
    return third + {"2s": "st", "p": "en"}.get(person, "")


def _present_form(infinitive: str, third: str, person: str) -> str:
    if infinitive == "sein":
        return BE_PRESENT[person]
    if person == "p":
        return infinitive
    if person == "3s":
        return third
    stem = german_stem(infinitive)
    if not third.endswith("t"):  # kann, mag, weiß: first and third person are the same
        return third if person == "1s" else third + ("t" if third.endswith(("s", "ß")) else "st")
    if person == "1s":
        return (stem[:-2] + "l" if stem.endswith("el") else stem) + "e"
    if infinitive == "haben":
        return "hast"
    if stem.endswith("t") and not third.endswith("et"):  # hält: hältst
        return third + "st"
    return third if third[-2] in "sßzx" else third[:-1] + "st"


def _modal_form(modal: Modal, tense: str, person: str) -> str:
    form = modal.german_past if tense == "past" else modal.singular
    if form.endswith("te"):
        return _past_form(form, person)
    return _present_form(modal.infinitive, form, person)


def _preterite(verb: Verb) -> str:
    if verb.infinitive == "geben" and not verb.accusative:  # es gab
        return "gab"
    return "" if verb.prefix else PRETERITE.get(verb.infinitive, "")


def verb_group(clause: Clause) -> VerbGroup:
    """Distribute the verb over the brackets; the English past becomes a Perfekt."""
    verb, person, tense = clause.verb, _person(clause), clause.tense
    infinitive = verb.prefix + verb.infinitive
    if clause.modal:
        return VerbGroup(_modal_form(clause.modal, tense, person), "", infinitive)
    if tense == "future":
        werden = {"1s": "werde", "2s": "wirst", "3s": "wird", "p": "werden"}
        return VerbGroup(werden[person], "", infinitive)
    if tense == "past" and (form := _preterite(verb)):
        return VerbGroup(_past_form(form, person), "", "")
    if tense in ("past", "perfect"):
        third = {"haben": "hat", "sein": "ist"}[verb.auxiliary]
        return VerbGroup(_present_form(verb.auxiliary, third, person), "", verb.german_participle)
    return VerbGroup(_present_form(verb.infinitive, verb.third, person), verb.prefix, "")


def _indefinite(slot: object) -> bool:
    return isinstance(slot, NounPhrase) and slot.determiner in ("", "a") and not slot.possessor


def _predicate(predicate: Predicate) -> Text:
    if isinstance(predicate, Adjective):
        return Text(predicate.german)
    if isinstance(predicate, Adverb):
        return Text(predicate.german)
    if isinstance(predicate, Comparison):
        standard = _nominal(predicate.standard, "nominative")
        if predicate.equal:
            return Text(f"so {predicate.adjective.german} wie {standard.core}")
        return Text(f"{predicate.adjective.german_comparative} als {standard.core}")
    return _nominal(predicate, "nominative")


def _slot(clause: Clause, slot: str) -> Text:
    """Render one slot of a clause; an empty slot is an empty text."""
    value = getattr(clause, slot)
    if value is None:
        return Text("")
    if isinstance(value, Adverb):
        return Text(value.german)
    if isinstance(value, Prepositional):
        return _prepositional(value)
    if slot == "predicate":
        return _predicate(value)
    return _nominal(value, "nominative" if slot == "subject" else slot)


def _negate(clause: Clause) -> tuple[Clause, str]:
    """Choose between kein, at an indefinite object or predicate noun, and nicht."""
    yet = clause.tense == "perfect"
    for slot in ("accusative", "predicate"):
        value = getattr(clause, slot)
        if _indefinite(value):
            no: dict[str, Any] = {slot: value._replace(determiner="no yet" if yet else "no")}
            return clause._replace(**no), ""
    return clause, "noch nicht" if yet else "nicht"


def _middle_order(clause: Clause) -> list[str]:
    """Order the slots: definite objects stand before, indefinite ones behind the adverbials."""
    order = [slot for slot in MIDDLE_FIELD if slot != clause.front]
    if "accusative" in order and _indefinite(clause.accusative):
        order.remove("accusative")
        order.insert(order.index("governed" if "governed" in order else "predicate"), "accusative")
    pronouns = [s for s in ("accusative", "dative") if isinstance(getattr(clause, s), Pronoun)]
    pronouns = [slot for slot in pronouns if slot in order]
    return pronouns + [slot for slot in order if slot not in pronouns]


def _reflexive(clause: Clause) -> str:
    if not clause.verb.reflexive:
        return ""
    word = clause.subject.word if isinstance(clause.subject, Pronoun) else ""
    return {"I": "mich", "you": "dich", "we": "uns"}.get(word, "sich")


def _middle_field(clause: Clause, with_subject: bool) -> tuple[str, str]:
    """Return the middle field, and the relative clause moved out of its end."""
    negation, order = "", _middle_order(clause)
    if clause.negated:
        clause, negation = _negate(clause)
    reflexive, texts = Text(_reflexive(clause)), []
    if with_subject:
        subject = _slot(clause, "subject")
        # A reflexive stands before a full subject and behind a pronoun, relative ones included.
        pronoun = isinstance(clause.subject, Pronoun | Gap) or is_interrogative(clause.subject)
        texts += [subject, reflexive] if pronoun else [reflexive, subject]
    else:
        texts.append(reflexive)
    for slot in order:
        texts.append(Text(negation) if slot == "negation" else _slot(clause, slot))
    texts = [text for text in texts if text.core]
    if not texts:
        return "", ""
    *inner, last = texts
    return " ".join([*map(str, inner), last.core]), last.tail


def _end_field(clause: Clause) -> str:
    parts = (clause.complement, clause.adjunct)
    return " ".join(f", {_dependent(part)} ," for part in parts if part and not part.fronted)


def _dependent(part: Subordinate) -> str:
    conjunction, clause = part.conjunction.german, part.clause
    if conjunction in ("zu", "um"):
        return f"{'um ' if conjunction == 'um' else ''}{_infinitive_text(clause)}"
    return f"{conjunction} {subordinate_text(clause)}"


def _infinitive_text(clause: Clause) -> str:
    middle, tail = _middle_field(clause, with_subject=False)
    verb = clause.verb
    zu = f"{verb.prefix}zu{verb.infinitive}" if verb.prefix else f"zu {verb.infinitive}"
    return f"{middle} {zu} {tail} {_end_field(clause)}"


def subordinate_text(clause: Clause) -> str:
    """Render a clause with its verb at the end: a relative or an indirect question opens itself."""
    group = verb_group(clause)
    opens = clause.front != "subject"
    front = _slot(clause, clause.front) if opens else Text("")
    middle, tail = _middle_field(clause, with_subject=True)
    verb = f"{group.rest} {group.prefix}{group.finite}"
    return f"{front} {middle} {verb} {tail} {_end_field(clause)}"


def main_text(clause: Clause) -> str:
    """Render a main clause or question: the finite verb is second, in yes/no questions first."""
    group = verb_group(clause)
    adjunct = clause.adjunct
    middle, tail = _middle_field(
        clause, with_subject=clause.front != "subject" or _verb_first(clause)
    )
    if adjunct and adjunct.fronted:
        middle, tail = _middle_field(clause, with_subject=True)
        front = f"{_dependent(adjunct)} ,"
    elif _verb_first(clause):
        front = ""
    else:
        front = str(_slot(clause, clause.front))
    return (
        f"{front} {group.finite} {middle} {group.prefix} {group.rest} {tail} {_end_field(clause)}"
    )


def _verb_first(clause: Clause) -> bool:
    return clause.question and not is_interrogative(getattr(clause, clause.front))
