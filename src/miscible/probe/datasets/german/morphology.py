"""German morphology: agreement, case, anaphors, irregular forms."""

from __future__ import annotations

from miscible.probe.datasets.german.lexicon import (
    ACCUSATIVE,
    ACCUSATIVE_VERBS,
    ADJECTIVES,
    CHILDREN,
    DATIVE,
    DATIVE_VERBS,
    DAYS,
    INTRANSITIVE,
    MEN,
    NAMES,
    NOMINATIVE,
    PEOPLE,
    PLACES,
    THINGS,
    WOMEN,
)
from miscible.probe.datasets.paradigm import Draw, Unit, mirrored, paradigm
from miscible.probe.datasets.word_lists import words

_DATIVE_PHRASES = (
    "spricht mit", "spielt mit", "wohnt bei", "träumt von", "erzählt von", "tanzt mit",
    "arbeitet bei", "kommt von",
)  # fmt: skip
_ACCUSATIVE_PHRASES = (
    "arbeitet für", "reist ohne", "spielt gegen", "kocht für", "lebt ohne", "kämpft gegen",
    "singt für", "tanzt ohne",
)  # fmt: skip

_REFLEXIVE = {"Ich": "mich", "Du": "dich", "Wir": "uns", "Ihr": "euch"}
_ALWAYS_REFLEXIVE = tuple(
    dict(zip(_REFLEXIVE, forms.split("/"), strict=True))
    for forms in (
        "beeile/beeilst/beeilen/beeilt", "schäme/schämst/schämen/schämt",
        "erhole/erholst/erholen/erholt", "irre/irrst/irren/irrt",
        "verspäte/verspätest/verspäten/verspätet", "bedanke/bedankst/bedanken/bedankt",
        "verlaufe/verläufst/verlaufen/verlauft", "verirre/verirrst/verirren/verirrt",
        "erkälte/erkältest/erkälten/erkältet", "weigere/weigerst/weigern/weigert",
    )
)  # fmt: skip
_HOW_OFTEN = words("heute immer oft manchmal nie wieder selten morgen")

_STRONG = (
    ("sang", "gesungen", ("ein Lied", "das Lied")),
    ("schrieb", "geschrieben", ("einen Brief", "ein Buch", "den Brief")),
    ("trank", "getrunken", ("ein Glas Wasser", "den Tee", "die Milch")),
    ("fand", "gefunden", ("einen Ring", "den Schlüssel", "eine Uhr")),
    ("las", "gelesen", ("ein Buch", "die Zeitung", "den Brief")),
    ("aß", "gegessen", ("einen Apfel", "das Brot", "den Kuchen")),
    ("nahm", "genommen", ("einen Teller", "die Tasche", "den Koffer")),
    ("warf", "geworfen", ("einen Ball", "den Stein", "die Flasche")),
    ("sah", "gesehen", ("ein Bild", "den Mond", "die Berge")),
)
"""Past, participle, and objects."""


@paradigm("de", "subject_verb_agreement", "subject_verb_agreement", "morphology")
def subject_verb_agreement(draw: Draw) -> Unit:
    """Der Lehrer lacht / lachen im Garten."""
    noun, verb, place = draw.one(PEOPLE), draw.one(INTRANSITIVE), draw.one(PLACES)
    one = f"{NOMINATIVE[noun.gender].capitalize()} {noun.singular}"
    return mirrored(f"{one} _ {place}.", f"Die {noun.plural} _ {place}.", verb[0], verb[1])


@paradigm("de", "subject_verb_agreement_prepositional", "subject_verb_agreement", "morphology")
def subject_verb_agreement_prepositional(draw: Draw) -> Unit:
    """Der Lehrer neben den Freundinnen lacht / lachen: the nearest noun has the other number."""
    (noun, other), verb = draw.two(PEOPLE), draw.one(INTRANSITIVE)
    where, place = draw.one(("neben", "hinter", "vor")), draw.one(PLACES)
    one = f"{NOMINATIVE[noun.gender].capitalize()} {noun.singular} {where} den {other.datives}"
    many = f"Die {noun.plural} {where} {DATIVE[other.gender]} {other.singular}"
    return mirrored(f"{one} _ {place}.", f"{many} _ {place}.", verb[0], verb[1])


@paradigm("de", "determiner_noun_agreement", "determiner_noun_agreement", "morphology")
def determiner_noun_agreement(draw: Draw) -> Unit:
    """Dort ist dieser / diese Tisch zu sehen."""
    first, second = draw.two("mfn")
    forms = {"m": "dieser", "f": "diese", "n": "dieses"}
    if "f" in (first, second) and draw.one((True, False)):
        stem = draw.one(("ein", "kein", "mein", "dein", "sein"))
        forms = {"m": stem, "f": stem + "e", "n": stem}
    frames = [
        f"{draw.one(DAYS)} ist _ {draw.one(THINGS[gender]).singular} zu sehen."
        for gender in (first, second)
    ]
    return mirrored(frames[0], frames[1], forms[first], forms[second])


