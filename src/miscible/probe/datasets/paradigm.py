"""What a paradigm of the built-in grammar is: a function that draws one balanced unit of pairs.

A *unit* is a few minimal pairs whose good sentences use, taken together, exactly the words of its
bad sentences, capital letters included. A bag of words therefore cannot tell good from bad, and as
long as a unit is not split between train and test, neither can a probe that has seen nothing but
words. Where the contrast is word order one pair is balanced in itself; where it is a word form, its
mirror image (the plural beside the singular) balances it.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias, TypeVar

from miscible.probe.dataset import Competence
from miscible.registry import Registry

T = TypeVar("T")


class Contrast(NamedTuple):
    """A sentence and its wrong counterpart."""

    good: str
    bad: str


Unit: TypeAlias = tuple[Contrast, ...]

SLOT = "_"
"""Stands in a sentence frame for the words that are right in it or wrong."""


def mirrored(first: str, second: str, one: str, other: str) -> Unit:
    """Return two contrasts: *one* is right in the frame *first*, *other* in the frame *second*."""
    return (
        Contrast(first.replace(SLOT, one), first.replace(SLOT, other)),
        Contrast(second.replace(SLOT, other), second.replace(SLOT, one)),
    )


class Draw:
    """Seeded choice of words."""

    def __init__(self, seed: str) -> None:
        self._random = random.Random(seed)

    def one(self, pool: Sequence[T]) -> T:
        """Return one element of *pool*."""
        return self._random.choice(pool)

    def two(self, pool: Sequence[T]) -> tuple[T, T]:
        """Return two different elements of *pool*."""
        first, second = self._random.sample(pool, 2)
        return first, second


@dataclass(frozen=True, slots=True)
class Paradigm:
    """A named generator of units.

    Attributes:
        language: BCP 47 tag.
        name: name within the language.
        phenomenon, competence: place in the taxonomy.
        function: draws one unit.
    """

    language: str
    name: str
    phenomenon: str
    competence: Competence
    function: Callable[[Draw], Unit]


PARADIGMS: Registry[Paradigm] = Registry(
    "paradigm",
    tuple(
        f"miscible.probe.datasets.{language}.{part}"
        for language in ("english", "german", "spanish")
        for part in ("morphology", "syntax", "semantics", "discourse")
    ),
)
"""Paradigms under ``language/name``."""


def paradigm(
    language: str, name: str, phenomenon: str, competence: Competence
) -> Callable[[Callable[[Draw], Unit]], Callable[[Draw], Unit]]:
    """Register the decorated function as a paradigm of *language*."""

    def register(function: Callable[[Draw], Unit]) -> Callable[[Draw], Unit]:
        PARADIGMS.register(
            f"{language}/{name}", Paradigm(language, name, phenomenon, competence, function)
        )
        return function

    return register
