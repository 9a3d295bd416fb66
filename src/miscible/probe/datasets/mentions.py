"""Mentions of entities, as GUM and CorefUD write them in the column MISC.

``Entity=(1-person-new(2-place-giv`` opens two mentions at a word, ``Entity=2)1)`` closes them, and
``Entity=(3-object-new)`` is one of a single word. What the parts between hyphens are is said by a
comment at the head of the document: ``# global.Entity = GRP-etype-infstat-...``.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

from miscible.probe.datasets.treebank import ROOT, Sentence, values_of

MAX_MENTIONS = 200
"""Most mentions of one sentence, and most that are open at once."""

_BRACKET = re.compile(r"(\(?)([^()]+)(\)?)")
_ENTITY_NAMES = ("GRP", "eid")
_TYPE, _STATUS = "etype", "infstat"


class Mention(NamedTuple):
    """A stretch of words that refers to something.

    Attributes:
        entity: what it refers to, unique within a document.
        type: kind of thing (``person``), empty if not annotated.
        status: information status (``new``, ``giv:act``), empty if not annotated.
        first, last: words of the sentence, from 0.
    """

    entity: str
    type: str
    status: str
    first: int
    last: int


def attributes_of(comment: str) -> tuple[str, ...]:
    """Return what the parts of a mention are, from the value of ``# global.Entity``."""
    return tuple(part.strip() for part in comment.split("-"))


def mentions_of(sentence: Sentence, attributes: Sequence[str]) -> tuple[list[Mention], int]:
    """Return the mentions of a sentence in order, the longer first, and how many could not be read.

    Not read are mentions in several parts (``1[1/2]``), brackets without a partner, and mentions
    beyond `MAX_MENTIONS`.
    """
    found: list[Mention] = []
    opened: list[tuple[dict[str, str], int]] = []
    broken = 0
    for place, word in enumerate(sentence.words):
        brackets = values_of(word.misc).get("Entity", "")
        read = 0
        for bracket in _BRACKET.finditer(brackets):
            read += len(bracket[0])
            begins, inside, ends = bracket.groups()
            entity = inside.partition("-")[0]
            if begins:
                parts = dict(zip(attributes, inside.split("-"), strict=False))
                entity = _entity(parts)
                opened.append((parts, place))
            if begins and not ends:
                continue
            depth = _innermost(opened, entity) if ends else None
            if depth is None:
                broken += 1
                continue
            parts, first = opened.pop(depth)
            if "[" in entity or len(found) == MAX_MENTIONS:
                broken += 1
            else:
                found.append(
                    Mention(entity, parts.get(_TYPE, ""), parts.get(_STATUS, ""), first, place)
                )
        broken += read < len(brackets)
    return sorted(found, key=lambda mention: (mention.first, -mention.last)), broken + len(opened)


def head_of(sentence: Sentence, mention: Mention) -> str:
    """Return the lower-cased form of the first word that no other word of the mention governs."""
    inside = range(mention.first + 1, mention.last + 2)
    for word in sentence.words[mention.first : mention.last + 1]:
        if word.head is None or word.head == ROOT or word.head not in inside:
            return word.form.lower()
    return sentence.words[mention.last].form.lower()


def _entity(parts: dict[str, str]) -> str:
    return next((parts[name] for name in _ENTITY_NAMES if name in parts), "")


def _innermost(opened: Sequence[tuple[dict[str, str], int]], entity: str) -> int | None:
    for depth in range(len(opened) - 1, max(-1, len(opened) - 1 - MAX_MENTIONS), -1):
        if _entity(opened[depth][0]) == entity:
            return depth
    return None
