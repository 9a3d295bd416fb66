"""English words, chosen plain: models of a few hundred thousand parameters know most of them."""

from __future__ import annotations

from typing import NamedTuple

from miscible.probe.datasets.word_lists import forms, words


class Noun(NamedTuple):
    """A noun in both numbers."""

    singular: str
    plural: str


class Verb(NamedTuple):
    """Forms of a verb: base, third person singular, past, past participle, ``-ing``."""

    base: str
    third: str
    past: str
    participle: str
    gerund: str


def _regular(base: str) -> Verb:
    stem = base.removesuffix("e")
    return Verb(base, base + "s", stem + "ed", stem + "ed", stem + "ing")


def _nouns(text: str) -> tuple[Noun, ...]:
    """Read ``singular`` or ``singular/plural``, separated by spaces."""
    split = (word.partition("/") for word in text.split())
    return tuple(Noun(singular, plural or singular + "s") for singular, _, plural in split)


PEOPLE = _nouns(
    "boy girl teacher doctor farmer nurse driver singer student painter pilot baker king queen "
    "friend neighbor child/children woman/women man/men lady/ladies baby/babies"
)
MASCULINE = _nouns(
    "boy king uncle father man/men prince grandfather brother son gentleman/gentlemen"
)
FEMININE = _nouns("girl queen aunt mother woman/women princess/princesses grandmother sister "
                  "daughter lady/ladies")  # fmt: skip
THINGS = _nouns(
    "book cake table hat ball box/boxes letter flower lamp picture cup chair toy map bag key "
    "coat bottle drum kite leaf/leaves knife/knives"
)
ANIMALS = _nouns("dog cat horse bird rabbit frog bear duck cow")
MEN = words("Tom John Peter David Paul Jack Henry George Robert Daniel Ben Max")
WOMEN = words("Mary Anna Lucy Emma Sarah Alice Julia Laura Lily Jane Sue Mia")

INTRANSITIVE = (
    *(_regular(base) for base in ("laugh", "smile", "dance", "wait", "walk", "jump", "talk")),
    Verb("sleep", "sleeps", "slept", "slept", "sleeping"),
    Verb("sing", "sings", "sang", "sung", "singing"),
    Verb("swim", "swims", "swam", "swum", "swimming"),
    Verb("run", "runs", "ran", "run", "running"),
)
NEVER_TRANSITIVE = (
    *(_regular(base) for base in ("laugh", "smile", "talk", "wait", "cough")),
    Verb("sleep", "sleeps", "slept", "slept", "sleeping"),
    Verb("cry", "cries", "cried", "cried", "crying"),
)
"""Verbs that take no thing as their object, in any reading (one can run a shop)."""
TRANSITIVE_OF_THINGS = (
    _regular("want"),
    Verb("fix", "fixes", "fixed", "fixed", "fixing"),
    Verb("carry", "carries", "carried", "carried", "carrying"),
    Verb("find", "finds", "found", "found", "finding"),
    Verb("make", "makes", "made", "made", "making"),
    Verb("bring", "brings", "brought", "brought", "bringing"),
    Verb("hold", "holds", "held", "held", "holding"),
    Verb("buy", "buys", "bought", "bought", "buying"),
    Verb("take", "takes", "took", "taken", "taking"),
)
"""Verbs that cannot do without their object."""
TRANSITIVE_OF_PEOPLE = tuple(
    _regular(base)
    for base in ("admire", "help", "thank", "visit", "love", "like", "follow", "greet", "trust")
)
PAST_UNLIKE_PARTICIPLE = (
    (Verb("write", "writes", "wrote", "written", "writing"), ("letter", "book", "song", "note")),
    (Verb("break", "breaks", "broke", "broken", "breaking"), ("cup", "chair", "toy", "lamp")),
    (Verb("eat", "eats", "ate", "eaten", "eating"), ("cake", "apple", "bread", "fish")),
    (Verb("take", "takes", "took", "taken", "taking"), ("bag", "ball", "map", "key")),
    (Verb("draw", "draws", "drew", "drawn", "drawing"), ("picture", "house", "tree", "map")),
    (Verb("choose", "chooses", "chose", "chosen", "choosing"), ("hat", "book", "toy", "coat")),
    (Verb("steal", "steals", "stole", "stolen", "stealing"), ("car", "box", "key", "bag")),
    (Verb("drive", "drives", "drove", "driven", "driving"), ("car", "bus", "truck", "van")),
    (Verb("throw", "throws", "threw", "thrown", "throwing"), ("ball", "stone", "stick", "hat")),
    (Verb("see", "sees", "saw", "seen", "seeing"), ("bird", "boat", "house", "moon")),
)
"""Verbs whose past and participle differ, each with nouns that they take."""

REFLEXIVE_PAST = words(
    "hurt blamed saw admired trusted described washed praised surprised helped calmed cut "
    "defended loved thanked"
)
SAYING_PAST = words("said thought believed knew heard claimed hoped")
ADJECTIVES = words("old new big small red blue pretty little heavy nice")
COMPARED = forms(
    "old/older tall/taller young/younger strong/stronger fast/faster kind/kinder short/shorter "
    "small/smaller rich/richer quick/quicker nice/nicer happy/happier"
)
"""Adjectives with their comparatives."""
PLACES = tuple(
    f"{preposition} the {noun}"
    for preposition in ("near", "behind", "in")
    for noun in ("garden", "house", "school", "park", "kitchen", "forest", "shop")
)