@paradigm("de", "adjective_agreement", "adjective_agreement", "morphology")
def adjective_agreement(draw: Draw) -> Unit:
    """Dort ist ein alter / altes Tisch zu sehen."""
    (first, second), adjective = draw.two("mfn"), draw.one(ADJECTIVES)
    forms = {"m": f"{adjective}er", "f": f"{adjective}e", "n": f"{adjective}es"}
    articles, day = {"m": "ein", "f": "eine", "n": "ein"}, draw.one(DAYS)
    frames = [
        f"{day} ist {articles[gender]} _ {draw.one(THINGS[gender]).singular} zu sehen."
        for gender in (first, second)
    ]
    return mirrored(frames[0], frames[1], forms[first], forms[second])


@paradigm("de", "prepositional_case", "case", "morphology")
def prepositional_case(draw: Draw) -> Unit:
    """Anna spricht mit dem / den Mann; Paul arbeitet für den / dem Mann."""
    (first, second), noun = draw.two(NAMES), draw.one(PEOPLE)
    return mirrored(
        f"{first} {draw.one(_DATIVE_PHRASES)} _ {noun.singular}.",
        f"{second} {draw.one(_ACCUSATIVE_PHRASES)} _ {noun.singular}.",
        DATIVE[noun.gender],
        ACCUSATIVE[noun.gender],
    )


@paradigm("de", "verbal_case", "case", "morphology")
def verbal_case(draw: Draw) -> Unit:
    """Der Arzt hilft dem / den Mann; der Arzt besucht den / dem Mann.

    The subject is masculine, and so no object: ``Anna hilft die Frau`` has a reading.
    """
    (first, second), noun = draw.two(MEN), draw.one(PEOPLE)
    return mirrored(
        f"Der {first.singular} {draw.one(DATIVE_VERBS)} _ {noun.singular}.",
        f"Der {second.singular} {draw.one(ACCUSATIVE_VERBS)} _ {noun.singular}.",
        DATIVE[noun.gender],
        ACCUSATIVE[noun.gender],
    )


@paradigm("de", "pronoun_case", "case", "morphology")
def pronoun_case(draw: Draw) -> Unit:
    """Heute besucht er / ihn den Lehrer; heute besucht ihn / er der Lehrer."""
    day, verb, noun = draw.one(DAYS), draw.one(ACCUSATIVE_VERBS), draw.one(MEN).singular
    return mirrored(f"{day} {verb} _ den {noun}.", f"{day} {verb} _ der {noun}.", "er", "ihn")


@paradigm("de", "reflexive_person", "anaphor_agreement", "morphology")
def reflexive_person(draw: Draw) -> Unit:
    """Ich beeile mich / dich heute: the verb has no other object than a reflexive."""
    (first, second), verb = draw.two(list(_REFLEXIVE)), draw.one(_ALWAYS_REFLEXIVE)
    often = draw.one(_HOW_OFTEN)
    return mirrored(
        f"{first} {verb[first]} _ {often}.",
        f"{second} {verb[second]} _ {often}.",
        _REFLEXIVE[first],
        _REFLEXIVE[second],
    )


@paradigm("de", "relative_pronoun", "relative_pronoun_agreement", "morphology")
def relative_pronoun(draw: Draw) -> Unit:
    """Der Lehrer, der / die im Garten wartet, ist müde.

    Without Mädchen, which many take for feminine here.
    """
    nouns = [draw.one(pool) for pool in draw.two((MEN, WOMEN, CHILDREN[:1]))]
    verb, place = draw.one(INTRANSITIVE)[0], draw.one(PLACES)
    state = draw.one(("müde", "krank", "nett", "freundlich", "traurig", "froh"))
    frames = [
        f"{NOMINATIVE[noun.gender].capitalize()} {noun.singular}, _ {place} {verb}, ist {state}."
        for noun in nouns
    ]
    one, other = (NOMINATIVE[noun.gender] for noun in nouns)
    return mirrored(frames[0], frames[1], one, other)


@paradigm("de", "irregular_participle", "irregular_forms", "morphology")
def irregular_participle(draw: Draw) -> Unit:
    """Anna hat ein Lied gesungen / sang; Paul sang / gesungen ein Lied."""
    (first, second), (past, participle, objects) = draw.two(NAMES), draw.one(_STRONG)
    thing = draw.one(objects)
    return mirrored(f"{first} hat {thing} _.", f"{second} _ {thing}.", participle, past)
