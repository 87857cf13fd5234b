from __future__ import annotations

import collections
import re

import pytest
import sacrebleu

from hf_chts.translation.corpus import N_MAX, sentence_pairs, splits
from hf_chts.translation.corpus.lexicon import adjectives, adverbs, names, nouns, verbs
from hf_chts.translation.corpus.numerals import clock, english_number, german_number

FIRST_OF_SEED_0 = [
    (
        "Yesterday evening tired dogs barked quietly.",
        "Gestern Abend haben müde Hunde leise gebellt.",
    ),
    (
        "The cook picked up the women in the harbour while he talked to the friend quietly in "
        "the kitchen.",
        "Der Koch hat die Frauen im Hafen abgeholt, während er leise in der Küche mit dem Freund "
        "gesprochen hat.",
    ),
    ("The eagles are bigger than the mouse.", "Die Adler sind größer als die Maus."),
]


@pytest.fixture(scope="module")
def corpus():
    return splits()


def word_types(sentences):
    return {word for sentence in sentences for word in re.findall(r"[\w-]+", sentence.lower())}


def test_default_corpus_is_large_and_its_splits_share_no_sentence(corpus):
    assert [len(corpus[name]) for name in ("train", "validation", "test")] == [30_000, 1_000, 1_000]
    for side in (0, 1):
        everything = [pair[side] for part in corpus.values() for pair in part]
        assert len(set(everything)) == 32_000
        assert len(word_types(pair[side] for pair in corpus["train"])) >= 600


def test_no_source_has_two_translations_across_seeds(corpus):
    known = {pair.source: pair.target for part in corpus.values() for pair in part}
    again = [pair for pair in sentence_pairs(8_000, seed=1) if pair.source in known]
    assert len(again) > 50
    assert [pair for pair in again if known[pair.source] != pair.target] == []


def test_sentences_have_varied_length_and_clean_punctuation(corpus):
    pairs = corpus["train"]
    lengths = [len(pair.target.split()) for pair in pairs]
    assert min(lengths) == 4
    assert max(lengths) == 22
    assert 7.5 < sum(lengths) / len(lengths) < 12
    for text in (text for pair in pairs for text in pair):
        assert re.fullmatch(r"[A-ZÄÖÜ][^.?]*[^ ,][.?]", text), text
        assert not re.search(r" [,.?]|,,|  |,\S|\bnone\b", text), text
    for pair in pairs:
        assert pair.source[-1] == pair.target[-1]
        assert not re.search(
            r"\b[Aa] (?!uni)[aeiou]|\b[Aa]n (?:uni|(?!hour)[^aeiou])", pair.source
        ), pair


def test_same_seed_same_corpus_and_a_short_one_begins_a_long_one():
    assert sentence_pairs(300, seed=5) == sentence_pairs(500, seed=5)[:300]
    assert sentence_pairs(300, seed=5) != sentence_pairs(300, seed=6)
    small = splits(200, 50, 40, seed=5)
    assert small["test"] == splits(300, 20, 40, seed=5)["test"]


def test_first_pairs_of_seed_0_never_change():
    """The corpus is reported with results: any change of it must be seen."""
    assert [tuple(pair) for pair in sentence_pairs(3)] == FIRST_OF_SEED_0


def test_held_out_sentences_use_words_of_the_training_split(corpus):
    for side in (0, 1):
        known = word_types(pair[side] for pair in corpus["train"])
        test = [w for p in corpus["test"] for w in re.findall(r"[\w-]+", p[side].lower())]
        assert sum(word not in known for word in test) < 0.01 * len(test)


def test_a_guesser_scores_near_zero(corpus):
    references = [pair.target for pair in corpus["test"]]
    openings = collections.Counter(tuple(p.target.split()[:4]) for p in corpus["train"])
    frequent = " ".join(openings.most_common(1)[0][0])
    common = next(p.target for p in corpus["train"] if p.target.startswith(frequent))
    for guesses in ([common] * 1_000, references[1:] + references[:1]):
        assert sacrebleu.corpus_bleu(guesses, [references]).score < 5


@pytest.mark.parametrize("n", [0, -1, N_MAX + 1])
def test_a_size_out_of_range_is_refused(n):
    with pytest.raises(ValueError, match=r"n must be in \[1, 100000\]"):
        sentence_pairs(n)


def test_a_negative_seed_is_refused():
    with pytest.raises(ValueError, match="seed must not be negative, got -1"):
        sentence_pairs(1, seed=-1)


def test_empty_splits_are_refused():
    with pytest.raises(ValueError, match="every split needs at least 1 pair"):
        splits(10, 0, 10)
    with pytest.raises(ValueError, match="n must be in"):
        splits(N_MAX, 1, 1)


def test_the_dictionary_is_one_to_one():
    """No two nouns, adjectives or verbs of the same frame share a form in either language."""
    for entries in (nouns(), adjectives()):
        for side in ("english", "german"):
            assert len({getattr(entry, side) for entry in entries}) == len(entries)
    countable = [noun for noun in nouns() if noun.english_plural]
    assert all(noun.english_plural != noun.english for noun in countable)
    plain = [verb for verb in verbs() if not verb.clauses]
    assert len({(verb.english, verb.particle) for verb in plain}) == len(plain)


def test_every_class_in_the_dictionary_exists_and_places_have_prepositions():
    sites = (*nouns(), *names())
    known = {c for entry in sites for c in entry.classes} | {"it"}
    for verb in verbs():
        governed = verb.governed.classes if verb.governed else ()
        used = (*verb.subjects, *verb.accusative, *verb.dative, *governed, *verb.goals)
        assert known >= {*used, *verb.places}, verb.english
        for site in sites:
            if set(site.classes) & {*verb.places, *verb.goals}:
                assert site.where, (verb.english, site.english)
        assert {c for a in adverbs() for c in a.classes} >= set(verb.manners), verb.english
    for adjective in adjectives():
        assert known >= set(adjective.classes), adjective.english


@pytest.mark.parametrize(
    ("n", "english", "german"),
    [
        (1, "one", "eins"),
        (7, "seven", "sieben"),
        (16, "sixteen", "sechzehn"),
        (20, "twenty", "zwanzig"),
        (21, "twenty-one", "einundzwanzig"),
        (37, "thirty-seven", "siebenunddreißig"),
        (99, "ninety-nine", "neunundneunzig"),
    ],
)
def test_number_words(n, english, german):
    assert (english_number(n), german_number(n)) == (english, german)


@pytest.mark.parametrize(
    ("hour", "minute", "english", "german"),
    [
        (1, 0, "at one o'clock", "um ein Uhr"),
        (2, 30, "at half past two", "um halb drei"),
        (12, 30, "at half past twelve", "um halb eins"),
        (1, 15, "at a quarter past one", "um Viertel nach eins"),
        (5, 45, "at a quarter to six", "um Viertel vor sechs"),
        (12, 50, "at ten to one", "um zehn vor eins"),
        (8, 20, "at twenty past eight", "um zwanzig nach acht"),
    ],
)
def test_clock_times(hour, minute, english, german):
    assert clock(hour, minute)[:2] == (english, german)
