"""German discourse: connectives, reference across sentences, novelty."""

from __future__ import annotations

from miscible.probe.datasets.german.lexicon import (
    ADJECTIVES,
    BOY_NAMES,
    GIRL_NAMES,
    NAMES,
    PLACES,
    THINGS,
)
from miscible.probe.datasets.paradigm import Contrast, Draw, Unit, mirrored, paradigm

_CONSEQUENCES = (
    ("hatte Hunger", "aß _ das Brot", "ließ _ das Brot liegen"),
    ("war sehr müde", "ging _ früh ins Bett", "blieb _ die ganze Nacht wach"),
    ("hatte Durst", "trank _ ein Glas Wasser", "trank _ den ganzen Tag nichts"),
    ("war krank", "blieb _ im Bett", "ging _ zur Arbeit"),
    ("hatte Angst vor dem Hund", "lief _ weg", "ging _ auf ihn zu"),
    ("fand den Film langweilig", "ging _ früh nach Hause", "sah _ ihn zweimal"),
    ("war spät dran", "beeilte _ sich", "ging _ sehr langsam"),
    ("war sehr traurig", "weinte _ laut", "lachte _ laut"),
    ("hatte kein Geld", "kaufte _ nichts", "kaufte _ ein teures Auto"),
    ("kannte die Antwort", "meldete _ sich", "schwieg _ lieber"),
    ("verlor das Spiel", "war _ enttäuscht", "war _ glücklich"),
    ("lernte jeden Tag", "bestand _ die Prüfung", "bestand _ die Prüfung nicht"),
    ("fror sehr", "zog _ eine Jacke an", "zog _ die Jacke aus"),
    ("mochte das Lied", "sang _ es noch einmal", "schaltete _ es aus"),
)
"""A state, what follows from it, and what is surprising after it; the pronoun in the slot."""

_EVENTS = (
    ("hat den Schlüssel verloren", "sucht ihn jetzt"),
    ("ist spät nach Hause gekommen", "ist sehr müde"),
    ("hat das Rennen gewonnen", "lacht laut"),
    ("hat einen Brief bekommen", "liest ihn sofort"),
    ("hat den Bus verpasst", "muss zu Fuß gehen"),
    ("hat ein Geräusch gehört", "läuft zur Tür"),
    ("hat einen Kuchen gebacken", "isst ein großes Stück"),
    ("hat eine Schlange gesehen", "hat große Angst"),
    ("ist in den See gefallen", "schwimmt ans Ufer"),
    ("hat die Tasse fallen lassen", "putzt den Boden"),
    ("ist in die Stadt gefahren", "kauft ein Geschenk"),
    ("hat lange gearbeitet", "braucht eine Pause"),
)


@paradigm("de", "connective", "discourse_connectives", "discourse")
def connective(draw: Draw) -> Unit:
    """Anna war krank. Deshalb / Trotzdem blieb sie im Bett; trotzdem / deshalb ging sie aus."""
    state, expected, surprising = draw.one(_CONSEQUENCES)
    name = draw.one(NAMES)
    pronoun = "sie" if name in GIRL_NAMES else "er"
    so, but = draw.one((("Deshalb", "Trotzdem"), ("Darum", "Dennoch"), ("Deswegen", "Trotzdem")))
    start = f"{name} {state}."
    follows, surprises = (text.replace("_", pronoun) for text in (expected, surprising))
    return mirrored(f"{start} _ {follows}.", f"{start} _ {surprises}.", so, but)


@paradigm("de", "pronoun_reference", "coreference", "discourse")
def pronoun_reference(draw: Draw) -> Unit:
    """Anna hat den Schlüssel verloren. Sie / Er sucht ihn jetzt."""
    (first, then), girl, boy = draw.one(_EVENTS), draw.one(GIRL_NAMES), draw.one(BOY_NAMES)
    return mirrored(f"{girl} {first}. _ {then}.", f"{boy} {first}. _ {then}.", "Sie", "Er")


@paradigm("de", "pronoun_gender", "coreference", "discourse")
def pronoun_gender(draw: Draw) -> Unit:
    """Im Garten gibt es einen Tisch. Er / Sie ist neu; eine Lampe. Sie / Er ist neu."""
    place, adjective = draw.one(PLACES), draw.one(ADJECTIVES)
    place = place[0].upper() + place[1:]
    masculine, feminine = draw.one(THINGS["m"]).singular, draw.one(THINGS["f"]).singular
    return mirrored(
        f"{place} gibt es einen {masculine}. _ ist {adjective}.",
        f"{place} gibt es eine {feminine}. _ ist {adjective}.",
        "Er",
        "Sie",
    )


@paradigm("de", "novelty", "definiteness", "discourse")
def novelty(draw: Draw) -> Unit:
    """Anna sah ein Bild, und das Bild war alt / Anna sah das Bild, und ein Bild war alt."""
    gender, a, the = draw.one((("f", "eine", "die"), ("n", "ein", "das")))
    noun = draw.one(THINGS[gender]).singular
    start = f"{draw.one(NAMES)} {draw.one(('sah', 'fand', 'kaufte', 'wollte'))}"
    adjective = draw.one(ADJECTIVES)
    return (
        Contrast(
            f"{start} {a} {noun}, und {the} {noun} war {adjective}.",
            f"{start} {the} {noun}, und {a} {noun} war {adjective}.",
        ),
    )
