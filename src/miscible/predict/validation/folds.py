"""Which pairs are learnt from and which are predicted. Tasks are held out, never pairs alone."""

from __future__ import annotations

from dataclasses import dataclass
from math import comb

import numpy as np
import numpy.typing as npt

from miscible.errors import MiscibleError
from miscible.predict.pairs import Ints, Pairs

FEWEST = 3
"""Tasks that must be left to learn from; pairs within which a correlation is computed."""


@dataclass(frozen=True)
class Fold:
    """One split.

    Attributes:
        held: names of the tasks that are held out.
        train, test: int64, rows of the pairs that are learnt from, and of those predicted.
    """

    held: tuple[str, ...]
    train: Ints
    test: Ints


def leave_one_task_out(pairs: Pairs) -> list[Fold]:
    """Return a fold a task: its pairs are predicted from all others.

    The partner of every predicted pair has been seen in training: this says how well a new model
    is matched with known ones, and most of that is knowing the partner.

    Raises:
        MiscibleError: if there are fewer than four tasks.
    """
    tasks = np.flatnonzero(pairs.seen())
    if len(tasks) <= FEWEST:
        raise MiscibleError(f"leaving one task out needs more than {FEWEST} tasks.")
    folds = [_fold(pairs, tasks[[n]], 1) for n in range(len(tasks))]
    return [fold for fold in folds if len(fold.train) > 1]


def leave_tasks_out(pairs: Pairs, k: int, draws: int, seed: int) -> list[Fold]:
    """Return folds whose predicted pairs are of two unseen tasks, both among *k* drawn ones.

    Draws are different sets of tasks; there are fewer than *draws* where there are not as many
    sets, and those that leave fewer than three pairs to predict are not used.

    Raises:
        MiscibleError: if *k* is less than 3, or leaves fewer than three tasks to learn from.
    """
    tasks = np.flatnonzero(pairs.seen())
    if k < FEWEST:
        raise MiscibleError(
            f"lkto:{k} leaves too few pairs a fold ({comb(k, 2)}): nothing correlates within it.",
            fix="Use lkto:4 or more.",
        )
    if len(tasks) - k < FEWEST:
        raise MiscibleError(
            f"lkto:{k} needs at least {k + FEWEST} tasks; there are {len(tasks)}.",
            fix=f"Use lkto:{len(tasks) - FEWEST} or fewer." if len(tasks) >= 2 * FEWEST else None,
        )
    random, found = np.random.default_rng(seed), dict[tuple[int, ...], Fold]()
    possible = comb(len(tasks), k)
    for _ in range(20 * draws):
        if len(found) == min(draws, possible):
            break
        held = np.sort(random.choice(tasks, k, replace=False))
        found.setdefault(tuple(held.tolist()), _fold(pairs, held, 2))
    folds = [f for f in found.values() if len(f.test) >= FEWEST and len(f.train) > 1]
    if not folds:
        raise MiscibleError(f"no {k} tasks have {FEWEST} merged pairs among them.")
    return folds


def leave_pairs_out(pairs: Pairs, parts: int, seed: int) -> list[Fold]:
    """Return folds of single pairs, both of whose models are mostly known from other pairs.

    It says how well a gap in a table is filled, and nothing about a new model.
    """
    order = np.random.default_rng(seed).permutation(len(pairs))
    tests = [np.sort(order[part::parts]) for part in range(min(parts, len(pairs)))]
    every = np.arange(len(pairs))
    return [Fold((), np.setdiff1d(every, test), test) for test in tests]


def _fold(pairs: Pairs, held: npt.NDArray[np.int64], touching: int) -> Fold:
    out = np.zeros(len(pairs.models), dtype=np.bool_)
    out[held] = True
    touched = pairs.touches(out)
    names = tuple(pairs.models[n] for n in held)
    return Fold(names, np.flatnonzero(touched == 0), np.flatnonzero(touched == touching))
