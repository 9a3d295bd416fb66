"""Spanish semantics: mood, copulas, time, countability."""

from __future__ import annotations

from miscible.probe.datasets.paradigm import Draw, Unit, mirrored, paradigm
from miscible.probe.datasets.spanish.lexicon import (
    BOY_NAMES,
    GIRL_NAMES,
    INTRANSITIVE,
    NAMES,
    PLACES,
    TAKING_THINGS,
    THINGS,
)
from miscible.probe.datasets.word_lists import forms, words

_WISHES = ("Quiero", "Prefiero", "Deseo", "Es necesario", "Es importante")
_FACTS = ("Sé", "Veo", "Es verdad", "Está claro", "Es cierto")

_PROFESSIONS = forms(
    "profesor/profesora médico/médica maestro/maestra enfermero/enfermera cocinero/cocinera "
    "abogado/abogada pintor/pintora cantante/cantante panadero/panadera escritor/escritora"
)

_MASSES = words("leche harina carne sal fruta mantequilla miel arena")


@paradigm("es", "mood", "mood", "semantics")
def mood(draw: Draw) -> Unit:
    """Quiero que Ana cante / canta en el parque; sé que Juan canta / cante en el parque."""
    (first, second), verb, place = draw.two(NAMES), draw.one(INTRANSITIVE), draw.one(PLACES)
    return mirrored(
        f"{draw.one(_WISHES)} que {first} _ {place}.",
        f"{draw.one(_FACTS)} que {second} _ {place}.",
        verb.subjunctive,
        verb.singular,
    )


@paradigm("es", "copula", "copula_selection", "semantics")
def copula(draw: Draw) -> Unit:
    """Ana está / es en la cocina; Juan es / está profesor."""
    name, place = draw.one(NAMES), draw.one(PLACES)
    gender = draw.one((0, 1))
    other, profession = draw.one((BOY_NAMES, GIRL_NAMES)[gender]), draw.one(_PROFESSIONS)[gender]
    return mirrored(f"{name} _ {place}.", f"{other} _ {profession}.", "está", "es")


@paradigm("es", "tense_time_adverb", "tense", "semantics")
def tense_time_adverb(draw: Draw) -> Unit:
    """Ayer / Mañana Ana cantó en el parque; mañana / ayer Ana cantará en el parque."""
    past = draw.one(("Ayer", "Anteayer", "La semana pasada", "El año pasado"))
    future = draw.one(("Mañana", "Pasado mañana", "La próxima semana", "El próximo año"))
    name, place, verb = draw.one(NAMES), draw.one(PLACES), draw.one(INTRANSITIVE)
    return mirrored(
        f"_ {name} {verb.past} {place}.", f"_ {name} {verb.future} {place}.", past, future
    )


@paradigm("es", "countability", "countability", "semantics")
def countability(draw: Draw) -> Unit:
    """Ana compró mucha / muchas leche; Juan compró muchas / mucha mesas.

    All feminine: ``mucho`` is also an adverb.
    """
    (first, second), verb = draw.two(NAMES), draw.one(TAKING_THINGS)
    much, many = draw.one((("mucha", "muchas"), ("poca", "pocas"), ("demasiada", "demasiadas")))
    return mirrored(
        f"{first} {verb} _ {draw.one(_MASSES)}.",
        f"{second} {verb} _ {draw.one(THINGS['f']).plural}.",
        much,
        many,
    )
