"""Spanish words with the forms that the frames need, spelled out."""

from __future__ import annotations

from typing import Literal, NamedTuple, TypeAlias

from miscible.probe.datasets.word_lists import forms, words

Gender: TypeAlias = Literal["m", "f"]


class Noun(NamedTuple):
    """A noun in both numbers."""

    gender: Gender
    singular: str
    plural: str


class Adjective(NamedTuple):
    """Forms of an adjective by gender and number."""

    m: str
    f: str
    ms: str
    fs: str


class Verb(NamedTuple):
    """Third person: present singular and plural, preterite, future, subjunctive (singular)."""

    singular: str
    plural: str
    past: str
    future: str
    subjunctive: str


def _nouns(gender: Gender, text: str) -> tuple[Noun, ...]:
    """Read ``singular`` or ``singular/plural``, separated by spaces."""
    split = (word.partition("/") for word in text.split())
    return tuple(Noun(gender, singular, plural or singular + "s") for singular, _, plural in split)


MEN = _nouns(
    "m",
    "niño abuelo hermano profesor/profesores médico vecino amigo hijo tío primo maestro alumno",
)
WOMEN = _nouns(
    "f", "niña abuela hermana profesora médica vecina amiga hija tía prima maestra alumna"
)
PEOPLE = MEN + WOMEN
THINGS = {
    "m": _nouns(
        "m",
        "libro vaso plato sombrero coche reloj/relojes cuaderno espejo juguete lápiz/lápices "
        "abrigo cuadro",
    ),
    "f": _nouns(
        "f", "mesa silla lámpara taza botella llave carta camisa flor/flores caja maleta cuchara"
    ),
}

THE = {"m": "el", "f": "la"}
THE_MANY = {"m": "los", "f": "las"}

GIRL_NAMES = words("Ana María Laura Julia Elena Carmen Lucía Rosa Marta Clara")
BOY_NAMES = words("Juan Pedro Luis Carlos Pablo Miguel Diego Javier Antonio Manuel")
NAMES = GIRL_NAMES + BOY_NAMES

INTRANSITIVE = tuple(
    Verb(*each)
    for each in forms(
        "canta/cantan/cantó/cantará/cante baila/bailan/bailó/bailará/baile "
        "trabaja/trabajan/trabajó/trabajará/trabaje "
        "descansa/descansan/descansó/descansará/descanse "
        "llora/lloran/lloró/llorará/llore espera/esperan/esperó/esperará/espere "
        "duerme/duermen/durmió/dormirá/duerma corre/corren/corrió/correrá/corra "
        "camina/caminan/caminó/caminará/camine come/comen/comió/comerá/coma"
    )
)
TAKING_THINGS = words("compró vendió encontró perdió buscó guardó trajo limpió")
"""Preterites of verbs that cannot do without their object."""
ADJECTIVES = tuple(
    Adjective(stem + "o", stem + "a", stem + "os", stem + "as")
    for stem in words("nuev viej bonit pequeñ roj blanc negr car fe barat antigu modern")
)
PLACES = (
    "en el jardín", "en la escuela", "en el parque", "en la casa", "en la cocina", "en el bosque",
    "en la calle", "en la playa", "en el patio", "en la plaza",
)  # fmt: skip
