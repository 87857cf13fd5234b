"""Hand-worked sentences: the abstract tree, and what each language makes of it."""

from __future__ import annotations

import pytest

from hf_chts.translation.corpus import render
from hf_chts.translation.corpus.entries import Adverb
from hf_chts.translation.corpus.german_nouns import decline
from hf_chts.translation.corpus.lexicon import (
    BE,
    EXIST,
    MODALS,
    adjectives,
    adverbs,
    names,
    nouns,
    verbs,
)
from hf_chts.translation.corpus.tree import (
    Clause,
    Comparison,
    Compound,
    Coordination,
    Gap,
    NounPhrase,
    Prepositional,
    Pronoun,
    Subordinate,
)

NOUNS = {noun.english: noun for noun in nouns()}
ADJECTIVES = {adjective.english: adjective for adjective in adjectives()}
ADVERBS = {adverb.english: adverb for adverb in adverbs()}
NAMES = {name.english: name for name in names()}
VERBS = {f"{v.english} {v.particle}".strip(): v for v in verbs() if not v.clauses}
CLAUSE_VERBS = {verb.english: verb for verb in verbs() if verb.clauses}
MODAL = {modal.link or modal.english: modal for modal in MODALS[:3]} | {
    "have to": MODALS[3],
    "want to": MODALS[4],
    "would like to": MODALS[5],
}
ME, YOU, HE, SHE, WE, THEY, WHO, WHAT, THERE = map(
    Pronoun, ("I", "you", "he", "she", "we", "they", "who", "what", "there")
)
ANNA, TOM = NAMES["Anna"], NAMES["Tom"]
YESTERDAY, TOMORROW, TODAY = ADVERBS["yesterday"], ADVERBS["tomorrow"], ADVERBS["today"]


def np(head, determiner="the", adjective=None, **features):
    return NounPhrase(NOUNS[head], determiner, adjective=ADJECTIVES.get(adjective), **features)


def plural(head, determiner="the", adjective=None, **features):
    return np(head, determiner, adjective, plural=True, **features)


def at(head, **features):
    noun = NOUNS[head]
    return Prepositional(noun.where.english, noun.where.german, "dative", np(head, **features))


def to(head):
    noun = NOUNS[head]
    case = "dative" if noun.where.whither == "zu" else "accusative"
    return Prepositional("to", noun.where.whither, case, np(head))


def governed(verb, nominal):
    return Prepositional(*VERBS[verb].governed[:3], nominal)


def say(subject, verb, *args, **slots):
    return Clause(subject, VERBS[verb], *args, **slots)


def be(subject, predicate, *args, **slots):
    return Clause(subject, BE, *args, predicate=predicate, **slots)


def under(english, german, clause, fronted=False):
    return Subordinate(Adverb(english, german), clause, fronted)


