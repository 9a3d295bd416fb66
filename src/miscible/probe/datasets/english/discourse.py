"""English discourse: connectives, reference across sentences, novelty."""

from __future__ import annotations

from miscible.probe.datasets.english.lexicon import (
    ADJECTIVES,
    ANIMALS,
    INTRANSITIVE,
    MEN,
    PEOPLE,
    PLACES,
    THINGS,
    TRANSITIVE_OF_PEOPLE,
    WOMEN,
)
from miscible.probe.datasets.paradigm import Contrast, Draw, Unit, mirrored, paradigm

_CONSEQUENCES = (
    ("was hungry", "ate the bread", "left the bread alone"),
    ("was tired", "went to bed", "kept on working"),
    ("was thirsty", "drank some water", "refused the water"),
    ("was cold", "put on a coat", "took off the coat"),
    ("was afraid of the dog", "ran away from it", "went up to it"),
    ("hated the movie", "left early", "watched it twice"),
    ("loved the song", "sang it again", "turned it off"),
    ("was ill", "stayed in bed", "went to work"),
    ("was late", "started to run", "walked very slowly"),
    ("was angry", "shouted at everyone", "was nice to everyone"),
    ("was sad", "began to cry", "began to laugh"),
    ("had no money", "bought nothing", "bought everything"),
    ("saw the rain", "stayed inside", "played outside"),
    ("knew the answer", "raised a hand", "said nothing"),
    ("liked the hat", "bought it", "gave it away"),
    ("lost the game", "was unhappy", "was very happy"),
    ("broke the window", "said sorry", "refused to say sorry"),
    ("worked very hard", "passed the test", "failed the test"),
)
"""A state, what follows from it, and what is surprising after it."""

_EVENTS = (
    ("lost the key", "looked for it"),
    ("came home late", "was very tired"),
    ("won the race", "smiled at everyone"),
    ("fell into the lake", "started to swim"),
    ("opened the box", "found a toy in it"),
    ("went to the shop", "bought some milk"),
    ("heard a noise", "ran to the door"),
    ("missed the bus", "had to walk"),
    ("got a letter", "read it at once"),
    ("climbed the tree", "looked at the birds"),
    ("baked a cake", "ate it with joy"),
    ("saw a snake", "jumped back"),
    ("dropped the cup", "cleaned the floor"),
    ("sat by the fire", "fell asleep"),
)
"""What someone did, and what the same person did next."""


@paradigm("en", "connective", "discourse_connectives", "discourse")
def connective(draw: Draw) -> Unit:
    """Mary was hungry, so / but she ate the bread; Mary was hungry, but / so she left it alone."""
    state, expected, surprising = draw.one(_CONSEQUENCES)
    name, pronoun = draw.one([(name, "he") for name in MEN] + [(name, "she") for name in WOMEN])
    so, but = draw.one(((", so", ", but"), (", so", ", yet"), (". Therefore,", ". However,")))
    follows, surprises = f"{pronoun} {expected}.", f"{pronoun} {surprising}."
    start = f"{name} {state}"
    return (
        Contrast(f"{start}{so} {follows}", f"{start}{but} {follows}"),
        Contrast(f"{start}{but} {surprises}", f"{start}{so} {surprises}"),
    )


@paradigm("en", "pronoun_reference", "coreference", "discourse")
def pronoun_reference(draw: Draw) -> Unit:
    """Tom lost the key. He / She looked for it."""
    (first, then), woman, man = draw.one(_EVENTS), draw.one(WOMEN), draw.one(MEN)
    return (
        Contrast(f"{man} {first}. He {then}.", f"{man} {first}. She {then}."),
        Contrast(f"{woman} {first}. She {then}.", f"{woman} {first}. He {then}."),
    )


@paradigm("en", "novelty", "definiteness", "discourse")
def novelty(draw: Draw) -> Unit:
    """Mary saw a dog and the dog was big. / Mary saw the dog and a dog was big."""
    name, noun = draw.one(MEN + WOMEN), draw.one(THINGS + ANIMALS).singular
    adjective = draw.one(ADJECTIVES)
    saw = draw.one(("saw", "found", "bought", "wanted", "liked"))
    return (
        Contrast(
            f"{name} {saw} a {noun} and the {noun} was {adjective}.",
            f"{name} {saw} the {noun} and a {noun} was {adjective}.",
        ),
    )


@paradigm("en", "answer_polarity", "answers", "discourse")
def answer_polarity(draw: Draw) -> Unit:
    """Did Mary help the boy? Yes, she did / did not; Did Mary help the girl? No, she did not."""
    name, pronoun = draw.one([(name, "he") for name in MEN] + [(name, "she") for name in WOMEN])
    (one, other), verb = draw.two(PEOPLE), draw.one(TRANSITIVE_OF_PEOPLE)
    auxiliary = draw.one(("Did", "Will", "Could"))
    says = f"{pronoun} {auxiliary.lower()}"
    start = f"{auxiliary} {name} {verb.base} the"
    return mirrored(
        f"{start} {one.singular}? Yes, _.",
        f"{start} {other.singular}? No, _.",
        says,
        f"{says} not",
    )


@paradigm("en", "additive_polarity", "additive_particles", "discourse")
def additive_polarity(draw: Draw) -> Unit:
    """Mary laughed, and Tom did too / either; Mary did not laugh, and Tom did not either / too."""
    first, second = draw.two(MEN + WOMEN)
    verb, place = draw.one(INTRANSITIVE), draw.one(PLACES)
    return mirrored(
        f"{first} {verb.past} {place}, and {second} did _.",
        f"{first} did not {verb.base} {place}, and {second} did not _.",
        "too",
        "either",
    )
