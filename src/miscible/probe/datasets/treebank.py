"""What a treebank says of a sentence: its words, where they stand in the text, and their tree."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

ROOT = 0
"""Head of the word that no other governs."""


class Word(NamedTuple):
    """One syntactic word (https://universaldependencies.org/format.html).

    Attributes:
        form, upos, features, relation, misc: columns 2, 4, 6, 8 and 10; ``_`` where there is none.
        head: number of the governing word, from 1; `ROOT`; None if the treebank does not say.
        start, stop: characters in the sentence's text.
        shared: whether other words stand at the same characters: German *zum* is *zu* and *dem*.
    """

    form: str
    upos: str
    features: str
    head: int | None
    relation: str
    misc: str
    start: int
    stop: int
    shared: bool


@dataclass(frozen=True, slots=True)
class Sentence:
    """One sentence whose words are found in its text.

    Attributes:
        id: identity within the file.
        place: ``file:line`` of its first word.
        text: what a model reads.
        document: identity of the document, empty if the treebank does not say.
        words: at least one, in order.
        depths: number of edges from each word to the root; None if the heads are no tree.
        comments: what stands above it, ``# name = value``.
    """

    id: str
    place: str
    text: str
    document: str
    words: tuple[Word, ...]
    depths: tuple[int, ...] | None
    comments: Mapping[str, str]

    @property
    def group(self) -> str:
        """What must not be split between train and test."""
        return self.document or self.id


class Token(NamedTuple):
    """Surface token: a word, or several written as one.

    Attributes:
        form: as written.
        words: forms of its words.
        space_after: whether a space follows.
    """

    form: str
    words: Sequence[str]
    space_after: bool


class Place(NamedTuple):
    """Characters of a word, and whether other words share them."""

    start: int
    stop: int
    shared: bool


def rebuilt_text(tokens: Sequence[Token]) -> str:
    """Return the text that *tokens* make."""
    return "".join(token.form + " " * token.space_after for token in tokens).strip()


def align(text: str, tokens: Sequence[Token]) -> list[Place] | None:
    """Return where each word stands in *text*, or None if the tokens are not the text.

    Forms are looked for from left to right; only white space may lie between two of them, and
    white space within a form is as good as any other. Where the words of a token, written one after
    the other, are the token (English *don't*: *do*, *n't*), each has its own part; otherwise all
    of them have the whole token and share it.
    """
    places: list[Place] = []
    end = 0
    for token in tokens:
        start = _skip_spaces(text, end)
        found = _end_of(text, start, token.form)
        if found is None:
            return None
        end = found
        if "".join(token.words) == text[start:end]:
            for form in token.words:
                places.append(Place(start, start + len(form), False))
                start += len(form)
        else:
            places += [Place(start, end, len(token.words) > 1)] * len(token.words)
    return places if not text[end:].strip() else None


def tree_depths(heads: Sequence[int | None]) -> tuple[int, ...] | None:
    """Return the depth of each word, or None unless *heads* are one tree with one root."""
    if heads.count(ROOT) != 1:
        return None
    depths: dict[int, int] = {ROOT: -1}
    for word in range(1, len(heads) + 1):
        path: dict[int, None] = {}
        while word not in depths:
            head = heads[word - 1]
            if word in path or head is None or head > len(heads):
                return None
            path[word] = None
            word = head
        for distance, below in enumerate(reversed(path), 1):
            depths[below] = depths[word] + distance
    return tuple(depths[word] for word in range(1, len(heads) + 1))


def tree_distance(sentence: Sentence, first: int, second: int) -> int:
    """Return the number of edges between two words, counted from 1, of a sentence with a tree."""
    depths = sentence.depths
    if depths is None:
        raise ValueError(f"{sentence.place} has no tree")
    distance = 0
    while first != second:
        if depths[first - 1] < depths[second - 1]:
            first, second = second, first
        first = sentence.words[first - 1].head or ROOT
        distance += 1
    return distance


@lru_cache(maxsize=1024)
def values_of(column: str) -> Mapping[str, str]:
    """Return what a column of ``Name=Value|Name=Value`` says; what has no ``=`` is passed over."""
    pairs = (part.partition("=") for part in column.split("|"))
    return {name: value for name, equals, value in pairs if equals}


def _skip_spaces(text: str, start: int) -> int:
    while start < len(text) and text[start].isspace():
        start += 1
    return start


def _end_of(text: str, start: int, form: str) -> int | None:
    if text.startswith(form, start):
        return start + len(form)
    parts = form.split()
    if len(parts) < 2:
        return None
    for part in parts:
        start = _skip_spaces(text, start)
        if not text.startswith(part, start):
            return None
        start += len(part)
    return start
