"""L-BFGS for small problems, whole in machine code: there calls cost more than what they do."""

from __future__ import annotations

from typing import Any

import numpy as np

from miscible.probe.fit.compiled import reordered
from miscible.probe.fit.softmax_kernels import (
    advance,
    descend,
    differentiate,
    dot,
    finish_gradient,
    remember,
)

MOST_PRODUCTS = 2**16
"""Classes times rows times directions up to which loops are as fast as a library's products."""

_single = np.float32


@reordered
def descend_whole(
    rows: Any,
    labels: Any,
    penalty: Any,
    squares: Any,
    point: Any,
    logits: Any,
    steps: Any,
    changes: Any,
    products: Any,
    count: int,
    errors: Any,
    tolerance: float,
    window: int,
) -> Any:
    """Go to the optimum, or until the last steps have not halved the bound on the error.

    Args:
        rows: [rows, directions].
        labels: class of each row.
        penalty: on the weights.
        squares: sum of squares along each direction.
        point, logits: where to start; moved.
        steps, changes, products, count: what is remembered; see `descend`.
        errors: overwritten with the bound at each point; its length is the most steps.
        tolerance: to stop at.
        window: number of steps that must halve the bound.

    Returns:
        the number of bounds in *errors*, and of remembered pairs so far.
    """
    classes, many = logits.shape
    width = rows.shape[1]
    gradient, before = np.zeros_like(point), np.zeros_like(point)
    direction, diagonal = np.zeros_like(point), np.ones_like(point)
    change, chances, residual = np.empty_like(logits), np.empty_like(logits), np.empty_like(logits)
    workspace, curvature = np.empty((4, many), np.float32), np.empty(classes, np.float32)
    number = 0
    while True:
        gradient, before = before, gradient
        differentiate(logits, labels, chances, workspace, residual, curvature)
        gradient[:] = _single(0)
        for c in range(classes):
            here = gradient[c * width : (c + 1) * width]
            for i in range(many):
                for j in range(width):
                    here[j] += residual[c, i] * rows[i, j]
        errors[number] = finish_gradient(
            gradient, residual, point, penalty, squares, curvature, diagonal
        )
        if number:
            at = count % len(products)
            products[at] = remember(gradient, before, steps[at], changes[at])
            count += 1
        number += 1
        if errors[number - 1] <= tolerance or number == len(errors):
            break
        if slow(errors, number, window):
            break
        descend(gradient, diagonal, steps, changes, products, count, direction)
        for c in range(classes):
            along = direction[c * width : (c + 1) * width]
            for i in range(many):
                change[c, i] = dot(along, rows[i], width)
        advance(
            logits, change, labels, point, direction, gradient, penalty, chances, workspace,
            steps[count % len(products)],
        )  # fmt: skip
    return number, count


@reordered
def slow(errors: Any, number: int, window: int) -> bool:
    """Return whether the last steps have not halved the least of the first *number* errors."""
    if number <= window:
        return False
    return bool(errors[number - window : number].min() > 0.5 * errors[: number - window].min())
