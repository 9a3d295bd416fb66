"""Logistic regressions on Gram matrices, as machine code.

A problem of some hundred rows is a matrix that fits in the first or second cache: what it costs is
decided by passes over memory and by the calls between them, so that a whole fit is one call. The
loops are compiled once a machine.

With labels y in {0, 1} and the Gram matrix K of the rows X, weights w = X' a, and an intercept b
that is not penalised, a problem is

    minimise  sum_i log(1 + exp(-(2 y_i - 1) f_i)) + penalty / 2 a' K a,   f = K a + b.

Newton's method with step halving; its steps come from conjugate gradients (Nocedal & Wright,
Numerical Optimization, algorithm 7.1) in the space of w, whose vectors X' u are represented by u
and by K u. A product with K is all that an iteration needs, and the intercept is eliminated.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from miscible.probe.fit.compiled import in_order, reordered

_WORKSPACES = 9
"""Vectors of a problem's length that a fit needs."""

_MAX_STEPS = 100
_MAX_PRODUCTS = 500
_MAX_HALVINGS = 30
_SLACK = 1e-12
"""Relative rounding error of a sum of losses."""
_FLAT = 1e-12
"""Least total curvature: there is none where all rows are told apart with certainty."""


@reordered
def fit_all(
    grams: Any,
    starts: Any,
    rows: Any,
    sizes: Any,
    labels: Any,
    penalties: Any,
    coefficients: Any,
    intercepts: Any,
    scores: Any,
    converged: Any,
    step: float,
    residual: float,
) -> None:
    """Fit every problem whose penalty is positive, from where it was left; leave the others.

    Args:
        grams: inner products of all rows with the training rows of each split, one split after
            the other, each [rows, training rows].
        starts: where each split's begin in *grams*, [splits].
        rows: numbers of all rows, the training rows of the split first, [splits, rows].
        sizes: numbers of training rows, [splits].
        labels: 0 or 1, [columns, rows].
        penalties: [splits, columns].
        coefficients: of the training rows, in the first places; replaced, [splits, columns, rows].
        intercepts: replaced, [splits, columns].
        scores: of all rows; replaced, [splits, columns, rows].
        converged: replaced, [splits, columns].
        step: largest last Newton step in any training score.
        residual: part of a Newton step that conjugate gradients may leave.
    """
    columns, count = labels.shape
    workspace = np.empty((_WORKSPACES, count))
    for split in range(len(sizes)):
        size = sizes[split]
        gram = grams[starts[split] : starts[split] + count * size].reshape(count, size)
        order = rows[split]
        for column in range(columns):
            if not penalties[split, column] > 0.0:
                continue
            at, said = coefficients[split, column], scores[split, column]
            intercept, finished = _fit(
                gram, order, labels[column], penalties[split, column], at,
                intercepts[split, column], said, step, residual, workspace,
            )  # fmt: skip
            intercepts[split, column], converged[split, column] = intercept, finished
            for i in range(size, count):
                said[order[i]] = intercept + _dot(gram[order[i]], at, size)


@reordered
def _fit(
    gram: Any,
    order: Any,
    labels: Any,
    penalty: Any,
    coefficients: Any,
    intercept: Any,
    said: Any,
    step: Any,
    residual: Any,
    workspace: Any,
) -> Any:
    """Move coefficients and training scores to the optimum.

    Returns:
        the intercept, and whether it is the optimum.
    """
    size = gram.shape[1]
    scores, targets, curvature, rest = workspace[0], workspace[1], workspace[2], workspace[3]
    change, shift, trial, trial_scores = workspace[4], workspace[5], workspace[6], workspace[7]
    for i in range(size):
        scores[i], targets[i] = said[order[i]], labels[order[i]]
    before = _objective(scores, intercept, targets, coefficients, penalty, size)
    largest = math.inf
    for _ in range(_MAX_STEPS):
        total, free = _FLAT, 0.0
        for i in range(size):
            chance = 1.0 / (1.0 + math.exp(-scores[i]))
            curvature[i] = chance * (1.0 - chance)
            rest[i] = targets[i] - chance
            total += curvature[i]
            free -= rest[i]
        for i in range(size):
            rest[i] += curvature[i] * free / total - penalty * coefficients[i]
        _newton_step(
            gram, order, curvature, total, penalty, rest, residual, workspace[6:], change, shift
        )
        mean = free
        for i in range(size):
            mean += curvature[i] * shift[i]
        move, largest = -mean / total, 0.0
        for i in range(size):
            shift[i] += move
            largest = max(largest, abs(shift[i]))
        length = 1.0
        for _ in range(_MAX_HALVINGS):
            for i in range(size):
                trial[i] = coefficients[i] + length * change[i]
                trial_scores[i] = scores[i] + length * shift[i]
            after = _objective(
                trial_scores, intercept + length * move, targets, trial, penalty, size
            )
            if after <= before + _SLACK * (1.0 + abs(before)):
                break
            length /= 2.0
        before = after
        intercept += length * move
        for i in range(size):
            coefficients[i], scores[i] = trial[i], trial_scores[i]
        if largest < step:
            break
    for i in range(size):
        said[order[i]] = scores[i]
    return intercept, largest < step


