"""An iteration of conjugate gradients of a multinomial regression, as machine code.

What lies between its two matrix products; shapes and precision are those of
`miscible.probe.fit.softmax_kernels`.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from miscible.probe.fit.compiled import reordered
from miscible.probe.fit.softmax_kernels import dot

_single = np.float32


@reordered
def bend(chances: Any, change: Any, shift: Any, workspace: Any) -> None:
    """Replace *change* by the change of the residual that it makes, to first order.

    Args:
        chances: probabilities, [classes, rows].
        change: of the logits, without the intercepts, [classes, rows].
        shift: of the intercepts, [classes].
        workspace: overwritten, [4, rows].
    """
    classes, rows = chances.shape
    mean = workspace[0]
    mean[:] = _single(0)
    for c in range(classes):
        for i in range(rows):
            change[c, i] = chances[c, i] * (change[c, i] + shift[c])
            mean[i] += change[c, i]
    for c in range(classes):
        for i in range(rows):
            change[c, i] -= chances[c, i] * mean[i]


@reordered
def follow(
    change: Any,
    ahead: Any,
    image: Any,
    penalty: Any,
    diagonal: Any,
    step: Any,
    left: Any,
    length: Any,
) -> Any:
    """Take a step of preconditioned conjugate gradients (Nocedal & Wright, algorithm 5.3).

    Args:
        change: of the residual along *ahead* (`bend`), [classes, rows].
        ahead: direction; replaced by the next one.
        image: *change* times the rows in its first part; completed to the Hessian times *ahead*.
        penalty: on the weights.
        diagonal: to divide by, as long as a point.
        step: solution so far; moved.
        left: what it leaves of the right side; moved.
        length: product of *left* with itself over the diagonal.

    Returns:
        that product afterwards, and the norm of *left*; 0 and -1 where the curvature is not
        positive, and nothing has moved.
    """
    classes, rows = change.shape
    weights = ahead.size - classes
    for k in range(weights):
        image[k] += penalty * ahead[k]
    for c in range(classes):
        total = _single(0)
        for i in range(rows):
            total += change[c, i]
        image[weights + c] = total
    bending = dot(ahead, image, ahead.size)
    if not bending > 0:
        return _single(0), _single(-1)
    size = length / bending
    square, after = _single(0), _single(0)
    for k in range(ahead.size):
        step[k] += size * ahead[k]
        left[k] -= size * image[k]
        square += left[k] * left[k]
        after += left[k] * left[k] / diagonal[k]
    for k in range(ahead.size):
        ahead[k] = left[k] / diagonal[k] + after / length * ahead[k]
    return after, np.sqrt(square)
