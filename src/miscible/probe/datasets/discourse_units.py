"""Elementary discourse units, as GUM writes them in the column MISC.

``Discourse=elaboration-additional:18->17:0:...`` at a word says that the unit that begins there is
number 18 of the document, and elaborates unit 17. Further relations behind a ``;`` are secondary
(eRST) and not read.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from miscible.probe.datasets.treebank import Sentence, values_of

_RELATION = re.compile(r"([^:;>]+):([0-9]{1,9})(?:->([0-9]{1,9}))?(?=[:;]|$)")
_MULTINUCLEAR = "_m"


class Unit(NamedTuple):
    """A clause or what serves as one.

    Attributes:
        number: within the document.
        relation: to unit *target*, without the mark of relations between equals; ``ROOT`` for none.
        target: number of a unit; None for the root.
        first, last: words of the sentence, from 0.
    """

    number: int
    relation: str
    target: int | None
    first: int
    last: int


def units_of(sentence: Sentence) -> list[Unit]:
    """Return the units that begin in a sentence, in order; each ends where the next begins."""
    begun: list[tuple[int, re.Match[str]]] = []
    for place, word in enumerate(sentence.words):
        match = _RELATION.match(values_of(word.misc).get("Discourse", ""))
        if match:
            begun.append((place, match))
    begins = [place for place, _ in begun] + [len(sentence.words)]
    return [
        Unit(
            int(match[2]),
            match[1].removesuffix(_MULTINUCLEAR),
            int(match[3]) if match[3] else None,
            first,
            following - 1,
        )
        for (first, match), following in zip(begun, begins[1:], strict=True)
    ]
