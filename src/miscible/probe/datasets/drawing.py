"""Seeded draws: a task's examples out of all that a corpus offers, balanced and capped.

Everything is drawn by rank: a hash of the seed and of the identity. What is drawn therefore does
not depend on the order of the files, a larger draw contains the smaller one, and of parallel
corpora with the same ids the same sentences are drawn.
"""

from __future__ import annotations

import heapq
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import NamedTuple, TypeVar

from miscible.probe.contract import SourceOptions
from miscible.probe.dataset import Competence, Example, Kind, ProbeDataset, Role, Span

DEFAULT_EXAMPLES = 1000
"""Examples of one task unless a limit is given."""

MIN_EXAMPLES = 10
"""Fewer examples of a class (of a regression: at all) are not enough to learn from."""

SHARES: Mapping[Role, float] = {"train": 0.6, "dev": 0.1, "test": 0.3}
"""Parts of a draw where the corpus itself says what is for training."""

T = TypeVar("T")


class Candidate(NamedTuple):
    """An example that may be drawn.

    Attributes:
        id, label, group, type: see `miscible.probe.dataset.Example`.
        text: what the model reads.
        inputs: characters (start, stop) of each element; a stop of None takes the whole text.
        role: part of the corpus's own split.
    """

    id: str
    text: str
    inputs: tuple[tuple[int, int | None], ...]
    label: str | float
    group: str
    type: str = ""
    role: Role = ""


@dataclass
class Task:
    """A data set before examples are drawn.

    Attributes:
        name: within the corpus.
        phenomenon, competence, kind: see `miscible.probe.dataset.ProbeDataset`.
        candidates: all that could be used.
        excluded: by reason, how many could not.
    """

    name: str
    phenomenon: str
    competence: Competence
    kind: Kind = "classification"
    candidates: list[Candidate] = field(default_factory=list)
    excluded: Counter[str] = field(default_factory=Counter)


def rank(seed: int, identity: str) -> bytes:
    """Return where *identity* stands in the order of a seed's draws."""
    return blake2b(f"{seed}:{identity}".encode(), digest_size=8).digest()


def first_ranked(items: Iterable[T], count: int, key: Callable[[T], bytes]) -> list[T]:
    """Return the *count* items of lowest rank, lowest first, holding no more than them."""
    return heapq.nsmallest(count, items, key=key)


def size_of(role: Role, options: SourceOptions) -> int:
    """Return the most examples that are drawn for a part of a given split, or in all."""
    return max(1, round((options.limit or DEFAULT_EXAMPLES) * SHARES.get(role, 1.0)))


def draw(task: Task, corpus: str, language: str, options: SourceOptions) -> ProbeDataset | None:
    """Return a data set of at most ``options.limit`` examples of a task, or None.

    Classes of fewer than `MIN_EXAMPLES` candidates are left out and counted, as are those that the
    train or the test part of a given split lacks. Of the rest at most the same number is drawn of
    each class: the largest that keeps to the limit, so that rare classes are complete and only
    frequent ones are cut. The values of a regression are drawn as they are distributed.

    None stands for a task that cannot be made: fewer than two classes or values, too few
    candidates, a limit below the number of classes, or nothing to train or to test on.
    """
    candidates, excluded = task.candidates, Counter(task.excluded)
    if task.kind == "classification":
        kept = _classes(candidates)
        usable = [candidate for candidate in candidates if candidate.label in kept]
        excluded["rare classes"] += len(candidates) - len(usable)
        candidates = usable
    candidates = sorted(candidates, key=lambda candidate: rank(options.seed, candidate.id))
    if len(candidates) < MIN_EXAMPLES:
        return None
    drawn: list[Candidate] = []
    for role in sorted({candidate.role for candidate in candidates}):
        of_role = [candidate for candidate in candidates if candidate.role == role]
        size = size_of(role, options)
        drawn += of_role[:size] if task.kind == "regression" else _balanced(of_role, size)
    if len({candidate.label for candidate in drawn}) < 2 or not _complete(drawn):
        return None
    return _dataset(task, f"{corpus}/{task.name}", language, drawn, +excluded)


def _classes(candidates: Sequence[Candidate]) -> set[str | float]:
    counts = Counter(candidate.label for candidate in candidates)
    kept = {label for label, count in counts.items() if count >= MIN_EXAMPLES}
    if any(candidate.role for candidate in candidates):
        for role in ("train", "test"):
            kept &= {candidate.label for candidate in candidates if candidate.role == role}
    return kept


def _complete(drawn: Sequence[Candidate]) -> bool:
    roles = {candidate.role for candidate in drawn}
    return roles == {""} or {"train", "test"} <= roles


def _balanced(candidates: Sequence[Candidate], limit: int) -> list[Candidate]:
    counts = Counter(candidate.label for candidate in candidates)
    cap, left = 0, limit
    for place, count in enumerate(sorted(counts.values())):
        share = left // (len(counts) - place)
        cap = min(share, count)
        if count > share:
            break
        left -= count
    taken: Counter[str | float] = Counter()
    drawn = []
    for candidate in candidates:
        if taken[candidate.label] < cap:
            taken[candidate.label] += 1
            drawn.append(candidate)
    return drawn


def _dataset(
    task: Task, name: str, language: str, drawn: Sequence[Candidate], excluded: Mapping[str, int]
) -> ProbeDataset:
    places: defaultdict[str, int] = defaultdict(lambda: len(places))
    examples = tuple(
        Example(
            candidate.id,
            tuple((Span(places[candidate.text], *element),) for element in candidate.inputs),
            candidate.label,
            candidate.group,
            candidate.type,
        )
        for candidate in drawn
    )
    roles = tuple(candidate.role for candidate in drawn)
    return ProbeDataset(
        name, task.phenomenon, task.competence, language, tuple(places), examples, task.kind,
        splits=(roles,) if any(roles) else (), excluded=dict(excluded),
    )  # fmt: skip
