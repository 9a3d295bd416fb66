"""English syntax: dependencies, islands, argument structure, binding."""

from __future__ import annotations

from miscible.probe.datasets.english.lexicon import (
    INTRANSITIVE,
    MEN,
    NEVER_TRANSITIVE,
    PEOPLE,
    PLACES,
    REFLEXIVE_PAST,
    SAYING_PAST,
    THINGS,
    TRANSITIVE_OF_PEOPLE,
    TRANSITIVE_OF_THINGS,
    WOMEN,
)
from miscible.probe.datasets.paradigm import Contrast, Draw, Unit, mirrored, paradigm

NAMES = MEN + WOMEN

_PARTICLE_VERBS = (
    ("picked", "up"), ("put", "down"), ("threw", "away"), ("gave", "back"), ("brought", "back"),
    ("wrote", "down"), ("took", "away"), ("sent", "back"),
)  # fmt: skip


@paradigm("en", "filler_gap", "filler_gap_dependency", "syntax")
def filler_gap(draw: Draw) -> Unit:
    """Mary knew what / that the boy found; Mary knew that / what the boy found the ball."""
    name, noun = draw.one(NAMES), draw.one(PEOPLE)
    verb, thing = draw.one(TRANSITIVE_OF_THINGS), draw.one(THINGS)
    knew = draw.one(("knew", "learned", "remembered", "forgot"))
    with_gap = f"the {noun.singular} {verb.past}."
    without_gap = f"the {noun.singular} {verb.past} the {thing.singular}."
    return (
        Contrast(f"{name} {knew} what {with_gap}", f"{name} {knew} that {with_gap}"),
        Contrast(f"{name} {knew} that {without_gap}", f"{name} {knew} what {without_gap}"),
    )


@paradigm("en", "adjunct_island", "island_effects", "syntax")
def adjunct_island(draw: Draw) -> Unit:
    """What did Mary find before fixing the lamp? / What did Mary find the lamp before fixing?"""
    name, (outer, inner) = draw.one(NAMES), draw.two(TRANSITIVE_OF_THINGS)
    thing, link = draw.one(THINGS), draw.one(("before", "after", "without", "while"))
    start, noun = f"What did {name} {outer.base}", f"the {thing.singular}"
    return (
        Contrast(
            f"{start} {link} {inner.gerund} {noun}?",
            f"{start} {noun} {link} {inner.gerund}?",
        ),
    )


@paradigm("en", "coordinate_structure", "island_effects", "syntax")
def coordinate_structure(draw: Draw) -> Unit:
    """Who did Mary and the boy help? / Who did Mary help and the boy?"""
    name, noun, verb = draw.one(NAMES), draw.one(PEOPLE), draw.one(TRANSITIVE_OF_PEOPLE)
    number = draw.one((noun.singular, noun.plural))
    place = draw.one(PLACES)
    return (
        Contrast(
            f"Who did {name} and the {number} {verb.base} {place}?",
            f"Who did {name} {verb.base} and the {number} {place}?",
        ),
    )


@paradigm("en", "transitivity", "argument_structure", "syntax")
def transitivity(draw: Draw) -> Unit:
    """Mary found / smiled the ball; Tom smiled / found in the park."""
    first, second = draw.two(NAMES)
    taking, alone = draw.one(TRANSITIVE_OF_THINGS), draw.one(NEVER_TRANSITIVE)
    thing, place = draw.one(THINGS), draw.one(PLACES)
    return (
        Contrast(
            f"{first} {taking.past} the {thing.singular}.",
            f"{first} {alone.past} the {thing.singular}.",
        ),
        Contrast(f"{second} {alone.past} {place}.", f"{second} {taking.past} {place}."),
    )


@paradigm("en", "binding_domain", "binding", "syntax")
def binding_domain(draw: Draw) -> Unit:
    """Mary said that Tom hurt himself / herself: only the nearer subject binds (principle A)."""
    woman, man = draw.one(WOMEN), draw.one(MEN)
    said, verb = draw.one(SAYING_PAST), draw.one(REFLEXIVE_PAST)
    his, hers = f"{woman} {said} that {man} {verb}", f"{man} {said} that {woman} {verb}"
    return (
        Contrast(f"{his} himself.", f"{his} herself."),
        Contrast(f"{hers} herself.", f"{hers} himself."),
    )


@paradigm("en", "question_inversion", "word_order", "syntax")
def question_inversion(draw: Draw) -> Unit:
    """Has the boy that is running helped Mary? / Is the boy that running has helped Mary?

    Only the auxiliary of the main clause may be fronted (structure dependence). In the mirror image
    the other one is: Is the boy that has helped Mary running?
    """
    noun, name = draw.one(PEOPLE), draw.one(NAMES)
    running, helped = draw.one(INTRANSITIVE).gerund, draw.one(TRANSITIVE_OF_PEOPLE).participle
    subject = f"the {noun.singular} that"
    return (
        Contrast(
            f"Has {subject} is {running} {helped} {name}?",
            f"Is {subject} {running} has {helped} {name}?",
        ),
        Contrast(
            f"Is {subject} has {helped} {name} {running}?",
            f"Has {subject} {helped} {name} is {running}?",
        ),
    )


@paradigm("en", "negation_placement", "negation", "syntax")
def negation_placement(draw: Draw) -> Unit:
    """Mary did not help the boy / Mary not did help the boy."""
    name, noun, verb = draw.one(NAMES), draw.one(PEOPLE), draw.one(TRANSITIVE_OF_PEOPLE)
    auxiliary = draw.one(("did", "does", "will", "could", "should"))
    rest = f"{verb.base} the {draw.one((noun.singular, noun.plural))}."
    return (Contrast(f"{name} {auxiliary} not {rest}", f"{name} not {auxiliary} {rest}"),)


@paradigm("en", "particle_placement", "particle_placement", "syntax")
def particle_placement(draw: Draw) -> Unit:
    """Mary picked it up in the garden / Mary picked up it in the garden."""
    name, (verb, particle), place = draw.one(NAMES), draw.one(_PARTICLE_VERBS), draw.one(PLACES)
    pronoun = draw.one(("it", "them"))
    return (
        Contrast(
            f"{name} {verb} {pronoun} {particle} {place}.",
            f"{name} {verb} {particle} {pronoun} {place}.",
        ),
    )


@paradigm("en", "paired_conjunctions", "coordination", "syntax")
def paired_conjunctions(draw: Draw) -> Unit:
    """Mary found both the cup and / or the map; Tom found either the cup or / and the map."""
    (first, second), (one, other) = draw.two(NAMES), draw.two(THINGS)
    verb = draw.one(TRANSITIVE_OF_THINGS).past
    return mirrored(
        f"{first} {verb} both the {one.singular} _ the {other.singular}.",
        f"{second} {verb} either the {one.singular} _ the {other.singular}.",
        "and",
        "or",
    )


@paradigm("en", "verbal_complement", "complementation", "syntax")
def verbal_complement(draw: Draw) -> Unit:
    """Mary decided to sing / singing in the park; Tom enjoyed singing / to sing in the park."""
    (first, second), verb, place = draw.two(NAMES), draw.one(INTRANSITIVE), draw.one(PLACES)
    return mirrored(
        f"{first} {draw.one(('decided', 'hoped', 'pretended', 'happened'))} _ {place}.",
        f"{second} {draw.one(('enjoyed', 'avoided', 'kept'))} _ {place}.",
        f"to {verb.base}",
        verb.gerund,
    )
