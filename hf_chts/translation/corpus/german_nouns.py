"""German noun phrases: gender, number and case, and the agreement of everything in them."""

from __future__ import annotations

import re

from .entries import Adjective, Name, Noun
from .numerals import german_number
from .tree import Coordination, Gap, Nominal, NounPhrase, Pronoun

CASES = ("nominative", "accusative", "dative", "genitive")
# One row a case; one column each for masculine, feminine, neuter and plural.
ARTICLE = {
    "nominative": {"m": "der", "f": "die", "n": "das", "p": "die"},
    "accusative": {"m": "den", "f": "die", "n": "das", "p": "die"},
    "dative": {"m": "dem", "f": "der", "n": "dem", "p": "den"},
    "genitive": {"m": "des", "f": "der", "n": "des", "p": "der"},
}
STRONG = {
    "nominative": {"m": "er", "f": "e", "n": "es", "p": "e"},
    "accusative": {"m": "en", "f": "e", "n": "es", "p": "e"},
    "dative": {"m": "em", "f": "er", "n": "em", "p": "en"},
    "genitive": {"m": "es", "f": "er", "n": "es", "p": "er"},
}
PRONOUN = {
    "I": ("ich", "mich", "mir"),
    "you": ("du", "dich", "dir"),
    "he": ("er", "ihn", "ihm"),
    "she": ("sie", "sie", "ihr"),
    "we": ("wir", "uns", "uns"),
    "they": ("sie", "sie", "ihnen"),
    "who": ("wer", "wen", "wem"),
    "what": ("was", "was", "was"),
    "there": ("es", "es", "es"),
    "it-m": ("er", "ihn", "ihm"),
    "it-f": ("sie", "sie", "ihr"),
    "it-n": ("es", "es", "ihm"),
}
EIN_WORDS = {
    "a": "ein",
    "no": "kein",
    "no yet": "noch kein",
    "my": "mein",
    "your": "dein",
    "his": "sein",
    "her": "ihr",
    "our": "unser",
    "their": "ihr",
}
DER_WORDS = {
    "this": "dies",
    "every": "jed",
    "which": "welch",
    "all the": "all",
    "some": "einig",
    "many": "viel",
}
# An adjective keeps its strong ending after these: they are adjectives themselves.
QUANTIFIERS = ("some", "many")


def _genitive(noun: Noun) -> str:
    """Return the genitive of a strong noun: -es after a hissing sound or one syllable, else -s."""
    word = noun.german
    if word.endswith("s") and noun.german_plural.startswith(word + "s"):
        return word + "ses"  # des Busses
    if word.endswith(("s", "ß", "z", "x", "sch", "st")):
        return word + "es"
    if noun.german_plural == word + "s" or word[-1] in "aeiouäöüyhr":  # des Chefs, des Schuhs
        return word + "s"
    syllables = len(re.findall("[aeiouäöüy]+", word.lower()))
    return word + ("es" if syllables == 1 else "s")


def decline(noun: Noun, case: str, plural: bool) -> str:
    """Return the noun in a case and number."""
    if plural:
        takes_n = case == "dative" and not noun.german_plural.endswith(("n", "s"))
        return noun.german_plural + ("n" if takes_n else "")
    if noun.weak and case != "nominative":
        return noun.german_plural
    if case == "genitive" and noun.gender != "f":
        return _genitive(noun)
    return noun.german


def _determiner(word: str, case: str, key: str) -> tuple[str, bool]:
    """Return a determiner, and whether it carries the case ending itself."""
    if word == "the":
        return ARTICLE[case][key], True
    if word in DER_WORDS:
        return DER_WORDS[word] + STRONG[case][key], word not in QUANTIFIERS
    if word in EIN_WORDS:
        bare = (case == "nominative" and key in "mn") or (case == "accusative" and key == "n")
        return EIN_WORDS[word] + ("" if bare else STRONG[case][key]), not bare
    return {"": "", "how many": "wie viele"}[word], False


def _adjective(adjective: Adjective, case: str, key: str, marked: bool) -> str:
    """Inflect an adjective: one strong ending a phrase, so weak if the determiner has it."""
    if not marked:
        strong = STRONG[case][key]
        return adjective.stem + ("en" if strong == "es" and case == "genitive" else strong)
    direct = case == "nominative" or (case == "accusative" and key != "m")
    return adjective.stem + ("e" if direct and key != "p" else "en")


def _noun_phrase(phrase: NounPhrase, case: str) -> str:
    key = "p" if phrase.plural else phrase.noun.gender
    owner, word = phrase.possessor, phrase.determiner
    if isinstance(owner, Name):
        determiner, marked = f"{owner.german}s", False
    else:
        determiner, marked = _determiner("the" if owner else word, case, key)
    words = [determiner]
    if phrase.numeral:
        words.append(german_number(phrase.numeral))
    if phrase.adjective:
        words.append(_adjective(phrase.adjective, case, key, marked))
    words.append(decline(phrase.noun, case, phrase.plural))
    if isinstance(owner, NounPhrase):
        words.append(_noun_phrase(owner, "genitive"))
    return " ".join(filter(None, words))


def case_form(nominal: Nominal, case: str) -> str:
    """Put a nominal into a case, without its relative clause."""
    if isinstance(nominal, Pronoun):
        word = f"it-{nominal.gender}" if nominal.word == "it" else nominal.word
        return PRONOUN[word][CASES.index(case)]
    if isinstance(nominal, Gap):
        key = "p" if nominal.plural else nominal.noun.gender
        return "denen" if (key, case) == ("p", "dative") else ARTICLE[case][key]
    if isinstance(nominal, Name):
        return nominal.german
    if isinstance(nominal, Coordination):
        return f"{case_form(nominal.first, case)} und {case_form(nominal.second, case)}"
    return _noun_phrase(nominal, case)
