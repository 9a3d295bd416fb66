"""Spanish morphology: agreement, case, anaphors, irregular forms."""

from __future__ import annotations

from miscible.probe.datasets.paradigm import Draw, Unit, mirrored, paradigm
from miscible.probe.datasets.spanish.lexicon import (
    ADJECTIVES,
    INTRANSITIVE,
    NAMES,
    PEOPLE,
    PLACES,
    TAKING_THINGS,
    THE,
    THE_MANY,
    THINGS,
    Noun,
)
from miscible.probe.datasets.word_lists import forms

_PSYCH = (("gusta", "gustan"), ("encanta", "encantan"), ("interesa", "interesan"),
          ("importa", "importan"), ("sirve", "sirven"))  # fmt: skip

_REFLEXIVE = {"Yo": "me", "Tú": "te", "Nosotros": "nos", "Ellos": "se"}
_ALWAYS_REFLEXIVE = tuple(
    dict(zip(_REFLEXIVE, forms.split("/"), strict=True))
    for forms in (
        "quejo/quejas/quejamos/quejan", "arrepiento/arrepientes/arrepentimos/arrepienten",
        "jacto de todo/jactas de todo/jactamos de todo/jactan de todo",
        "atrevo a hablar/atreves a hablar/atrevemos a hablar/atreven a hablar",
        "abstengo de votar/abstienes de votar/abstenemos de votar/abstienen de votar",
    )
)  # fmt: skip
_HOW_OFTEN = (
    "siempre", "a veces", "hoy", "otra vez", "de nuevo", "cada día", "muchas veces", "a menudo",
)  # fmt: skip

_IRREGULAR = (
    ("escribió", "escrito", ("la carta", "un libro", "una nota")),
    ("rompió", "roto", ("el vaso", "la taza", "el plato")),
    ("abrió", "abierto", ("la puerta", "la caja", "la ventana")),
    ("vio", "visto", ("la película", "el mar", "la luna")),
    ("hizo", "hecho", ("la cama", "un pastel", "la comida")),
    ("devolvió", "devuelto", ("el libro", "las llaves", "el dinero")),
    ("dijo", "dicho", ("la verdad", "una mentira", "su nombre")),
    ("cubrió", "cubierto", ("la mesa", "el plato", "el espejo")),
)
"""Preterite, participle, objects."""

_WITH_PRONOUN = (
    "cocina para", "trabaja para", "canta para", "se ríe de", "piensa en", "viaja sin",
    "se acuerda de", "confía en",
)  # fmt: skip
_FIRST_AND_SECOND = forms(
    "canto/cantas cocino/cocinas trabajo/trabajas bailo/bailas espero/esperas camino/caminas"
)


@paradigm("es", "subject_verb_agreement", "subject_verb_agreement", "morphology")
def subject_verb_agreement(draw: Draw) -> Unit:
    """El niño canta / cantan en el parque."""
    noun, verb, place = draw.one(PEOPLE), draw.one(INTRANSITIVE), draw.one(PLACES)
    return mirrored(
        f"{THE[noun.gender].capitalize()} {noun.singular} _ {place}.",
        f"{THE_MANY[noun.gender].capitalize()} {noun.plural} _ {place}.",
        verb.singular,
        verb.plural,
    )


_KIN = tuple(noun for noun in PEOPLE if noun.singular not in ("niño", "niña"))
"""People of other people: their friend, their teacher."""


def _of(noun: Noun) -> str:
    return f"del {noun.singular}" if noun.gender == "m" else f"de la {noun.singular}"


@paradigm("es", "subject_verb_agreement_prepositional", "subject_verb_agreement", "morphology")
def subject_verb_agreement_prepositional(draw: Draw) -> Unit:
    """El amigo de las niñas canta / cantan: the nearest noun has the other number."""
    (noun, other), verb, place = draw.two(_KIN), draw.one(INTRANSITIVE), draw.one(PLACES)
    one = f"{THE[noun.gender].capitalize()} {noun.singular}"
    many = f"{THE_MANY[noun.gender].capitalize()} {noun.plural}"
    return mirrored(
        f"{one} de {THE_MANY[other.gender]} {other.plural} _ {place}.",
        f"{many} {_of(other)} _ {place}.",
        verb.singular,
        verb.plural,
    )


@paradigm("es", "postverbal_subject_agreement", "subject_verb_agreement", "morphology")
def postverbal_subject_agreement(draw: Draw) -> Unit:
    """A Ana le gusta / gustan el libro; a Juan le gustan / gusta los libros."""
    (first, second), noun = draw.two(NAMES), draw.one(THINGS[draw.one("mf")])
    one, many = draw.one(_PSYCH)
    return mirrored(
        f"A {first} le _ {THE[noun.gender]} {noun.singular}.",
        f"A {second} le _ {THE_MANY[noun.gender]} {noun.plural}.",
        one,
        many,
    )


