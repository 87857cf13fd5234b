"""Number words and clock times in both languages."""

from __future__ import annotations

from .entries import Adverb

_WORDS = (
    "zero null, one eins, two zwei, three drei, four vier, five fünf, six sechs, seven sieben, "
    "eight acht, nine neun, ten zehn, eleven elf, twelve zwölf, thirteen dreizehn, "
    "fourteen vierzehn, fifteen fünfzehn, sixteen sechzehn, seventeen siebzehn, "
    "eighteen achtzehn, nineteen neunzehn, twenty zwanzig, thirty dreißig, forty vierzig, "
    "fifty fünfzig, sixty sechzig, seventy siebzig, eighty achtzig, ninety neunzig"
)
_PAIRS = [pair.split() for pair in _WORDS.split(", ")]
_ENGLISH, _GERMAN = [english for english, _ in _PAIRS], [german for _, german in _PAIRS]


def english_number(n: int) -> str:
    """Return the English word for ``n`` in [0, 99]."""
    if n < 20:
        return _ENGLISH[n]
    tens, units = divmod(n, 10)
    return _ENGLISH[tens + 18] + (f"-{_ENGLISH[units]}" if units else "")


def german_number(n: int) -> str:
    """Return the German word for ``n`` in [0, 99]; units come before tens."""
    if n < 20:
        return _GERMAN[n]
    tens, units = divmod(n, 10)
    head = {0: "", 1: "einund"}.get(units, f"{_GERMAN[units]}und")
    return head + _GERMAN[tens + 18]


def clock(hour: int, minute: int) -> Adverb:
    """Return a time of day in words; German counts the half to the coming hour.

    Args:
        hour: In [1, 12].
        minute: One of 0, 5, 10, 15, 20, 30, 40, 45, 50 and 55.
    """
    coming = hour % 12 + 1
    this, then = english_number(hour), english_number(coming)
    diese, dann = german_number(hour), german_number(coming)
    if minute == 0:
        return Adverb(f"at {this} o'clock", f"um {'ein' if hour == 1 else diese} Uhr")
    if minute == 30:
        return Adverb(f"at half past {this}", f"um halb {dann}")
    past = minute < 30
    distance = minute if past else 60 - minute
    english = "a quarter" if distance == 15 else english_number(distance)
    german = "Viertel" if distance == 15 else german_number(distance)
    return Adverb(
        f"at {english} {'past' if past else 'to'} {this if past else then}",
        f"um {german} {'nach' if past else 'vor'} {diese if past else dann}",
    )


def digital_clock(hour: int, minute: int) -> Adverb:
    """Return the time phrase in digits."""
    time = f"{hour}:{minute:02d}"
    return Adverb(f"at {time}", f"um {time} Uhr")
