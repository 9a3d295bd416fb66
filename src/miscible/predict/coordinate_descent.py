"""Least squares with an elastic-net penalty, by coordinate descent over a Gram matrix.

The loops are compiled once a machine. Minimised is, with X scaled and y centred,

    |y - X w|^2 / (2 n) + a (r |w|_1 + (1 - r) |w|^2 / 2)

for a descending path of penalties a, each started where the last one ended. A sweep costs F steps
plus F for every weight that moves. Weights that did not move in a sweep are left alone until the
others have settled; then all are looked at again.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

SWEEPS = 10_000
"""Most sweeps of one penalty. Exact duplicates among features settle slowly, if at all."""
FOLDS = 5
"""Groups of tasks of the inner cross-validation."""


@njit(cache=True)  # type: ignore[untyped-decorator]
def _scale(features: Any, rows: Any, centre: Any, scale: Any) -> None:
    """Set mean and standard deviation of the rows that count, as `features.Scaling` does."""
    for f in range(features.shape[1]):
        total, count = 0.0, 0
        for n in range(features.shape[0]):
            if rows[n] and np.isfinite(features[n, f]):
                total += features[n, f]
                count += 1
        mean = total / max(count, 1)
        squares = 0.0
        for n in range(features.shape[0]):
            if rows[n] and np.isfinite(features[n, f]):
                squares += (features[n, f] - mean) ** 2
        spread = np.sqrt(squares / max(count, 1))
        centre[f] = mean
        scale[f] = spread if spread > 1e-12 * max(abs(mean), 1e-300) else 0.0


@njit(cache=True)  # type: ignore[untyped-decorator]
def _moments(features: Any, outcome: Any, rows: Any, gram: Any, moment: Any, scaled: Any) -> Any:
    """Fill X'X / n and X'y / n of scaled features; return the mean outcome and the scaling."""
    count, width = features.shape
    centre, scale = np.zeros(width), np.zeros(width)
    _scale(features, rows, centre, scale)
    mean, used = 0.0, 0
    for n in range(count):
        if rows[n]:
            mean += outcome[n]
            used += 1
    mean /= max(used, 1)
    gram[:], moment[:] = 0.0, 0.0
    for n in range(count):
        for f in range(width):
            there = np.isfinite(features[n, f]) and scale[f] > 0
            scaled[n, f] = (features[n, f] - centre[f]) / scale[f] if there else 0.0
    for n in range(count):
        if not rows[n]:
            continue
        for f in range(width):
            value = scaled[n, f] / used
            moment[f] += value * (outcome[n] - mean)
            for g in range(f + 1):
                gram[f, g] += value * scaled[n, g]
    for f in range(width):
        for g in range(f):
            gram[g, f] = gram[f, g]
    return mean, centre, scale


@njit(cache=True)  # type: ignore[untyped-decorator]
def _descend(gram: Any, gradient: Any, weights: Any, lasso: float, ridge: float, tol: float) -> int:
    """Minimise for one penalty; *gradient* is X'(y - X w) / n and is kept up to date."""
    width = len(weights)
    moving = np.ones(width, dtype=np.bool_)
    everything = True
    for sweep in range(SWEEPS):
        largest = 0.0
        for f in range(width):
            if not moving[f] or gram[f, f] == 0.0:
                continue
            old = weights[f]
            pull = gradient[f] + gram[f, f] * old
            new = np.sign(pull) * max(abs(pull) - lasso, 0.0) / (gram[f, f] + ridge)
            change = new - old
            if change != 0.0:
                weights[f] = new
                for g in range(width):
                    gradient[g] -= change * gram[f, g]
                largest = max(largest, abs(change))
            moving[f] = new != 0.0
        if largest <= tol:
            if everything:
                return sweep + 1
            moving[:] = True
            everything = True
        else:
            everything = False
    return SWEEPS


@njit(cache=True)  # type: ignore[untyped-decorator]
def path(gram: Any, moment: Any, penalties: Any, ratio: float, tol: float) -> Any:
    """Return weights [P, F] for descending penalties."""
    width = len(moment)
    found = np.zeros((len(penalties), width))
    weights, gradient = np.zeros(width), moment.copy()
    for p in range(len(penalties)):
        _descend(gram, gradient, weights, penalties[p] * ratio, penalties[p] * (1.0 - ratio), tol)
        found[p] = weights
    return found


@njit(cache=True)  # type: ignore[untyped-decorator]
def nested(
    features: Any, outcome: Any, first: Any, second: Any, group: Any, groups: int,
    fractions: Any, ratio: float, tol: float,
) -> Any:  # fmt: skip
    """Fit with the penalty that predicts pairs of held-out tasks best.

    Args:
        features, outcome: float64 [n, F] with NaN for missing cells, and [n].
        first, second: the tasks of a pair.
        group: the inner fold of every task.
        fractions: penalties in descending order, over the smallest that lets no feature in.

    Returns:
        weights [F], centre [F], scale [F], intercept, penalty, squared errors [P] summed over the
        held-out pairs (zeros if no fold left anything to learn from).
    """
    count, width = features.shape
    gram, moment, scaled = np.zeros((width, width)), np.zeros(width), np.zeros((count, width))
    rows = np.ones(count, dtype=np.bool_)
    mean, centre, scale = _moments(features, outcome, rows, gram, moment, scaled)
    largest = np.max(np.abs(moment)) / ratio
    penalties = fractions * largest
    errors = np.zeros(len(penalties))
    inner, pull, inside = np.zeros((width, width)), np.zeros(width), np.zeros((count, width))
    for fold in range(groups):
        used = 0
        for n in range(count):
            rows[n] = group[first[n]] != fold and group[second[n]] != fold
            used += rows[n]
        if used < 2 or used == count:
            continue
        level, _, _ = _moments(features, outcome, rows, inner, pull, inside)
        weights = path(inner, pull, penalties, ratio, tol)
        for n in range(count):
            if rows[n]:
                continue
            for p in range(len(penalties)):
                guess = level
                for f in range(width):
                    guess += weights[p, f] * inside[n, f]
                errors[p] += (outcome[n] - guess) ** 2
    best = int(np.argmin(errors)) if errors.max() > 0 else 0
    weights = path(gram, moment, penalties[: best + 1], ratio, tol)[best]
    return weights, centre, scale, mean, penalties[best], errors