@paradigm("es", "determiner_noun_gender", "determiner_noun_agreement", "morphology")
def determiner_noun_gender(draw: Draw) -> Unit:
    """Ana compró un / una libro; Juan compró una / un mesa."""
    (first, second), verb = draw.two(NAMES), draw.one(TAKING_THINGS)
    masculine, feminine = draw.one(
        (("un", "una"), ("este", "esta"), ("ese", "esa"), ("el", "la"), ("nuestro", "nuestra"))
    )
    return mirrored(
        f"{first} {verb} _ {draw.one(THINGS['m']).singular}.",
        f"{second} {verb} _ {draw.one(THINGS['f']).singular}.",
        masculine,
        feminine,
    )


@paradigm("es", "determiner_noun_number", "determiner_noun_agreement", "morphology")
def determiner_noun_number(draw: Draw) -> Unit:
    """Ana compró este / estos libro; Juan compró estos / este libros."""
    (first, second), verb = draw.two(NAMES), draw.one(TAKING_THINGS)
    gender, one, many = draw.one(
        (("m", "este", "estos"), ("m", "ese", "esos"), ("m", "el", "los"), ("f", "esta", "estas"),
         ("f", "esa", "esas"), ("f", "la", "las"))
    )  # fmt: skip
    noun = draw.one(THINGS[gender])
    return mirrored(
        f"{first} {verb} _ {noun.singular}.", f"{second} {verb} _ {noun.plural}.", one, many
    )


@paradigm("es", "adjective_gender", "adjective_agreement", "morphology")
def adjective_gender(draw: Draw) -> Unit:
    """El libro es muy nuevo / nueva; la mesa es muy nueva / nuevo."""
    adjective, copula = draw.one(ADJECTIVES), draw.one(("es", "era", "parece", "parecía"))
    much = draw.one(("", "muy ", "demasiado ", "bastante "))
    return mirrored(
        f"El {draw.one(THINGS['m']).singular} {copula} {much}_.",
        f"La {draw.one(THINGS['f']).singular} {copula} {much}_.",
        adjective.m,
        adjective.f,
    )


@paradigm("es", "adjective_number", "adjective_agreement", "morphology")
def adjective_number(draw: Draw) -> Unit:
    """El libro es muy nuevo / nuevos; los libros son muy nuevos / nuevo."""
    adjective, noun = draw.one(ADJECTIVES), draw.one(THINGS[draw.one("mf")])
    one, many = draw.one((("es", "son"), ("era", "eran"), ("parece", "parecen")))
    much = draw.one(("", "muy ", "demasiado ", "bastante "))
    forms = (adjective.m, adjective.ms) if noun.gender == "m" else (adjective.f, adjective.fs)
    return mirrored(
        f"{THE[noun.gender].capitalize()} {noun.singular} {one} {much}_.",
        f"{THE_MANY[noun.gender].capitalize()} {noun.plural} {many} {much}_.",
        *forms,
    )


@paradigm("es", "pronoun_case", "case", "morphology")
def pronoun_case(draw: Draw) -> Unit:
    """Ana cocina para mí / yo; hoy canto yo / mí en el parque."""
    person = draw.one((0, 1))
    after, subject = (("mí", "yo"), ("ti", "tú"))[person]
    verb, day = draw.one(_FIRST_AND_SECOND)[person], draw.one(("Hoy", "Ahora", "Mañana", "También"))
    return mirrored(
        f"{draw.one(NAMES)} {draw.one(_WITH_PRONOUN)} _.",
        f"{day} {verb} _ {draw.one(PLACES)}.",
        after,
        subject,
    )


@paradigm("es", "reflexive_person", "anaphor_agreement", "morphology")
def reflexive_person(draw: Draw) -> Unit:
    """Yo me / te quejo siempre: the verb has no other object than a reflexive."""
    (first, second), verb = draw.two(list(_REFLEXIVE)), draw.one(_ALWAYS_REFLEXIVE)
    often = draw.one(_HOW_OFTEN)
    return mirrored(
        f"{first} _ {verb[first]} {often}.",
        f"{second} _ {verb[second]} {often}.",
        _REFLEXIVE[first],
        _REFLEXIVE[second],
    )


@paradigm("es", "irregular_participle", "irregular_forms", "morphology")
def irregular_participle(draw: Draw) -> Unit:
    """Ana ha escrito / escribió la carta; Juan escribió / escrito la carta."""
    (first, second), (past, participle, objects) = draw.two(NAMES), draw.one(_IRREGULAR)
    thing = draw.one(objects)
    return mirrored(f"{first} ha _ {thing}.", f"{second} _ {thing}.", participle, past)
