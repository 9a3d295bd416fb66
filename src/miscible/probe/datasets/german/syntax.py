"""German syntax: the place of the verb and of its particle, auxiliaries, negation."""

from __future__ import annotations

from miscible.probe.datasets.german.lexicon import (
    ACCUSATIVE_A,
    DAYS,
    NAMES,
    TAKING_THINGS,
    THINGS,
)
from miscible.probe.datasets.paradigm import Contrast, Draw, Unit, mirrored, paradigm
from miscible.probe.datasets.word_lists import words

_SEPARABLE = (
    ("macht", "zu", ("die Tür", "das Fenster", "den Schrank", "die Flasche", "das Buch")),
    ("schaltet", "aus", ("das Radio", "die Lampe", "das Licht", "den Herd")),
    ("holt", "ab", ("den Koffer", "die Zeitung", "das Fahrrad", "das Kleid")),
    ("wirft", "weg", ("den Brief", "die Karte", "das Heft", "die Tasse")),
    ("bringt", "zurück", ("das Buch", "den Schlüssel", "die Uhr", "das Spiel")),
    ("nimmt", "mit", ("die Tasche", "den Ball", "das Radio", "die Jacke")),
)
"""Verb, particle that stands at the end of the clause, objects."""

_WITH_SEIN = (
    "nach Hause gegangen", "zu Hause geblieben", "früh aufgewacht", "spät eingeschlafen",
    "pünktlich angekommen", "in den Garten gelaufen", "nach Berlin gereist",
    "aus der Schule gekommen", "vom Stuhl gefallen",
)  # fmt: skip
_WITH_HABEN = (
    "im Garten geschlafen", "lange nachgedacht", "leise gelacht", "viel gearbeitet", "laut geweint",
    "von der Reise geträumt", "lange geschwiegen", "in der Nacht gehustet", "laut geschrien",
)  # fmt: skip
_TAKING_NOTHING = words("lacht schläft weint arbeitet wartet schweigt hustet zögert")
_PAST_TIMES = ("Gestern", "Heute", "Am Montag", "Am Abend", "Vorgestern", "Am Sonntag")


def _a_thing(draw: Draw) -> str:
    gender = draw.one("mfn")
    return f"{ACCUSATIVE_A[gender]} {draw.one(THINGS[gender]).singular}"


@paradigm("de", "verb_second", "word_order", "syntax")
def verb_second(draw: Draw) -> Unit:
    """Heute kauft Anna einen Mantel / Heute Anna kauft einen Mantel."""
    day, name, verb, thing = (
        draw.one(DAYS),
        draw.one(NAMES),
        draw.one(TAKING_THINGS),
        _a_thing(draw),
    )
    return (Contrast(f"{day} {verb} {name} {thing}.", f"{day} {name} {verb} {thing}."),)


@paradigm("de", "verb_final", "subordinate_clauses", "syntax")
def verb_final(draw: Draw) -> Unit:
    """Paul sagt, dass Anna einen Mantel kauft / dass Anna kauft einen Mantel."""
    (first, second), verb, thing = draw.two(NAMES), draw.one(TAKING_THINGS), _a_thing(draw)
    start = f"{first} {draw.one(('sagt', 'weiß', 'glaubt', 'hofft', 'hört'))}, dass {second}"
    return (Contrast(f"{start} {thing} {verb}.", f"{start} {verb} {thing}."),)


@paradigm("de", "separable_verbs", "particle_placement", "syntax")
def separable_verbs(draw: Draw) -> Unit:
    """Heute macht Anna die Tür zu / Heute macht Anna zu die Tür."""
    verb, particle, objects = draw.one(_SEPARABLE)
    start = f"{draw.one(DAYS)} {verb} {draw.one(NAMES)}"
    thing = draw.one(objects)
    return (Contrast(f"{start} {thing} {particle}.", f"{start} {particle} {thing}."),)


@paradigm("de", "perfect_auxiliary", "auxiliary_selection", "syntax")
def perfect_auxiliary(draw: Draw) -> Unit:
    """Gestern ist / hat Anna nach Hause gegangen; gestern hat / ist Paul leise gelacht."""
    (first, second), time = draw.two(NAMES), draw.one(_PAST_TIMES)
    return mirrored(
        f"{time} _ {first} {draw.one(_WITH_SEIN)}.",
        f"{time} _ {second} {draw.one(_WITH_HABEN)}.",
        "ist",
        "hat",
    )


@paradigm("de", "negation", "negation", "syntax")
def negation(draw: Draw) -> Unit:
    """Anna kauft heute kein / nicht Buch; Paul lacht heute nicht / kein."""
    (first, second), noun = draw.two(NAMES), draw.one(THINGS["n"] + THINGS["f"])
    time = draw.one(("heute", "morgen", "jetzt", "am Montag", "am Sonntag"))
    no = "kein" if noun.gender == "n" else "keine"
    return mirrored(
        f"{first} {draw.one(TAKING_THINGS)} {time} _ {noun.singular}.",
        f"{second} {draw.one(_TAKING_NOTHING)} {time} _.",
        no,
        "nicht",
    )
