"""Many likelihood requests in few forward passes: shared prefixes are computed once.

A request is a sequence of input tokens of which the last few predict a continuation. Requests of
one task share much: the options of a question share the question, few-shot prompts their
examples, the two sentences of a minimal pair their beginning. A *pack* is a set of requests
merged into a forest of tokens, laid out as one row: every token sees exactly its own ancestors
(a mask says so) and has its own depth as position. So nothing is padded, and a prefix is computed
once for all requests that begin with it. A long prefix that the next pack needs as well is kept
in the key-value cache between the two.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

MIN_KEPT = 32
"""Shortest prefix worth keeping in the key-value cache: copying a cache has a price too."""


class Query(NamedTuple):
    """A distinct request: the last ``len(targets)`` of *tokens* predict *targets*."""

    tokens: tuple[int, ...]
    targets: tuple[int, ...]

    @property
    def unscored(self) -> int:
        """Number of leading tokens whose predictions are not asked for."""
        return len(self.tokens) - len(self.targets)


@dataclass
class Pack:
    """A forest of tokens in one row.

    Attributes:
        kept: number of tokens of the common prefix that the previous pack left in the cache.
        keep: number of leading tokens that the next pack wants to find there.
        tokens: tokens to compute, each after its parent.
        parents: index of each token's parent; -1 if that is the end of the kept prefix.
        depths: position of each token in its own sequence.
        members: index of each query, and the indices of the tokens that predict its targets.
    """

    kept: int = 0
    keep: int = 0
    tokens: list[int] = field(default_factory=list)
    parents: list[int] = field(default_factory=list)
    depths: list[int] = field(default_factory=list)
    members: list[tuple[int, list[int]]] = field(default_factory=list)

    @property
    def is_chain(self) -> bool:
        """Whether the pack is one ordinary sequence, for which no mask is needed."""
        return self.kept == 0 and self.parents == list(range(-1, len(self.tokens) - 1))

    def visible(self) -> npt.NDArray[np.bool_]:
        """Return which token sees which: [tokens, kept + tokens]."""
        seen = np.zeros((len(self.tokens), self.kept + len(self.tokens)), dtype=np.bool_)
        seen[:, : self.kept] = True
        for index, parent in enumerate(self.parents):
            if parent >= 0:
                seen[index] = seen[parent]
            seen[index, self.kept + index] = True
        return seen


def plan_packs(queries: Sequence[Query], budget: int) -> list[Pack]:
    """Arrange queries in packs of at most *budget* tokens; a longer query has a pack of its own.

    Queries are taken in lexicographic order, which brings shared prefixes together.
    """
    packs: list[Pack] = []
    for group, kept in _groups(queries, budget):
        if packs:
            packs[-1].keep = kept
        packs.append(_build(queries, group, kept))
    return packs


def _groups(queries: Sequence[Query], budget: int) -> Iterator[tuple[list[int], int]]:
    """Yield the queries of each pack, and how many cached tokens they take over.

    A pack can leave its trunk, the prefix that all its queries share, to the next: it is the
    beginning of its first query, and so of the row.
    """
    group: list[int] = []
    trunk: tuple[int, ...] = ()
    size = reusable = 0  # tokens of the group's forest; those of them that the trunk may provide
    for index in sorted(range(len(queries)), key=lambda i: queries[i].tokens):
        query = queries[index]
        if group:
            first, previous = queries[group[0]].tokens, queries[group[-1]].tokens
            grown = size + len(query.tokens) - _common(previous, query.tokens)
            still = min(reusable, _common(first, query.tokens), query.unscored)
            if grown - _worth(still) <= budget:
                group.append(index)
                size, reusable = grown, still
                continue
            yield group, _worth(reusable)
            trunk = first[: _common(first, previous)]
        group, size = [index], len(query.tokens)
        reusable = min(_common(trunk, query.tokens), query.unscored)
    if group:
        yield group, _worth(reusable)


def _build(queries: Sequence[Query], group: list[int], kept: int) -> Pack:
    pack = Pack(kept=kept)
    path: list[int] = []  # indices of the previous query's tokens, from depth `kept` on
    previous: tuple[int, ...] = ()
    for index in group:
        query = queries[index]
        shared = max(kept, _common(previous, query.tokens))
        del path[shared - kept :]
        for depth in range(shared, len(query.tokens)):
            pack.parents.append(path[-1] if path else -1)
            path.append(len(pack.tokens))
            pack.tokens.append(query.tokens[depth])
            pack.depths.append(depth)
        pack.members.append((index, path[query.unscored - kept :]))
        previous = query.tokens
    return pack


def _worth(kept: int) -> int:
    return kept if kept >= MIN_KEPT else 0


def _common(one: Sequence[int], other: Sequence[int]) -> int:
    """Return the length of the common prefix."""
    length = 0
    for a, b in zip(one, other, strict=False):
        if a != b:
            break
        length += 1
    return length
