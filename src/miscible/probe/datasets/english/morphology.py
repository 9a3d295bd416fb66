"""English morphology: agreement, anaphors, case, irregular forms."""

from __future__ import annotations

from miscible.probe.datasets.english.lexicon import (
    ADJECTIVES,
    COMPARED,
    FEMININE,
    INTRANSITIVE,
    MASCULINE,
    MEN,
    PAST_UNLIKE_PARTICIPLE,
    PEOPLE,
    PLACES,
    REFLEXIVE_PAST,
    THINGS,
    TRANSITIVE_OF_PEOPLE,
    TRANSITIVE_OF_THINGS,
    WOMEN,
    Verb,
)
from miscible.probe.datasets.paradigm import Contrast, Draw, Unit, mirrored, paradigm


def _agreement(singular: str, plural: str, verb: Verb, rest: str) -> Unit:
    return (
        Contrast(f"{singular} {verb.third} {rest}.", f"{singular} {verb.base} {rest}."),
        Contrast(f"{plural} {verb.base} {rest}.", f"{plural} {verb.third} {rest}."),
    )


@paradigm("en", "subject_verb_agreement", "subject_verb_agreement", "morphology")
def subject_verb_agreement(draw: Draw) -> Unit:
    """The boy laughs / laugh in the garden."""
    noun, verb, place = draw.one(PEOPLE), draw.one(INTRANSITIVE), draw.one(PLACES)
    return _agreement(f"The {noun.singular}", f"The {noun.plural}", verb, place)


@paradigm("en", "subject_verb_agreement_prepositional", "subject_verb_agreement", "morphology")
def subject_verb_agreement_prepositional(draw: Draw) -> Unit:
    """The boy behind the tables laughs / laugh: the nearest noun has the other number."""
    noun, attractor, verb = draw.one(PEOPLE), draw.one(THINGS), draw.one(INTRANSITIVE)
    place, where = draw.one(("near", "behind", "beside")), draw.one(PLACES)
    return _agreement(
        f"The {noun.singular} {place} the {attractor.plural}",
        f"The {noun.plural} {place} the {attractor.singular}",
        verb,
        where,
    )


@paradigm("en", "subject_verb_agreement_relative", "subject_verb_agreement", "morphology")
def subject_verb_agreement_relative(draw: Draw) -> Unit:
    """The boy that the girls helped laughs / laugh."""
    (noun, other), verb = draw.two(PEOPLE), draw.one(INTRANSITIVE)
    inner, where = draw.one(TRANSITIVE_OF_PEOPLE), draw.one(PLACES)
    return _agreement(
        f"The {noun.singular} that the {other.plural} {inner.past}",
        f"The {noun.plural} that the {other.singular} {inner.past}",
        verb,
        where,
    )


def _determiners(draw: Draw, adjective: str) -> Unit:
    name, verb, noun = draw.one(MEN + WOMEN), draw.one(TRANSITIVE_OF_THINGS), draw.one(THINGS)
    one, many = draw.one((("this", "these"), ("that", "those")))
    start = f"{name} {verb.past}"
    return (
        Contrast(
            f"{start} {one} {adjective}{noun.singular}.",
            f"{start} {many} {adjective}{noun.singular}.",
        ),
        Contrast(
            f"{start} {many} {adjective}{noun.plural}.",
            f"{start} {one} {adjective}{noun.plural}.",
        ),
    )


@paradigm("en", "determiner_noun_agreement", "determiner_noun_agreement", "morphology")
def determiner_noun_agreement(draw: Draw) -> Unit:
    """Mary found this / these book."""
    return _determiners(draw, "")


@paradigm("en", "determiner_noun_agreement_adjective", "determiner_noun_agreement", "morphology")
def determiner_noun_agreement_adjective(draw: Draw) -> Unit:
    """Mary found this / these old book."""
    return _determiners(draw, draw.one(ADJECTIVES) + " ")


