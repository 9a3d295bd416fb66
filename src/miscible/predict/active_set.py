"""Least squares with an elastic-net penalty, exactly, by an active set over a Gram matrix.

Minimised is, with X scaled and y centred,

    |y - X w|^2 / (2 n) + a (r |w|_1 + (1 - r) |w|^2 / 2)

for a descending path of penalties a, each started where the last one ended. Within the orthant of
the active weights this is a linear system: it is solved, weights that would change their sign leave
(one at a time, where they reach 0), and the feature that violates optimality most enters, until
none does (feature-sign search: Lee et al. 2007). The result is exact, also where features repeat
one another, where coordinate descent creeps. The loops are compiled once a machine.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

CHANGES = 40
"""Most changes of the active set of one penalty, per feature; a guard against rounding alone."""
DEPENDENT = 1e-10
"""A feature of which the active ones leave a smaller part unexplained is a sum of these."""
VIOLATED = 1e-9
"""A gradient beyond the penalty by less than this part of the largest penalty is rounding."""
FOLDS = 5
"""Groups of tasks of the inner cross-validation."""


def _compiled(function: Any) -> Any:
    return njit(cache=True, nogil=True)(function)


@_compiled
def moments(features: Any, outcome: Any, rows: Any, gram: Any, moment: Any, scaled: Any) -> Any:
    """Fill X'X / n, X'y / n and the scaled features of all rows.

    Mean and standard deviation are those of *rows*, bool [n], as in `features.Scaling`.

    Returns:
        the mean outcome of *rows*, and centre and scale [F].
    """
    count, width = features.shape
    centre, scale = np.zeros(width), np.zeros(width)
    mean, used = 0.0, 0
    for n in range(count):
        if rows[n]:
            mean += outcome[n]
            used += 1
    mean /= max(used, 1)
    for f in range(width):
        total, there = 0.0, 0
        for n in range(count):
            if rows[n] and np.isfinite(features[n, f]):
                total += features[n, f]
                there += 1
        centre[f] = total / max(there, 1)
        squares = 0.0
        for n in range(count):
            if rows[n] and np.isfinite(features[n, f]):
                squares += (features[n, f] - centre[f]) ** 2
        spread = np.sqrt(squares / max(there, 1))
        scale[f] = spread if spread > 1e-12 * max(abs(centre[f]), 1e-300) else 0.0
    gram[:], moment[:] = 0.0, 0.0
    for n in range(count):
        for f in range(width):
            known = np.isfinite(features[n, f]) and scale[f] > 0
            scaled[n, f] = (features[n, f] - centre[f]) / scale[f] if known else 0.0
        if rows[n]:
            for f in range(width):
                value = scaled[n, f] / used
                moment[f] += value * (outcome[n] - mean)
                for g in range(f + 1):
                    gram[f, g] += value * scaled[n, g]
    for f in range(width):
        for g in range(f):
            gram[g, f] = gram[f, g]
    return mean, centre, scale


@_compiled
def _factor(gram: Any, ridge: float, active: Any, size: int, root: Any) -> int:
    """Factor the active part of the Gram matrix; return the first that depends on those before."""
    for i in range(size):
        for j in range(i + 1):
            value = gram[active[i], active[j]]
            for k in range(j):
                value -= root[i, k] * root[j, k]
            if i == j:
                diagonal = gram[active[i], active[i]] + ridge
                value += ridge
                if value <= DEPENDENT * diagonal:
                    return i
                root[i, i] = np.sqrt(value)
            else:
                root[i, j] = value / root[j, j]
    return size


@_compiled
def _solve(root: Any, size: int, right: Any) -> None:
    """Solve for *right* in place."""
    for i in range(size):
        for k in range(i):
            right[i] -= root[i, k] * right[k]
        right[i] /= root[i, i]
    for i in range(size - 1, -1, -1):
        for k in range(i + 1, size):
            right[i] -= root[k, i] * right[k]
        right[i] /= root[i, i]


@_compiled
def _drop(active: Any, sign: Any, weights: Any, size: int, at: int) -> Any:
    weights[active[at]] = 0.0
    for k in range(at, size - 1):
        active[k], sign[k] = active[k + 1], sign[k + 1]
    return size - 1


@_compiled
def _exchange(gram: Any, active: Any, sign: Any, weights: Any, size: int, root: Any) -> Any:
    """Make room for the last active feature, which is a sum of the others.

    Moving along that sum changes no prediction and makes the weights smaller, until one is 0.
    """
    last, toward = active[size - 1], sign[size - 1]
    share = np.empty(size)
    for k in range(size - 1):
        share[k] = gram[active[k], last]
    _solve(root, size - 1, share)
    step, at = np.inf, -1
    for k in range(size - 1):
        fall = toward * share[k] * sign[k]
        if fall > 1e-12 and abs(weights[active[k]]) / fall < step:
            step, at = abs(weights[active[k]]) / fall, k
    if at < 0:
        return _drop(active, sign, weights, size, size - 1)
    for k in range(size - 1):
        weights[active[k]] -= toward * step * share[k]
    weights[last] += toward * step
    return _drop(active, sign, weights, size, at)


@_compiled
def _minimise(
    gram: Any, moment: Any, weights: Any, active: Any, sign: Any, size: int, root: Any,
    lasso: float, ridge: float, slack: float,
) -> int:  # fmt: skip
    """Minimise for one penalty, from *weights*; return how many features are active."""
    width = len(moment)
    right, barred = np.empty(width), np.zeros(width, dtype=np.bool_)
    for _ in range(CHANGES * width):
        settled = False
        while size and not settled:
            independent = _factor(gram, ridge, active, size, root)
            if independent < size:
                if independent == size - 1:
                    barred[active[size - 1]] = weights[active[size - 1]] != 0.0
                    size = _exchange(gram, active, sign, weights, size, root)
                else:  # rounding made an old one dependent
                    barred[active[independent]] = True
                    size = _drop(active, sign, weights, size, independent)
                continue
            for k in range(size):
                right[k] = moment[active[k]] - lasso * sign[k]
            _solve(root, size, right)
            step, at = 1.0, -1
            for k in range(size):
                if right[k] * sign[k] <= 0.0:
                    old = weights[active[k]]
                    reach = old / (old - right[k]) if old != right[k] else 0.0
                    if reach < step or at < 0:
                        step, at = reach, k
            for k in range(size):
                weights[active[k]] += step * (right[k] - weights[active[k]])
            if at >= 0:
                if step <= 0.0:
                    barred[active[at]] = True
                size = _drop(active, sign, weights, size, at)
            else:
                settled = True
        worst, enters, toward = lasso + slack, -1, 0.0
        for f in range(width):
            if weights[f] != 0.0 or barred[f] or gram[f, f] == 0.0:
                continue
            gradient = moment[f]
            for k in range(size):
                gradient -= gram[f, active[k]] * weights[active[k]]
            if abs(gradient) > worst:
                worst, enters, toward = abs(gradient), f, np.sign(gradient)
        if enters < 0:
            break
        active[size], sign[size] = enters, toward
        size += 1
    return size


@_compiled
def path(gram: Any, moment: Any, penalties: Any, ratio: float) -> Any:
    """Return weights [P, F] for descending penalties; *ratio* 0 is ridge regression."""
    width = len(moment)
    found, weights = np.zeros((len(penalties), width)), np.zeros(width)
    active, sign = np.zeros(width + 1, dtype=np.int64), np.zeros(width + 1)
    root, size = np.zeros((width + 1, width + 1)), 0
    slack = VIOLATED * np.max(np.abs(moment))
    if ratio == 0.0:
        for f in range(width):
            if gram[f, f] > 0:
                active[size] = f
                size += 1
    for p in range(len(penalties)):
        lasso, ridge = penalties[p] * ratio, penalties[p] * (1.0 - ratio)
        if ratio == 0.0:
            right = np.empty(size)
            for k in range(size):
                right[k] = moment[active[k]]
            _factor(gram, ridge, active, size, root)
            _solve(root, size, right)
            for k in range(size):
                weights[active[k]] = right[k]
        else:
            size = _minimise(
                gram, moment, weights, active, sign, size, root, lasso, ridge, slack
            )  # fmt: skip
        found[p] = weights
    return found


@_compiled
def nested(
    features: Any, outcome: Any, first: Any, second: Any, group: Any, groups: int,
    fractions: Any, ratio: float,
) -> Any:  # fmt: skip
    """Fit with the penalty that predicts pairs of held-out tasks best.

    Args:
        features, outcome: float64 [n, F] with NaN for missing cells, and [n].
        first, second: the tasks of a pair.
        group: the inner fold of every task.
        fractions: penalties in descending order, over the smallest that lets no feature in; of
            ridge regression, the penalties.

    Returns:
        weights [F], centre [F], scale [F], intercept, penalty, squared errors [P] summed over the
        held-out pairs (zeros if no fold left anything to learn from).
    """
    count, width = features.shape
    gram, moment, scaled = np.zeros((width, width)), np.zeros(width), np.zeros((count, width))
    rows = np.ones(count, dtype=np.bool_)
    mean, centre, scale = moments(features, outcome, rows, gram, moment, scaled)
    penalties = fractions * (np.max(np.abs(moment)) / ratio if ratio > 0 else 1.0)
    errors = np.zeros(len(penalties))
    inner, pull, inside = np.zeros((width, width)), np.zeros(width), np.zeros((count, width))
    for fold in range(groups):
        used = 0
        for n in range(count):
            rows[n] = group[first[n]] != fold and group[second[n]] != fold
            used += rows[n]
        if used < 2 or used == count:
            continue
        level, _, _ = moments(features, outcome, rows, inner, pull, inside)
        weights = path(inner, pull, penalties, ratio)
        for n in range(count):
            if rows[n]:
                continue
            for p in range(len(penalties)):
                guess = level
                for f in range(width):
                    guess += weights[p, f] * inside[n, f]
                errors[p] += (outcome[n] - guess) ** 2
    best = int(np.argmin(errors)) if errors.max() > 0 else 0
    weights = path(gram, moment, penalties[: best + 1], ratio)[best]
    return weights, centre, scale, mean, penalties[best], errors
