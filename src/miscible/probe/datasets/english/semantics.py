"""English semantics: licensing, quantifiers, time, selection."""

from __future__ import annotations

from miscible.probe.datasets.english.lexicon import (
    ADJECTIVES,
    INTRANSITIVE,
    MEN,
    NEVER_TRANSITIVE,
    PEOPLE,
    PLACES,
    SAYING_PAST,
    THINGS,
    TRANSITIVE_OF_PEOPLE,
    TRANSITIVE_OF_THINGS,
    WOMEN,
)
from miscible.probe.datasets.paradigm import Contrast, Draw, Unit, mirrored, paradigm
from miscible.probe.datasets.word_lists import words

_MASSES = words("water milk rice sand bread money sugar salt gold butter")


@paradigm("en", "npi_licensing", "npi_licensing", "semantics")
def npi_licensing(draw: Draw) -> Unit:
    """He said that no boy that the girls like has ever laughed / the boy that no girls like has.

    The negation licenses ``ever`` only from above it.
    """
    (noun, other), verb = draw.two(PEOPLE), draw.one(INTRANSITIVE)
    inner = draw.one(TRANSITIVE_OF_PEOPLE)
    start = f"{draw.one(MEN + WOMEN)} {draw.one(SAYING_PAST)} that"
    clause, rest = f"{other.plural} {inner.base}", f"has ever {verb.participle}."
    return (
        Contrast(
            f"{start} no {noun.singular} that the {clause} {rest}",
            f"{start} the {noun.singular} that no {clause} {rest}",
        ),
    )


@paradigm("en", "existential_there_quantifiers", "quantifiers", "semantics")
def existential_there_quantifiers(draw: Draw) -> Unit:
    """In the park there are many / all books; in the park all / many the books are red.

    Only weak quantifiers stand after ``there are``, only the strong ones here before ``the``.
    """
    weak, strong = draw.one(("many", "several", "few", "three")), draw.one(("all", "both"))
    noun, place = draw.one(THINGS).plural, draw.one(PLACES).capitalize()
    rest = f"the {noun} are {draw.one(ADJECTIVES)}."
    return (
        Contrast(f"{place} there are {weak} {noun}.", f"{place} there are {strong} {noun}."),
        Contrast(f"{place} {strong} {rest}", f"{place} {weak} {rest}"),
    )


@paradigm("en", "tense_time_adverb", "tense", "semantics")
def tense_time_adverb(draw: Draw) -> Unit:
    """Yesterday / Tomorrow Mary visited the doctor; tomorrow / yesterday she will."""
    past = draw.one(("yesterday", "last week", "last year", "two days ago"))
    future = draw.one(("tomorrow", "next week", "next year", "in two days"))
    name, noun = draw.one(MEN + WOMEN), draw.one(PEOPLE)
    verb = draw.one(TRANSITIVE_OF_PEOPLE)
    done = f"{name} {verb.past} the {noun.singular}"
    to_do = f"{name} will {verb.base} the {noun.singular}"
    if draw.one((True, False)):
        return (
            Contrast(f"{past.capitalize()} {done}.", f"{future.capitalize()} {done}."),
            Contrast(f"{future.capitalize()} {to_do}.", f"{past.capitalize()} {to_do}."),
        )
    return (
        Contrast(f"{done} {past}.", f"{done} {future}."),
        Contrast(f"{to_do} {future}.", f"{to_do} {past}."),
    )


@paradigm("en", "animate_subject", "s-selection", "semantics")
def animate_subject(draw: Draw) -> Unit:
    """The boy found the lamp / The lamp found the boy."""
    noun, thing, verb = draw.one(PEOPLE), draw.one(THINGS), draw.one(TRANSITIVE_OF_THINGS)
    first, second = f"the {noun.singular}", f"the {thing.singular}"
    place = draw.one(PLACES)
    return (
        Contrast(
            f"{first.capitalize()} {verb.past} {second} {place}.",
            f"{second.capitalize()} {verb.past} {first} {place}.",
        ),
    )


@paradigm("en", "telicity", "aspect", "semantics")
def telicity(draw: Draw) -> Unit:
    """Mary found the lamp in / for an hour; Tom slept for / in an hour."""
    (first, second), alone = draw.two(MEN + WOMEN), draw.one(NEVER_TRANSITIVE)
    thing = draw.one(THINGS)
    duration = draw.one(("an hour", "two hours", "ten minutes", "three days", "a week"))
    return mirrored(
        f"{first} found the {thing.singular} _ {duration}.",
        f"{second} {alone.past} _ {duration}.",
        "in",
        "for",
    )


@paradigm("en", "mass_count", "countability", "semantics")
def mass_count(draw: Draw) -> Unit:
    """Mary did not want much / many water; Tom did not want many / much books."""
    (first, second), verb = draw.two(MEN + WOMEN), draw.one(TRANSITIVE_OF_THINGS)
    no = draw.one(("did not", "will not", "does not"))
    return mirrored(
        f"{first} {no} {verb.base} _ {draw.one(_MASSES)}.",
        f"{second} {no} {verb.base} _ {draw.one(THINGS).plural}.",
        "much",
        "many",
    )
