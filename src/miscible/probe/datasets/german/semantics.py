"""German semantics: licensing, time, countability."""

from __future__ import annotations

from miscible.probe.datasets.german.lexicon import (
    INTRANSITIVE,
    NAMES,
    PLACES,
    TAKING_THINGS,
    THINGS,
    WOMEN,
)
from miscible.probe.datasets.paradigm import Contrast, Draw, Unit, mirrored, paradigm
from miscible.probe.datasets.word_lists import words

_MASSES = words("Milch Reis Salz Mehl Butter Obst Fleisch Honig Sand Sahne")
_PARTICIPLES = words("gelacht geweint geschlafen gesungen getanzt gelogen gearbeitet")


@paradigm("de", "npi_licensing", "npi_licensing", "semantics")
def npi_licensing(draw: Draw) -> Unit:
    """Paul sagt, dass keine Frau, die die Tante kennt, jemals gelacht hat / dass die Frau, die
    keine Tante kennt, jemals gelacht hat: the negation licenses ``jemals`` only from above it.
    """
    (noun, other), name = draw.two(WOMEN), draw.one(NAMES)
    start = f"{name} {draw.one(('sagt', 'weiß', 'glaubt', 'hört'))}, dass"
    inner = draw.one(("kennt", "mag", "besucht", "liebt"))
    rest = f"jemals {draw.one(_PARTICIPLES)} hat."
    return (
        Contrast(
            f"{start} keine {noun.singular}, die die {other.singular} {inner}, {rest}",
            f"{start} die {noun.singular}, die keine {other.singular} {inner}, {rest}",
        ),
    )


@paradigm("de", "tense_time_adverb", "tense", "semantics")
def tense_time_adverb(draw: Draw) -> Unit:
    """Gestern / Morgen lachte Anna im Garten; morgen / gestern wird Anna im Garten lachen."""
    past = draw.one(("Gestern", "Vorgestern", "Letzte Woche", "Letztes Jahr"))
    future = draw.one(("Morgen", "Übermorgen", "Nächste Woche", "Nächstes Jahr"))
    name, place, verb = draw.one(NAMES), draw.one(PLACES), draw.one(INTRANSITIVE)
    return mirrored(
        f"_ {verb[2]} {name} {place}.", f"_ wird {name} {place} {verb[1]}.", past, future
    )


@paradigm("de", "countability", "countability", "semantics")
def countability(draw: Draw) -> Unit:
    """Anna kauft etwas / mehrere Milch; Paul kauft mehrere / etwas Bücher."""
    (first, second), verb = draw.two(NAMES), draw.one(TAKING_THINGS)
    noun = draw.one(THINGS[draw.one("mfn")])
    return mirrored(
        f"{first} {verb} _ {draw.one(_MASSES)}.", f"{second} {verb} _ {noun.plural}.",
        "etwas", "mehrere",
    )  # fmt: skip