@reordered
def _newton_step(
    gram: Any,
    order: Any,
    curvature: Any,
    total: Any,
    penalty: Any,
    rest: Any,
    residual: Any,
    workspace: Any,
    change: Any,
    shift: Any,
) -> None:
    """Solve for the Newton step of the weights, the intercept following them.

    Args:
        gram, order, curvature, penalty: of the problem; *total* is the sum of the curvature.
        rest: minus the gradient; overwritten.
        residual: see `fit_all`.
        workspace: overwritten, [3, rows].
        change, shift: the step, and its change of the scores without the intercept; overwritten.
    """
    size = gram.shape[1]
    ahead, ahead_image, images = workspace[0], workspace[1], workspace[2]
    length = _product(gram, order, rest, images)
    for i in range(size):
        change[i], shift[i] = 0.0, 0.0
        ahead[i], ahead_image[i] = rest[i], images[i]
    goal = residual * residual * length
    for _ in range(_MAX_PRODUCTS):
        if not length > 0.0:
            break
        mean = 0.0
        for i in range(size):
            mean += curvature[i] * ahead_image[i]
        mean /= total
        bending = 0.0
        for i in range(size):
            bent = curvature[i] * (ahead_image[i] - mean) + penalty * ahead[i]
            bending += ahead_image[i] * bent
        if not bending > 0.0:
            break
        along = length / bending
        for i in range(size):
            bent = curvature[i] * (ahead_image[i] - mean) + penalty * ahead[i]
            change[i] += along * ahead[i]
            shift[i] += along * ahead_image[i]
            rest[i] -= along * bent
        left = _product(gram, order, rest, images)
        if not left > goal:
            break
        turn, length = left / length, left
        for i in range(size):
            ahead[i] = rest[i] + turn * ahead[i]
            ahead_image[i] = images[i] + turn * ahead_image[i]


@reordered
def _product(gram: Any, order: Any, vector: Any, image: Any) -> Any:
    """Fill *image* with the training rows' matrix times a vector; return the product of both."""
    size = gram.shape[1]
    for i in range(size):
        image[i] = _dot(gram[order[i]], vector, size)
    return _dot(image, vector, size)


@reordered
def _dot(left: Any, right: Any, size: int) -> Any:
    total = 0.0
    for i in range(size):
        total += left[i] * right[i]
    return total


@reordered
def _objective(
    scores: Any, intercept: Any, targets: Any, coefficients: Any, penalty: Any, size: int
) -> Any:
    loss, norm = 0.0, 0.0
    for i in range(size):
        score = scores[i]
        loss += max(score, 0.0) + math.log1p(math.exp(-abs(score))) - targets[i] * score
        norm += coefficients[i] * (score - intercept)
    return loss + penalty / 2.0 * norm


@in_order
def scale_rows(rows: Any, which: Any, factor: Any, scaled: Any) -> None:
    """Fill the first rows of *scaled* with some rows times the factor of each feature."""
    for i in range(len(which)):
        for j in range(len(factor)):
            scaled[i, j] = rows[which[i], j] * factor[j]
