"""German words with the forms that the frames need, spelled out.

Nouns of the weak declension (Student, Junge) are avoided: of all nouns here the accusative and the
dative singular are the nominative.
"""

from __future__ import annotations

from typing import Literal, NamedTuple, TypeAlias

from miscible.probe.datasets.word_lists import forms, words

Gender: TypeAlias = Literal["m", "f", "n"]


class Noun(NamedTuple):
    """A noun: singular, plural, dative plural."""

    gender: Gender
    singular: str
    plural: str
    datives: str


def _nouns(gender: Gender, text: str) -> tuple[Noun, ...]:
    """Read ``singular/plural/dative plural``, separated by spaces."""
    return tuple(Noun(gender, *word.split("/")) for word in text.split())


MEN = _nouns(
    "m",
    "Mann/Männer/Männern Vater/Väter/Vätern Sohn/Söhne/Söhnen Lehrer/Lehrer/Lehrern "
    "Arzt/Ärzte/Ärzten Freund/Freunde/Freunden Bruder/Brüder/Brüdern König/Könige/Königen "
    "Maler/Maler/Malern Onkel/Onkel/Onkeln Bäcker/Bäcker/Bäckern Koch/Köche/Köchen",
)
WOMEN = _nouns(
    "f",
    "Frau/Frauen/Frauen Mutter/Mütter/Müttern Tochter/Töchter/Töchtern "
    "Lehrerin/Lehrerinnen/Lehrerinnen Ärztin/Ärztinnen/Ärztinnen Freundin/Freundinnen/Freundinnen "
    "Schwester/Schwestern/Schwestern Königin/Königinnen/Königinnen Malerin/Malerinnen/Malerinnen "
    "Tante/Tanten/Tanten Bäckerin/Bäckerinnen/Bäckerinnen Köchin/Köchinnen/Köchinnen",
)
CHILDREN = _nouns("n", "Kind/Kinder/Kindern Mädchen/Mädchen/Mädchen")
PEOPLE = MEN + WOMEN + CHILDREN

THINGS = {
    "m": _nouns(
        "m",
        "Tisch/Tische/Tischen Stuhl/Stühle/Stühlen Ball/Bälle/Bällen Mantel/Mäntel/Mänteln "
        "Brief/Briefe/Briefen Schlüssel/Schlüssel/Schlüsseln Apfel/Äpfel/Äpfeln "
        "Koffer/Koffer/Koffern Schrank/Schränke/Schränken Teller/Teller/Tellern "
        "Löffel/Löffel/Löffeln Ring/Ringe/Ringen",
    ),
    "f": _nouns(
        "f",
        "Lampe/Lampen/Lampen Tasche/Taschen/Taschen Blume/Blumen/Blumen Tasse/Tassen/Tassen "
        "Uhr/Uhren/Uhren Flasche/Flaschen/Flaschen Karte/Karten/Karten Gabel/Gabeln/Gabeln "
        "Zeitung/Zeitungen/Zeitungen Jacke/Jacken/Jacken Decke/Decken/Decken "
        "Brille/Brillen/Brillen",
    ),
    "n": _nouns(
        "n",
        "Buch/Bücher/Büchern Bild/Bilder/Bildern Glas/Gläser/Gläsern Messer/Messer/Messern "
        "Hemd/Hemden/Hemden Heft/Hefte/Heften Auto/Autos/Autos Fahrrad/Fahrräder/Fahrrädern "
        "Spiel/Spiele/Spielen Kleid/Kleider/Kleidern Klavier/Klaviere/Klavieren Sofa/Sofas/Sofas",
    ),
}

NOMINATIVE = {"m": "der", "f": "die", "n": "das"}
ACCUSATIVE = {"m": "den", "f": "die", "n": "das"}
DATIVE = {"m": "dem", "f": "der", "n": "dem"}
ACCUSATIVE_A = {"m": "einen", "f": "eine", "n": "ein"}

GIRL_NAMES = words("Anna Maria Julia Laura Lena Lisa Emma Clara Eva Nina")
BOY_NAMES = words("Paul Peter Thomas Max Jan Felix Lukas Karl Tim Jonas")
NAMES = GIRL_NAMES + BOY_NAMES

INTRANSITIVE = forms(
    "lacht/lachen/lachte schläft/schlafen/schlief singt/singen/sang tanzt/tanzen/tanzte "
    "weint/weinen/weinte arbeitet/arbeiten/arbeitete wartet/warten/wartete "
    "spielt/spielen/spielte sitzt/sitzen/saß liest/lesen/las"
)
"""Third person singular; third person plural, which is the infinitive; past of the singular."""
ACCUSATIVE_VERBS = words("besucht kennt liebt begrüßt sucht fragt mag umarmt")
DATIVE_VERBS = words("hilft dankt folgt antwortet vertraut gratuliert gehorcht glaubt")
TAKING_THINGS = words("kauft sucht findet holt bringt nimmt verkauft braucht")
ADJECTIVES = words("alt neu klein groß schön rot blau grün weiß schwarz")
PLACES = (
    "im Garten", "in der Schule", "im Park", "zu Hause", "in der Küche", "im Wald", "am See",
    "auf dem Markt", "vor der Tür", "im Zimmer",
)  # fmt: skip
DAYS = ("Heute", "Morgens", "Abends", "Manchmal", "Jetzt", "Oft", "Dort")
"""What may open a sentence in the present tense."""
