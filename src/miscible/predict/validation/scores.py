"""Scores of predictions of held-out pairs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from miscible.predict.pairs import Floats
from miscible.predict.validation.folds import FEWEST, Fold

SAME = 1e-12
"""Predictions that differ by a smaller part of their size are the same."""


@dataclass(frozen=True)
class LotoScore:
    """Leave one task out.

    Attributes:
        tasks, folds: every task that was held out and the Pearson r over its pairs; NaN where the
            task has fewer than three merged pairs, or all of one outcome.
        r_mean, r_sd: mean and standard deviation over folds.
        r_pooled: r over the predictions of all folds at once.
        skill: 1 - SSE / SSE of the training mean, both summed over folds.
    """

    tasks: tuple[str, ...]
    folds: tuple[float, ...]
    r_mean: float
    r_sd: float
    r_pooled: float
    skill: float

    def as_dict(self) -> dict[str, Any]:
        """Return it as plain data."""
        return {
            "r_mean": self.r_mean, "r_sd": self.r_sd, "r_pooled": self.r_pooled,
            "skill": self.skill, "folds": dict(zip(self.tasks, self.folds, strict=True)),
        }  # fmt: skip


@dataclass(frozen=True)
class LktoScore:
    """Leave k tasks out: both tasks of every predicted pair are unseen.

    Attributes:
        k, draws: tasks held out at once, and how many such sets.
        blocks: r within the pairs of each set.
        r: its mean over sets. Blocks are never pooled: their training means differ.
        skill: 1 - SSE / SSE of the training mean, both summed over all sets.
    """

    k: int
    draws: int
    blocks: tuple[float, ...]
    r: float
    skill: float

    def as_dict(self) -> dict[str, Any]:
        """Return it as plain data."""
        return {"r": self.r, "skill": self.skill, "k": self.k, "draws": self.draws}


def correlation(predicted: Floats, outcome: Floats, weights: Floats | None = None) -> float:
    """Return Pearson's r; 0 if the predictions do not differ, NaN if the outcomes do not.

    Args:
        weights: how often each pair counts (of bootstrap samples).
    """
    w = np.ones(len(outcome)) if weights is None else weights
    if np.count_nonzero(w) < FEWEST:
        return math.nan
    total = w.sum()
    x = predicted - (w * predicted).sum() / total
    y = outcome - (w * outcome).sum() / total
    xx, yy = float((w * x * x).sum()), float((w * y * y).sum())
    used = w > 0
    if yy <= _negligible(outcome[used]):
        return math.nan
    if xx <= _negligible(predicted[used]):
        return 0.0
    return float((w * x * y).sum() / math.sqrt(xx * yy))


def _negligible(values: Floats) -> float:
    return float(len(values) * (SAME * np.abs(values).max()) ** 2)


def score_loto(folds: Sequence[Fold], predicted: Sequence[Floats], outcome: Floats) -> LotoScore:
    """Score predictions of the folds of `leave_one_task_out`, one array a fold."""
    each = [correlation(p, outcome[f.test]) for f, p in zip(folds, predicted, strict=True)]
    there = np.array([r for r in each if math.isfinite(r)])
    rows = np.concatenate([fold.test for fold in folds])
    pooled = correlation(np.concatenate(list(predicted)), outcome[rows])
    return LotoScore(
        tuple(fold.held[0] for fold in folds),
        tuple(each),
        float(there.mean()) if len(there) else math.nan,
        float(there.std(ddof=1)) if len(there) > 1 else math.nan,
        pooled,
        skill(folds, predicted, outcome),
    )


def score_lkto(folds: Sequence[Fold], predicted: Sequence[Floats], outcome: Floats) -> LktoScore:
    """Score predictions of the folds of `leave_tasks_out`, one array a fold."""
    each = [correlation(p, outcome[f.test]) for f, p in zip(folds, predicted, strict=True)]
    there = [r for r in each if math.isfinite(r)]
    r = float(np.mean(there)) if there else math.nan
    return LktoScore(
        len(folds[0].held), len(folds), tuple(each), r, skill(folds, predicted, outcome)
    )


def skill(folds: Sequence[Fold], predicted: Sequence[Floats], outcome: Floats) -> float:
    """Return 1 - SSE / SSE of the mean of each fold's training pairs, summed over folds."""
    errors = against = 0.0
    for fold, guess in zip(folds, predicted, strict=True):
        held = outcome[fold.test]
        errors += float(((held - guess) ** 2).sum())
        against += float(((held - outcome[fold.train].mean()) ** 2).sum())
    return 1 - errors / against if against > 0 else math.nan
