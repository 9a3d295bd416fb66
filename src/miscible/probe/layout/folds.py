"""Which examples belong together, and in which fold they are test items."""

from __future__ import annotations

import random
from collections.abc import Hashable, Iterable, Sequence

import numpy as np
import numpy.typing as npt

from miscible.errors import DatasetError
from miscible.probe.dataset import MinimalPair

MIN_FOLDS = 3
"""One to test on, one to choose the penalty on, one to train on."""


def groups_of(pairs: Sequence[MinimalPair]) -> npt.NDArray[np.int64]:
    """Return the group of each pair, numbered in order of first occurrence.

    Pairs are in one group if they state the same `MinimalPair.group` or share a sentence, directly
    or through other pairs: a sentence in both train and test would be a leak.
    """
    return joined_groups(
        [
            [("sentence", pair.good), ("sentence", pair.bad)]
            + ([("group", pair.group)] if pair.group else [])
            for pair in pairs
        ]
    )


def joined_groups(links: Sequence[Iterable[Hashable]]) -> npt.NDArray[np.int64]:
    """Return the group of each item: items that share a link, directly or not, are in one."""
    parent = list(range(len(links)))

    def root(index: int) -> int:
        while parent[index] != index:
            parent[index] = parent[parent[index]]
            index = parent[index]
        return index

    first: dict[Hashable, int] = {}
    for index, held in enumerate(links):
        for link in held:
            parent[root(index)] = root(first.setdefault(link, index))
    numbers: dict[int, int] = {}
    found = [numbers.setdefault(root(index), len(numbers)) for index in range(len(links))]
    return np.asarray(found, dtype=np.int64)


def folds_of(
    groups: npt.NDArray[np.int64], count: int, seed: int, where: str
) -> npt.NDArray[np.int64]:
    """Return the fold of each pair: groups stay whole, folds are as equal as that allows.

    Args:
        groups: from `groups_of`.
        count: number of folds wanted; with fewer groups there are as many folds as groups.
        seed: order in which groups of one size are dealt out.
        where: name of the data set, for messages.

    Raises:
        DatasetError: fewer than `MIN_FOLDS` groups or folds.
    """
    sizes = np.bincount(groups)
    count = min(count, len(sizes))
    if count < MIN_FOLDS:
        raise DatasetError(
            f"a probe needs at least {MIN_FOLDS} folds and as many unrelated pairs; "
            f"there are {count}.",
            where=where,
        )
    order = list(range(len(sizes)))
    random.Random(seed).shuffle(order)
    order.sort(key=lambda group: -sizes[group])
    load = [0] * count
    fold_of_group = np.empty(len(sizes), dtype=np.int64)
    for group in order:
        fold = load.index(min(load))
        fold_of_group[group] = fold
        load[fold] += int(sizes[group])
    return fold_of_group[groups]