@paradigm("en", "anaphor_gender_agreement", "anaphor_agreement", "morphology")
def anaphor_gender_agreement(draw: Draw) -> Unit:
    """Mary hurt herself / himself."""
    woman, man = draw.one(WOMEN), draw.one(MEN)
    verb, place = draw.one(REFLEXIVE_PAST), draw.one(PLACES)
    return (
        Contrast(f"{woman} {verb} herself {place}.", f"{woman} {verb} himself {place}."),
        Contrast(f"{man} {verb} himself {place}.", f"{man} {verb} herself {place}."),
    )


@paradigm("en", "anaphor_number_agreement", "anaphor_agreement", "morphology")
def anaphor_number_agreement(draw: Draw) -> Unit:
    """The boys hurt themselves / himself."""
    pool, singular = draw.one(((MASCULINE, "himself"), (FEMININE, "herself")))
    noun, verb, place = draw.one(pool), draw.one(REFLEXIVE_PAST), draw.one(PLACES)
    one, many = f"The {noun.singular} {verb}", f"The {noun.plural} {verb}"
    return (
        Contrast(f"{one} {singular} {place}.", f"{one} themselves {place}."),
        Contrast(f"{many} themselves {place}.", f"{many} {singular} {place}."),
    )


@paradigm("en", "irregular_participle", "irregular_forms", "morphology")
def irregular_participle(draw: Draw) -> Unit:
    """Mary has written / wrote the letter; Tom wrote / written the letter."""
    verb, objects = draw.one(PAST_UNLIKE_PARTICIPLE)
    first, second = draw.two(MEN + WOMEN)
    thing, adjective = draw.one(objects), draw.one(ADJECTIVES)
    what = f"the {adjective} {thing}."
    return (
        Contrast(
            f"{first} has {verb.participle} {what}",
            f"{first} has {verb.past} {what}",
        ),
        Contrast(f"{second} {verb.past} {what}", f"{second} {verb.participle} {what}"),
    )


@paradigm("en", "pronoun_case", "case", "morphology")
def pronoun_case(draw: Draw) -> Unit:
    """Today he / him visited the doctor; today the doctor visited him / he."""
    subject, object_ = draw.one((("he", "him"), ("she", "her"), ("they", "them"), ("we", "us")))
    noun, verb = draw.one(PEOPLE), draw.one(TRANSITIVE_OF_PEOPLE)
    day = draw.one(("Today", "Yesterday", "Later", "Then", "Once"))
    ending = f"{verb.past} the {noun.singular}."
    beginning = f"{day} the {noun.singular} {verb.past}"
    return (
        Contrast(f"{day} {subject} {ending}", f"{day} {object_} {ending}"),
        Contrast(f"{beginning} {object_}.", f"{beginning} {subject}."),
    )


@paradigm("en", "verb_form", "verb_form", "morphology")
def verb_form(draw: Draw) -> Unit:
    """Mary is singing / sing in the park; Tom can sing / singing in the park.

    Without verbs such as ``run``, whose base is a participle too.
    """
    (first, second), place = draw.two(MEN + WOMEN), draw.one(PLACES)
    verb = draw.one([verb for verb in INTRANSITIVE if verb.base != verb.participle])
    be, modal = draw.one(("is", "was")), draw.one(("can", "will", "must", "should", "may"))
    return mirrored(
        f"{first} {be} _ {place}.", f"{second} {modal} _ {place}.", verb.gerund, verb.base
    )


@paradigm("en", "comparison", "comparison", "morphology")
def comparison(draw: Draw) -> Unit:
    """Mary is older / old than the boy; Tom is as old / older as the boy."""
    (first, second), noun = draw.two(MEN + WOMEN), draw.one(PEOPLE)
    positive, comparative = draw.one(COMPARED)
    return mirrored(
        f"{first} is _ than the {noun.singular}.",
        f"{second} is as _ as the {noun.singular}.",
        comparative,
        positive,
    )