CASES = [
    # gender, number and case; strong, weak and mixed endings
    (say(ANNA, "buy", accusative=np("coat", "a", "new")),
     "Anna buys a new coat.", "Anna kauft einen neuen Mantel."),
    (say(np("boy", "this", "small"), "eat", accusative=np("apple", "a", "red")),
     "This small boy eats a red apple.", "Dieser kleine Junge isst einen roten Apfel."),
    (say(np("child", "a", "small"), "drink", accusative=np("milk", "", "cold")),
     "A small child drinks cold milk.", "Ein kleines Kind trinkt kalte Milch."),
    (say(np("woman", "every", "old"), "help", dative=np("neighbour", "the", "young")),
     "Every old woman helps the young neighbour.",
     "Jede alte Frau hilft dem jungen Nachbarn."),
    (say(ME, "thank", dative=plural("child", "the", "friendly")),
     "I thank the friendly children.", "Ich danke den freundlichen Kindern."),
    (say(WE, "see", accusative=plural("horse", "many", "brown")),
     "We see many brown horses.", "Wir sehen viele braune Pferde."),
    (say(WE, "see", accusative=plural("horse", "all the", "brown")),
     "We see all the brown horses.", "Wir sehen alle braunen Pferde."),
    (say(ANNA, "feed", accusative=np("bear", "the", "hungry")),
     "Anna feeds the hungry bear.", "Anna füttert den hungrigen Bären."),
    (say(TOM, "need", accusative=np("umbrella", "a")),
     "Tom needs an umbrella.", "Tom braucht einen Regenschirm."),
    (be(np("car", "our", "expensive"), ADJECTIVES["broken"]),
     "Our expensive car is broken.", "Unser teures Auto ist kaputt."),
    (be(np("mountain", "the", "high"), ADJECTIVES["dark"]),
     "The high mountain is dark.", "Der hohe Berg ist dunkel."),
    # genitive, and names as owners
    (be(np("car", "possessor", "old", possessor=np("teacher")), ADJECTIVES["slow"]),
     "The teacher's old car is slow.", "Das alte Auto des Lehrers ist langsam."),
    (say(HE, "repair", accusative=np("bicycle", "possessor", "old", possessor=ANNA)),
     "He repairs Anna's old bicycle.", "Er repariert Annas altes Fahrrad."),
    (be(np("dog", "possessor", possessor=plural("pupil")), ADJECTIVES["young"]),
     "The pupils' dog is young.", "Der Hund der Schüler ist jung."),
    (be(np("house", "possessor", possessor=np("farmer")), ADJECTIVES["big"]),
     "The farmer's house is big.", "Das Haus des Bauern ist groß."),
    # two objects, pronouns, coordination
    (say(SHE, "give", dative=np("guest"), accusative=np("key", "a")),
     "She gives the guest a key.", "Sie gibt dem Gast einen Schlüssel."),
    (say(ANNA, "show", "past", dative=HE, accusative=np("garden")),
     "Anna showed him the garden.", "Anna hat ihm den Garten gezeigt."),
    (say(Coordination(ANNA, TOM), "visit", accusative=WE, time=TODAY, front="time"),
     "Today Anna and Tom visit us.", "Heute besuchen Anna und Tom uns."),
    # tenses: present, perfect with haben and sein, past of auxiliaries and modals, future
    (say(YOU, "sleep"), "You sleep.", "Du schläfst."),
    (say(TOM, "read", "past", accusative=np("book"), time=YESTERDAY),
     "Tom read the book yesterday.", "Tom hat gestern das Buch gelesen."),
    (say(TOM, "go", "past", governed=to("cinema")),
     "Tom went to the cinema.", "Tom ist ins Kino gegangen."),
    (say(TOM, "fall asleep", "perfect", frequency=ADVERBS["already"]),
     "Tom has already fallen asleep.", "Tom ist schon eingeschlafen."),
    (be(plural("child"), ADJECTIVES["tired"], "past"),
     "The children were tired.", "Die Kinder waren müde."),
    (say(WE, "have", "past", accusative=np("dog", "a")),
     "We had a dog.", "Wir hatten einen Hund."),
    (say(YOU, "work", "past", MODAL["have to"]),
     "You had to work.", "Du musstest arbeiten."),
    (say(SHE, "travel", "future", time=TOMORROW), "She will travel tomorrow.",
     "Sie wird morgen reisen."),
    # modals
    (say(HE, "swim", "present", MODAL["can"], negated=True),
     "He cannot swim.", "Er kann nicht schwimmen."),
    (say(SHE, "buy", "present", MODAL["want to"], accusative=np("dress", "a")),
     "She wants to buy a dress.", "Sie will ein Kleid kaufen."),
    (say(YOU, "get up", "present", MODAL["may"], question=True),
     "May you get up?", "Darfst du aufstehen?"),
    (say(ME, "rest", "present", MODAL["would like to"]),
     "I would like to rest.", "Ich möchte mich ausruhen."),
    (say(TOM, "hurry", "present", MODAL["have to"], negated=True),
     "Tom does not have to hurry.", "Tom muss sich nicht beeilen."),
    # negation: nicht, kein, noch nicht, noch kein
    (say(TOM, "buy", negated=True, accusative=np("car", "a")),
     "Tom does not buy a car.", "Tom kauft kein Auto."),
    (say(TOM, "buy", negated=True, accusative=np("car")),
     "Tom does not buy the car.", "Tom kauft das Auto nicht."),
    (say(ME, "drink", "past", negated=True, accusative=np("coffee", "")),
     "I did not drink coffee.", "Ich habe keinen Kaffee getrunken."),
    (say(SHE, "arrive", "perfect", negated=True),
     "She has not arrived yet.", "Sie ist noch nicht angekommen."),
    (say(SHE, "study", "perfect", negated=True, accusative=np("physics", "")),
     "She has not studied physics yet.", "Sie hat noch keine Physik studiert."),
    (be(TOM, np("teacher", "a", "strict"), negated=True),
     "Tom is not a strict teacher.", "Tom ist kein strenger Lehrer."),
    (say(HE, "wait", negated=True, governed=governed("wait", np("bus"))),
     "He does not wait for the bus.", "Er wartet nicht auf den Bus."),
    # separable verbs: apart in main clauses, joined elsewhere
    (say(TOM, "get up", time=ADVERBS["every morning"], front="time"),
     "Every morning Tom gets up.", "Jeden Morgen steht Tom auf."),
    (say(ANNA, "put on", accusative=Pronoun("it", "m")), "Anna puts it on.", "Anna zieht ihn an."),
    (say(ANNA, "look for", accusative=Pronoun("it", "f")),
     "Anna looks for it.", "Anna sucht sie."),
    (say(WE, "take off", "past", accusative=plural("shoe")),
     "We took off the shoes.", "Wir haben die Schuhe ausgezogen."),
    # places, directions and contractions
    (say(WE, "play", accusative=np("football", ""), place=at("park")),
     "We play football in the park.", "Wir spielen im Park Fußball."),
    (say(SHE, "run", governed=to("station"), manner=ADVERBS["quickly"]),
     "She runs to the station quickly.", "Sie läuft schnell zum Bahnhof."),
    (say(HE, "go", governed=to("pharmacy")),
     "He goes to the pharmacy.", "Er geht zur Apotheke."),
    (say(ME, "live", place=at("town", adjective="beautiful")),
     "I live in the beautiful town.", "Ich wohne in der schönen Stadt."),
    # questions
    (say(YOU, "like", question=True, accusative=np("tea", "")),
     "Do you like tea?", "Magst du Tee?"),
    (be(np("water"), ADJECTIVES["cold"], question=True), "Is the water cold?",
     "Ist das Wasser kalt?"),
    (say(WHO, "help", question=True, dative=ANNA), "Who helps Anna?", "Wer hilft Anna?"),
    (say(ANNA, "meet", "past", question=True, accusative=WHO, front="accusative"),
     "Who did Anna meet?", "Wen hat Anna getroffen?"),
    (say(TOM, "copy", question=True, accusative=WHAT, front="accusative"),
     "What does Tom copy?", "Was schreibt Tom ab?"),
    (say(TOM, "read", question=True, accusative=np("novel", "which"), front="accusative"),
     "Which novel does Tom read?", "Welchen Roman liest Tom?"),
    (say(SHE, "buy", "future", question=True, accusative=plural("egg", "how many"),
         front="accusative"),
     "How many eggs will she buy?", "Wie viele Eier wird sie kaufen?"),
    (say(np("train"), "leave", question=True, time=ADVERBS["when"], front="time"),
     "When does the train leave?", "Wann fährt der Zug ab?"),
    (say(YOU, "look forward", question=True, time=ADVERBS["why"], front="time"),
     "Why do you look forward?", "Warum freust du dich?"),
    # numbers
    (say(HE, "have", accusative=plural("cow", "", numeral=21)),
     "He has twenty-one cows.", "Er hat einundzwanzig Kühe."),
    (say(plural("bird", numeral=3, adjective="small"), "sleep"),
     "The three small birds sleep.", "Die drei kleinen Vögel schlafen."),
    # there is
    (Clause(THERE, EXIST, accusative=plural("museum", "some"), place=at("town")),
     "There are some museums in the town.", "Es gibt einige Museen in der Stadt."),
    (Clause(THERE, EXIST, "past", accusative=np("bakery", "no"), place=at("village"),
            front="place"),
     "In the village there was no bakery.", "Im Dorf gab es keine Bäckerei."),
    # comparison
    (be(np("dog"), Comparison(ADJECTIVES["big"], np("cat"))),
     "The dog is bigger than the cat.", "Der Hund ist größer als die Katze."),
    (be(np("film"), Comparison(ADJECTIVES["interesting"], np("concert"), equal=True)),
     "The film is as interesting as the concert.",
     "Der Film ist so interessant wie das Konzert."),
    # relative clauses: the pronoun agrees, and the clause follows the verb it would split
    (say(np("man", relative=say(Gap(NOUNS["man"], False), "sell", accusative=np("bread"))),
         "wait"),
     "The man who sells the bread waits.", "Der Mann, der das Brot verkauft, wartet."),
    (say(ANNA, "eat", "past", accusative=np("cake", relative=say(
        SHE, "bake", "past", accusative=Gap(NOUNS["cake"], False), front="accusative"))),
     "Anna ate the cake that she baked.",
     "Anna hat den Kuchen gegessen, den sie gebacken hat."),
    (be(np("train", relative=say(WE, "wait", front="governed", governed=governed(
        "wait", Gap(NOUNS["train"], False)))), ADJECTIVES["slow"]),
     "The train for which we wait is slow.", "Der Zug, auf den wir warten, ist langsam."),
    (say(np("boy", relative=say(Gap(NOUNS["boy"], False), "hurry")), "laugh"),
     "The boy who hurries laughs.", "Der Junge, der sich beeilt, lacht."),
    # subordinate clauses, inversion after a fronted one, infinitives
    (say(TOM, "stay", adjunct=under("because", "weil", be(HE, ADJECTIVES["ill"]))),
     "Tom stays because he is ill.", "Tom bleibt, weil er krank ist."),
    (say(WE, "stay", "future", adjunct=under(
        "if", "wenn", Clause(Pronoun("it"), VERBS["rain"]), fronted=True)),
     "If it rains, we will stay.", "Wenn es regnet, werden wir bleiben."),
    (say(SHE, "wake up", "past", adjunct=under("when", "als", say(HE, "call up", "past",
                                                                  accusative=SHE))),
     "She woke up when he called her up.", "Sie ist aufgewacht, als er sie angerufen hat."),
    (say(ANNA, "buy", "past", accusative=np("lamp"), adjunct=under(
        "because", "weil", be(Pronoun("it", "f"), ADJECTIVES["cheap"], "past"))),
     "Anna bought the lamp because it was cheap.",
     "Anna hat die Lampe gekauft, weil sie billig war."),
    (Clause(ME, CLAUSE_VERBS["believe"], complement=under(
        "that", "dass", say(TOM, "get up", "present", MODAL["can"]))),
     "I believe that Tom can get up.", "Ich glaube, dass Tom aufstehen kann."),
    (Clause(ME, CLAUSE_VERBS["know"], negated=True, complement=under("", "", say(
        HE, "live", place=ADVERBS["where"], front="place"))),
     "I do not know where he lives.", "Ich weiß nicht, wo er wohnt."),
    (Clause(SHE, CLAUSE_VERBS["try"], "past", complement=under(
        "", "zu", say(SHE, "turn on", accusative=np("radio")))),
     "She tried to turn on the radio.", "Sie hat versucht, das Radio einzuschalten."),
    (say(ME, "go", governed=to("beach"), adjunct=under("in order", "um", say(ME, "rest"))),
     "I go to the beach in order to rest.", "Ich gehe an den Strand, um mich auszuruhen."),
    # coordinated main clauses
    (Compound(say(ANNA, "buy", accusative=np("coat", "a")), Adverb("but", "aber"),
              say(TOM, "sell", accusative=Pronoun("it", "m"))),
     "Anna buys a coat, but Tom sells it.", "Anna kauft einen Mantel, aber Tom verkauft ihn."),
    (Compound(say(ANNA, "sing"), Adverb("and", "und"), say(plural("guest"), "dance")),
     "Anna sings, and the guests dance.", "Anna singt und die Gäste tanzen."),
]  # fmt: skip


@pytest.mark.parametrize(("tree", "english", "german"), CASES, ids=[case[1] for case in CASES])
def test_both_languages_render_the_tree(tree, english, german):
    assert tuple(render(tree)) == (english, german)


@pytest.mark.parametrize(
    ("head", "genitive"),
    [
        ("house", "Hauses"),
        ("bus", "Busses"),
        ("child", "Kindes"),
        ("teacher", "Lehrers"),
        ("boss", "Chefs"),
        ("boy", "Jungen"),
        ("woman", "Frau"),
        ("egg", "Eis"),
        ("square", "Platzes"),
    ],
)
def test_genitive(head, genitive):
    assert decline(NOUNS[head], "genitive", plural=False) == genitive
