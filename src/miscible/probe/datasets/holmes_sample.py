"""A sample of rows in which every split keeps its proportions."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Sequence
from typing import Protocol, TypeVar

from miscible.errors import DatasetError
from miscible.keys import content_key
from miscible.probe.dataset import Role


class SplitRow(Protocol):
    """A row with its role in each split."""

    @property
    def id(self) -> str: ...
    @property
    def label(self) -> str | float: ...
    @property
    def roles(self) -> tuple[Role, ...]: ...


R = TypeVar("R", bound=SplitRow)

_NEEDED: frozenset[Role] = frozenset(("train", "test"))


def sample(rows: Sequence[R], limit: int | None, seed: int, where: str) -> list[R]:
    """Return at most *limit* rows, in their order; drawn by their content and *seed*.

    Rows with the same role in every split are a stratum. Strata keep their proportions (largest
    remainders); one that would get nothing gets a row if there are no more strata than *limit*.

    Raises:
        DatasetError: a split loses what it trains or tests on.
    """
    if limit is None or len(rows) <= limit:
        return list(rows)
    strata: dict[tuple[Role, ...], list[int]] = defaultdict(list)
    for index, row in enumerate(rows):
        strata[row.roles].append(index)
    content = content_key(rows=[(row.id, row.label, row.roles) for row in rows])
    generator = random.Random(f"{content}:{seed}")
    order = sorted(strata)
    sizes = quotas([len(strata[roles]) for roles in order], limit)
    drawn = [
        index
        for roles, size in zip(order, sizes, strict=True)
        for index in generator.sample(strata[roles], size)
    ]
    kept = [rows[index] for index in sorted(drawn)]
    for split in range(len(rows[0].roles)):
        whole, left = ({row.roles[split] for row in part} for part in (rows, kept))
        if whole & _NEEDED > left & _NEEDED:
            raise DatasetError(
                f"with {limit} rows a split has nothing to train or nothing to test on.",
                where=where,
                fix="Raise the limit.",
            )
    return kept


def quotas(sizes: Sequence[int], limit: int) -> list[int]:
    """Return how many of *limit* fall to each stratum; none exceeds its size.

    Args:
        sizes: of the strata, together more than *limit*.
        limit: how many there are to give.
    """
    total = sum(sizes)
    shares = [limit * size // total for size in sizes]
    remainders = [limit * size % total for size in sizes]
    largest = sorted(range(len(sizes)), key=lambda place: (-remainders[place], place))
    for place in largest[: limit - sum(shares)]:
        shares[place] += 1
    if len(sizes) <= limit:
        for place in range(len(sizes)):
            if not shares[place]:
                shares[max(range(len(sizes)), key=shares.__getitem__)] -= 1
                shares[place] = 1
    return shares
