"""Spanish discourse: connectives, reference, novelty."""

from __future__ import annotations

from miscible.probe.datasets.paradigm import Contrast, Draw, Unit, mirrored, paradigm
from miscible.probe.datasets.spanish.lexicon import ADJECTIVES, NAMES, THINGS

_CONSEQUENCES = (
    ("tenía hambre", "comió pan con queso", "no comió nada"),
    ("tenía sed", "bebió agua", "no bebió nada"),
    ("tenía sueño", "se fue a la cama", "siguió trabajando"),
    ("tenía frío", "se puso el abrigo", "se quitó el abrigo"),
    ("tenía miedo del perro", "salió corriendo", "se acercó a él"),
    ("tenía fiebre", "se quedó en la cama", "salió a bailar"),
    ("tenía prisa", "caminó muy rápido", "caminó muy despacio"),
    ("estaba muy triste", "lloró mucho", "cantó con alegría"),
    ("no tenía dinero", "no compró nada", "compró un coche nuevo"),
    ("sabía la respuesta", "levantó la mano", "no dijo nada"),
    ("perdió el partido", "se puso triste", "se puso muy feliz"),
    ("estudió mucho", "aprobó el examen", "suspendió el examen"),
    ("odiaba esa canción", "apagó la radio", "la cantó otra vez"),
    ("llegó muy tarde", "pidió perdón", "no pidió perdón"),
)
"""A state, what follows from it, and what is surprising after it."""

_THEN = (
    ("compró", "vendió"), ("perdió", "encontró"), ("encontró", "guardó"), ("limpió", "guardó"),
    ("pidió", "devolvió"), ("vendió", "recuperó"),
)  # fmt: skip


@paradigm("es", "connective", "discourse_connectives", "discourse")
def connective(draw: Draw) -> Unit:
    """Ana tenía sed. Por eso / Sin embargo, bebió agua; sin embargo / por eso, no bebió nada."""
    state, expected, surprising = draw.one(_CONSEQUENCES)
    so, but = draw.one(
        (("Por eso", "Sin embargo"), ("Por lo tanto", "No obstante"), ("Por eso", "No obstante"))
    )
    start = f"{draw.one(NAMES)} {state}."
    return mirrored(f"{start} _, {expected}.", f"{start} _, {surprising}.", so, but)


@paradigm("es", "clitic_gender", "coreference", "discourse")
def clitic_gender(draw: Draw) -> Unit:
    """Ana perdió un libro y luego lo / la encontró; perdió una llave y luego la / lo encontró."""
    name, (first, then) = draw.one(NAMES), draw.one(_THEN)
    link = draw.one(("y después", "y luego", "y más tarde", "y al final"))
    return mirrored(
        f"{name} {first} un {draw.one(THINGS['m']).singular} {link} _ {then}.",
        f"{name} {first} una {draw.one(THINGS['f']).singular} {link} _ {then}.",
        "lo",
        "la",
    )


@paradigm("es", "novelty", "definiteness", "discourse")
def novelty(draw: Draw) -> Unit:
    """Ana vio un coche y el coche era nuevo / Ana vio el coche y un coche era nuevo."""
    gender, a, the = draw.one((("m", "un", "el"), ("f", "una", "la")))
    noun, forms = draw.one(THINGS[gender]).singular, draw.one(ADJECTIVES)
    adjective = forms.m if gender == "m" else forms.f
    start = f"{draw.one(NAMES)} {draw.one(('vio', 'encontró', 'compró', 'quería'))}"
    return (
        Contrast(
            f"{start} {a} {noun} y {the} {noun} era {adjective}.",
            f"{start} {the} {noun} y {a} {noun} era {adjective}.",
        ),
    )
