"""Spanish syntax: clitics, auxiliaries, marked objects, negation."""

from __future__ import annotations

from miscible.probe.datasets.paradigm import Contrast, Draw, Unit, mirrored, paradigm
from miscible.probe.datasets.spanish.lexicon import (
    INTRANSITIVE,
    MEN,
    NAMES,
    PLACES,
    TAKING_THINGS,
    THE,
    THINGS,
    WOMEN,
)
from miscible.probe.datasets.word_lists import words

_PARTICIPLES = words("comprado vendido encontrado perdido buscado guardado traído limpiado")
_TAKING_BOTH = words("buscó vio encontró abandonó")
"""Verbs whose object may be a person, then with ``a``, or a thing, never with it."""
_TIMES = ("ayer", "anoche", "hoy", "el lunes", "el domingo", "por la mañana", "en el mercado")


@paradigm("es", "clitic_placement", "clitic_placement", "syntax")
def clitic_placement(draw: Draw) -> Unit:
    """Ana lo compró ayer / Ana compró lo ayer."""
    name, clitic = draw.one(NAMES), draw.one(("lo", "la", "los", "las"))
    verb, time = draw.one(TAKING_THINGS), draw.one(_TIMES)
    return (Contrast(f"{name} {clitic} {verb} {time}.", f"{name} {verb} {clitic} {time}."),)


@paradigm("es", "auxiliary_participle_order", "word_order", "syntax")
def auxiliary_participle_order(draw: Draw) -> Unit:
    """Ana ha comprado la mesa hoy / Ana ha la mesa comprado hoy."""
    noun, participle = draw.one(THINGS[draw.one("mf")]), draw.one(_PARTICIPLES)
    start, thing = f"{draw.one(NAMES)} ha", f"{THE[noun.gender]} {noun.singular}"
    when = draw.one(("", " hoy", " esta mañana", " en el mercado"))
    return (
        Contrast(f"{start} {participle} {thing}{when}.", f"{start} {thing} {participle}{when}."),
    )


@paradigm("es", "marked_object", "differential_object_marking", "syntax")
def marked_object(draw: Draw) -> Unit:
    """Ana buscó al / el niño; Juan buscó el / al libro: only persons are marked with ``a``."""
    (first, second), verb, place = draw.two(NAMES), draw.one(_TAKING_BOTH), draw.one(PLACES)
    people, gender, marked, bare = draw.one(((MEN, "m", "al", "el"), (WOMEN, "f", "a la", "la")))
    return mirrored(
        f"{first} {verb} _ {draw.one(people).singular} {place}.",
        f"{second} {verb} _ {draw.one(THINGS[gender]).singular} {place}.",
        marked,
        bare,
    )


@paradigm("es", "negative_concord", "negation", "syntax")
def negative_concord(draw: Draw) -> Unit:
    """Ana dice que nadie canta en el parque / que canta nadie: there it would need ``no``."""
    start = f"{draw.one(NAMES)} {draw.one(('dice', 'sabe', 'cree', 'piensa', 've'))} que"
    verb, place = draw.one(INTRANSITIVE).singular, draw.one(PLACES)
    nobody = draw.one(
        ("nadie", f"ningún {draw.one(MEN).singular}", f"ninguna {draw.one(WOMEN).singular}")
    )
    return (Contrast(f"{start} {nobody} {verb} {place}.", f"{start} {verb} {nobody} {place}."),)
