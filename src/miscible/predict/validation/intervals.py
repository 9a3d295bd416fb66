"""Intervals of scores: tasks are resampled, as they are what a study has a sample of.

A bootstrap sample draws T of the T tasks with replacement. A pair counts as often as the product of
its tasks' numbers; in a fold that holds out one task, as often as its partner, and the fold as
often as its task. Predictions are kept: the interval says how the score depends on the tasks that
it is computed over.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from miscible.predict.pairs import Examples, Floats
from miscible.predict.validation.folds import FEWEST, Fold

LEVEL = 0.95


def draw_tasks(examples: Examples, samples: int, seed: int) -> Floats:
    """Return float64 [B, T]: how often each model is in a bootstrap sample; unmerged ones never."""
    tasks = np.flatnonzero(examples.pairs.seen())
    random = np.random.default_rng(seed)
    drawn = random.integers(0, len(tasks), (samples, len(tasks)))
    numbers = np.zeros((samples, len(examples.pairs.models)))
    for sample, row in enumerate(drawn):
        numbers[sample] = np.bincount(tasks[row], minlength=numbers.shape[1])
    return numbers


def loto_samples(
    folds: Sequence[Fold], predicted: Sequence[Floats], examples: Examples, numbers: Floats
) -> Floats:
    """Return float64 [B]: the mean r over folds in every sample."""
    place = {name: n for n, name in enumerate(examples.pairs.models)}
    top, bottom = np.zeros(len(numbers)), np.zeros(len(numbers))
    for fold, guess in zip(folds, predicted, strict=True):
        held = place[fold.held[0]]
        first, second = examples.pairs.first[fold.test], examples.pairs.second[fold.test]
        weights = numbers[:, np.where(first == held, second, first)]
        r = _correlations(weights, guess, examples.mean[fold.test])
        there = np.isfinite(r)
        top += np.where(there, r * numbers[:, held], 0.0)
        bottom += np.where(there, numbers[:, held], 0.0)
    return np.where(bottom > 0, top / np.maximum(bottom, 1), np.nan)


def lkto_samples(
    folds: Sequence[Fold], predicted: Sequence[Floats], examples: Examples, numbers: Floats
) -> tuple[Floats, Floats]:
    """Return float64 [B] twice: the mean r over blocks, and the skill, in every sample."""
    top, bottom = np.zeros(len(numbers)), np.zeros(len(numbers))
    errors, against = np.zeros(len(numbers)), np.zeros(len(numbers))
    for fold, guess in zip(folds, predicted, strict=True):
        y = examples.mean[fold.test]
        pairs = examples.pairs
        weights = numbers[:, pairs.first[fold.test]] * numbers[:, pairs.second[fold.test]]
        r = _correlations(weights, guess, y)
        there = np.isfinite(r)
        top += np.where(there, r, 0.0)
        bottom += there
        errors += weights @ (y - guess) ** 2
        against += weights @ (y - examples.mean[fold.train].mean()) ** 2
    r = np.where(bottom > 0, top / np.maximum(bottom, 1), np.nan)
    return r, np.where(against > 0, 1 - errors / np.where(against > 0, against, 1), np.nan)


def interval(samples: Floats) -> tuple[float, float]:
    """Return the 95 % percentile interval; NaN if no sample has a score."""
    there = samples[np.isfinite(samples)]
    if not len(there):
        return float("nan"), float("nan")
    low, high = np.quantile(there, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)


def _correlations(weights: Floats, x: Floats, y: Floats) -> Floats:
    """Weighted r in every sample; 0 where x is constant, NaN with y or with too few pairs."""
    x, y = x - x.mean(), y - y.mean()
    total = np.maximum(weights.sum(axis=1), 1e-300)
    mx, my = weights @ x / total, weights @ y / total
    xx, yy = weights @ x**2 / total - mx**2, weights @ y**2 / total - my**2
    xy = weights @ (x * y) / total - mx * my
    small_x, small_y = 1e-12 * float(x @ x) / len(x), 1e-12 * float(y @ y) / len(y)
    flat: npt.NDArray[np.bool_] = xx <= max(small_x, 1e-30)
    undefined = (yy <= max(small_y, 1e-30)) | ((weights > 0).sum(axis=1) < FEWEST)
    r = np.where(flat, 0.0, xy / np.sqrt(np.where(flat, 1, xx) * np.where(undefined, 1, yy)))
    return np.where(undefined, np.nan, np.clip(r, -1, 1))
