"""What a step of a multinomial regression does between its matrix products, as machine code.

Arrays of a step are of some 10,000 numbers: they stay in the first caches while a kernel passes
over them, where a library's operations, one pass each, would read them from memory dozens of
times. Everything is float32 and contiguous; points, directions and gradients are flat: the weights
of class 0, of class 1, ..., then the intercepts of all classes. The loops are compiled once a
machine.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from miscible.probe.fit.compiled import in_order, reordered

FLAT = 1e-9
"""Least mean curvature of a class: where all rows are told apart with certainty there is none,
and it must not be divided by."""

_NOTHING = 1e-30
"""A product below it is rounding of a step that went nowhere; its inverse would not be finite."""
_TRIALS = 20
_LEAP = 8.0
"""Most that one trial of a line search lengthens the step."""
_FAR = 1e30
_LEAST_EXPONENT = -87.0
"""Below it the exponential is smaller than the smallest normal float32."""
_LOG2_E = 1.44269504
_LN2_HIGH, _LN2_LOW = 0.693359375, -2.12194440e-4
"""The logarithm of 2 in two parts; products of the first with small integers are exact."""

_single = np.float32


@in_order
def _exponentiate(values: Any) -> None:
    """Replace values of at most 0 by their exponentials, to about 1e-7 of each.

    exp(x) = 2^k exp(f) with |f| <= log(2) / 2, the latter by its Taylor series to the seventh
    power; both in order, since the two parts of log(2) must be subtracted one after the other.
    """
    bits = values.view(np.int32)
    for i in range(values.size):
        value = max(values[i], _single(_LEAST_EXPONENT))
        power = np.floor(value * _single(_LOG2_E) + _single(0.5))
        rest = value - power * _single(_LN2_HIGH) - power * _single(_LN2_LOW)
        series = rest * _single(1 / 5040) + _single(1 / 720)
        series = series * rest + _single(1 / 120)
        series = series * rest + _single(1 / 24)
        series = series * rest + _single(1 / 6)
        series = series * rest + _single(0.5)
        series = series * rest * rest + rest + _single(1.0)
        bits[i] = np.int32((np.int32(power) + np.int32(127)) << np.int32(23))
        values[i] *= series


@reordered
def dot(left: Any, right: Any, size: int) -> Any:
    total = _single(0)
    for i in range(size):
        total += left[i] * right[i]
    return total


@reordered
def _chances(logits: Any, change: Any, size: Any, chances: Any, largest: Any) -> None:
    """Fill *chances* with exp(logits + size change), up to a factor for each row."""
    classes, rows = logits.shape
    for i in range(rows):
        largest[i] = logits[0, i] + size * change[0, i]
    for c in range(1, classes):
        for i in range(rows):
            largest[i] = max(largest[i], logits[c, i] + size * change[c, i])
    for c in range(classes):
        for i in range(rows):
            chances[c, i] = logits[c, i] + size * change[c, i] - largest[i]
    _exponentiate(chances.reshape(-1))


@reordered
def differentiate(
    logits: Any, labels: Any, chances: Any, workspace: Any, residual: Any, curvature: Any
) -> None:
    """Fill in the derivatives of the loss at logits.

    Args:
        logits: [classes, rows].
        labels: class of each row, [rows].
        chances: probabilities, up to a factor for each row; overwritten, [classes, rows].
        workspace: overwritten, [4, rows].
        residual: probabilities less truth; overwritten, [classes, rows].
        curvature: mean p (1 - p) of each class, at least `FLAT`; overwritten, [classes].
    """
    classes, rows = logits.shape
    inverse = workspace[1]
    _chances(logits, logits, _single(0), chances, workspace[0])
    inverse[:] = _single(0)
    for c in range(classes):
        for i in range(rows):
            inverse[i] += chances[c, i]
    for i in range(rows):
        inverse[i] = _single(1) / inverse[i]
    for c in range(classes):
        total = _single(0)
        for i in range(rows):
            chance = chances[c, i] * inverse[i]
            residual[c, i] = chance
            total += chance - chance * chance
        curvature[c] = max(total / _single(rows), _single(FLAT))
    for i in range(rows):
        residual[labels[i], i] -= _single(1)


@reordered
def finish_gradient(
    gradient: Any,
    residual: Any,
    point: Any,
    penalty: Any,
    spectrum: Any,
    curvature: Any,
    diagonal: Any,
) -> Any:
    """Add to a gradient what is not a product with the rows; return the bound on the error.

    Args:
        gradient: residual @ rows in its first part; completed.
        residual: [classes, rows].
        point: weights and intercepts.
        penalty: on the weights.
        spectrum: sum of squares along each direction, [directions].
        curvature: see `differentiate`.
        diagonal: that of the Hessian's estimate; overwritten, as long as the point.

    Returns:
        at most the distance of the weights to the optimum, in units of their norm.
    """
    classes, rows = residual.shape
    width = spectrum.size
    weights = classes * width
    free = _single(0)
    for c in range(classes):
        total = _single(0)
        for i in range(rows):
            total += residual[c, i]
        gradient[weights + c] = total
        diagonal[weights + c] = curvature[c] * _single(rows)
        # An intercept is not penalised: its error is the Newton step that it would take alone.
        alone = total / diagonal[weights + c]
        free += alone * alone
        for j in range(width):
            diagonal[c * width + j] = curvature[c] * spectrum[j] + penalty
    for k in range(weights):
        gradient[k] += penalty * point[k]
    norm = np.sqrt(dot(point, point, weights))
    slope = np.sqrt(dot(gradient, gradient, weights))
    return max(slope / (penalty * (norm + _single(1e-6))), np.sqrt(free) / (_single(1) + norm))


@reordered
def descend(
    gradient: Any,
    diagonal: Any,
    steps: Any,
    changes: Any,
    products: Any,
    count: int,
    direction: Any,
) -> None:
    """Fill *direction* with minus the estimated inverse Hessian times the gradient.

    The two-loop recursion of L-BFGS (Nocedal & Wright, Numerical Optimization, algorithm 7.4).

    Args:
        gradient: at the newest point.
        diagonal: positive, the Hessian where nothing is remembered; may differ at every call.
        steps, changes: of the point and the gradient, [pairs, size]; the newest has overwritten
            the oldest.
        products: of each step with its change, [pairs].
        count: number of pairs so far.
        direction: overwritten.
    """
    size, pairs = gradient.size, len(products)
    used = min(count, pairs)
    first = np.zeros(pairs, dtype=np.float32)
    direction[:] = gradient
    for back in range(used):
        at = (count - 1 - back) % pairs
        if products[at] > _NOTHING:
            first[at] = dot(steps[at], direction, size) / products[at]
            for k in range(size):
                direction[k] -= first[at] * changes[at, k]
    scale = _single(1)
    if used:
        newest = (count - 1) % pairs
        length = _single(0)
        for k in range(size):
            length += changes[newest, k] * changes[newest, k] / diagonal[k]
        if products[newest] > _NOTHING and length > _NOTHING:
            scale = products[newest] / length
    for k in range(size):
        direction[k] *= -scale / diagonal[k]
    for back in range(used - 1, -1, -1):
        at = (count - 1 - back) % pairs
        if products[at] > _NOTHING:
            second = first[at] + dot(changes[at], direction, size) / products[at]
            for k in range(size):
                direction[k] -= second * steps[at, k]


@reordered
def advance(
    logits: Any,
    change: Any,
    labels: Any,
    point: Any,
    direction: Any,
    gradient: Any,
    penalty: Any,
    chances: Any,
    workspace: Any,
    step: Any,
) -> None:
    """Go to about the lowest point along a direction.

    Step sizes are found by Newton's method on the derivative, kept within a bracket, until a step
    that halves the derivative at least, and one more.

    Args:
        logits: moved, [classes, rows].
        change: direction @ rows' without the intercepts, which are added, [classes, rows].
        labels: class of each row.
        point: moved.
        direction: to go along.
        gradient: at the point.
        penalty: on the weights.
        chances, workspace: overwritten, [classes, rows] and [4, rows].
        step: of the point; overwritten.
    """
    classes, rows = logits.shape
    weights = point.size - classes
    largest, total, mean, square = workspace[0], workspace[1], workspace[2], workspace[3]
    for c in range(classes):
        for i in range(rows):
            change[c, i] += direction[weights + c]
    slope = dot(gradient, direction, point.size)
    bending = penalty * dot(direction, direction, weights)
    fixed = penalty * dot(point, direction, weights)
    for i in range(rows):
        fixed -= change[labels[i], i]
    size, low, high = _single(1), _single(0), _single(_FAR)
    for _ in range(_TRIALS):
        _chances(logits, change, size, chances, largest)
        total[:], mean[:], square[:] = _single(0), _single(0), _single(0)
        for c in range(classes):
            for i in range(rows):
                weighted = chances[c, i] * change[c, i]
                total[i] += chances[c, i]
                mean[i] += weighted
                square[i] += weighted * change[c, i]
        here, second = fixed + size * bending, bending
        for i in range(rows):
            here += mean[i] / total[i]
            second += square[i] / total[i] - (mean[i] / total[i]) ** 2
        if here < 0:
            low = size
        else:
            high = size
        newton = _single(size - here / second)
        inside = low < newton < min(high, _single(_LEAP) * size)
        good = abs(here) <= 0.5 * abs(slope) and (inside or here == 0)
        if inside:
            size = newton
        elif here != 0:
            size = _single(_LEAP) * size if high >= _single(_FAR) else (low + high) / _single(2)
        if good:
            break
    for k in range(point.size):
        step[k] = size * direction[k]
        point[k] += step[k]
    for c in range(classes):
        for i in range(rows):
            logits[c, i] += size * change[c, i]


@reordered
def remember(gradient: Any, before: Any, step: Any, change: Any) -> Any:
    """Fill *change* with the change of the gradient; return its product with the step."""
    for k in range(gradient.size):
        change[k] = gradient[k] - before[k]
    return dot(step, change, gradient.size)


@reordered
def shift(steps: Any, changes: Any, products: Any, count: int, more: Any, weights: int) -> None:
    """Make what is remembered true of a penalty that is *more* than the one before.

    Args:
        steps, changes, products, count: see `descend`.
        more: change of the penalty.
        weights: number of penalised variables, the first ones.
    """
    for pair in range(min(count, len(products))):
        for k in range(weights):
            changes[pair, k] += more * steps[pair, k]
        products[pair] += more * dot(steps[pair], steps[pair], weights)
