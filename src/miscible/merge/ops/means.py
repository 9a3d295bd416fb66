"""Means of weight tensors, on the line and on the sphere: coefficients from inner products.

Every spherical mean of vectors is a combination of them whose coefficients follow from their Gram
matrix, so no function here touches a weight: it maps a small float64 matrix to a few numbers.
Those named ``each`` take a stack of matrices, [stack, models, models], and return [stack, models].
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

COLINEAR = 0.9995
"""Cosine beyond which slerp replaces the great circle by the line."""
PARALLEL = 1.0 - 5e-13
"""Cosine beyond which double precision no longer tells an angle from 0, or from 180 degrees."""
SMALLEST_NORM = 1e-8
"""Below it, a vector counts as one without a direction."""
SMALLEST_LENGTH = 1e-7
"""Length of a combination of unit vectors below which their Gram matrix holds rounding only."""
SMALLEST_SINE = 1e-6
"""Sine of an angle below which its direction on the sphere is rounding."""
SMALLEST_SPREAD = 1e-6
"""Squared length of a sum of unit vectors, over their number, that counts as nothing."""


def slerp_coefficients(gram: np.ndarray, t: float, *, colinear: float = COLINEAR) -> list[float]:
    """Return the coefficients of the two raw vectors in their spherical interpolation.

    Shoemake, SIGGRAPH 1985; *t* may lie outside [0, 1]. Vectors whose cosine is beyond *colinear*
    in magnitude are interpolated on the line; a vector without a direction is orthogonal to all.
    """
    return _floats(slerp_coefficients_each(gram[None], t, colinear=colinear)[0])


def slerp_coefficients_each(
    gram: np.ndarray, t: float, *, colinear: float = COLINEAR
) -> np.ndarray:
    """Do the same for a stack of matrices."""
    import numpy as np

    cosine = cosines(gram)[..., 0, 1]
    straight = np.abs(cosine) > colinear
    angle = np.arccos(np.where(straight, 0.0, cosine))
    sine = np.sin(angle)
    first = np.where(straight, 1.0 - t, np.sin((1.0 - t) * angle) / sine)
    second = np.where(straight, t, np.sin(t * angle) / sine)
    return np.stack([first, second], axis=-1)


def model_stock_coefficients(gram: np.ndarray) -> list[float]:
    """Return the coefficients of two deltas or more in Model Stock (2403.19522).

    N deltas whose mean pairwise cosine is c are averaged and multiplied by N c / (1 + (N - 1) c),
    which is below 0 where c is. Deltas that sum to nothing give 0. The cosine of a zero delta is 0.
    """
    return _floats(model_stock_coefficients_each(gram[None])[0])


def model_stock_coefficients_each(gram: np.ndarray) -> np.ndarray:
    """Do the same for a stack of matrices."""
    import numpy as np

    count = gram.shape[-1]
    cosine = cosines(gram, smallest=0.0)[..., ~np.eye(count, dtype=bool)].mean(axis=-1)
    spread = 1.0 + (count - 1) * cosine  # of units: the square of their sum over their number
    vanishes = spread < SMALLEST_SPREAD
    share = np.where(vanishes, 0.0, count * cosine / np.where(vanishes, 1.0, spread))
    return np.repeat(share[..., None] / count, count, axis=-1)


def multislerp_coefficients(
    gram: np.ndarray, weights: Sequence[float], eps: float = 0.0
) -> list[float] | None:
    """Return the coefficients of raw vectors in their weighted mean on the sphere, taken once.

    The mean direction is that of the weighted sum of the unit vectors, the length the weighted sum
    of the norms. (The step of the barycentre from there within the tangent space is zero: weighted
    projections of the units onto the plane orthogonal to their own weighted sum cancel.) One vector
    is returned, and two whose directions cancel are added on the line. Zero vectors have no
    direction, but count in the length.

    Args:
        weights: a number a model.
        eps: length of the weighted sum of units, relative to the sum of the weights' magnitudes,
            below which directions cancel; at least `SMALLEST_LENGTH`.

    Returns:
        None where the directions of three or more vectors cancel.
    """
    import numpy as np

    if len(gram) == 1:
        return [1.0]
    wanted = np.asarray(weights, dtype=np.float64)
    norms = _norms(gram)
    if not norms.any() or not wanted.any():
        return list(weights)
    direction = wanted / np.where(norms > 0.0, norms, 1.0) * (norms > 0.0)
    length = _length(gram, direction)
    if length <= max(eps, SMALLEST_LENGTH) * np.abs(wanted).sum():
        return list(weights) if len(gram) == 2 else None
    return _floats(direction * (wanted @ norms) / length)


def karcher_coefficients(gram: np.ndarray, max_iter: int, tol: float) -> list[float]:
    """Return the coefficients of raw vectors in their Karcher mean on the sphere.

    The mean direction m minimises the squared angles to all: starting from the mean of the units,
    m moves along the mean of their logarithms until that is no longer than *tol*, or *max_iter*
    times (Buss and Fillmore, ACM Trans. Graph. 20(2), 2001, algorithm A1). The length is the
    mean of the norms. Zero vectors have no direction, but count in the length. Of directions that
    cancel, the first is taken.
    """
    import numpy as np

    norms = _norms(gram)
    alive = norms > 0.0
    count = int(alive.sum())
    if len(gram) == 1 or count == 0:
        return [1.0 / len(gram)] * len(gram)
    units = cosines(gram, smallest=0.0)[np.ix_(alive, alive)]
    np.fill_diagonal(units, 1.0)
    mean = np.full(count, 1.0 / count)
    length = _length(units, mean)
    mean = mean / length if length > SMALLEST_LENGTH else np.eye(count)[0]
    for _ in range(max_iter):
        step = _mean_logarithm(units, mean)
        size = _length(units, step)
        if size <= tol:
            break
        mean = math.cos(size) * mean + math.sin(size) / size * step
        mean = mean / _length(units, mean)
    coefficients = np.zeros(len(gram))
    coefficients[alive] = mean / norms[alive] * norms.mean()
    return _floats(coefficients)


def cosines(gram: np.ndarray, *, smallest: float = SMALLEST_NORM) -> np.ndarray:
    """Return the cosines of all pairs, of the shape of *gram*; norms to *smallest* count as 1."""
    import numpy as np

    norms = _norms(gram)
    norms = np.where(norms > smallest, norms, 1.0)
    cosine: np.ndarray = gram / norms[..., :, None] / norms[..., None, :]
    return cosine.clip(-1.0, 1.0)


def _mean_logarithm(units: np.ndarray, mean: np.ndarray) -> np.ndarray:
    # The logarithm of u at m is angle / sin(angle) (u - cos(angle) m); none at the antipode of m.
    import numpy as np

    cosine = np.clip(units @ mean, -1.0, 1.0)
    angle, sine = np.arccos(cosine), np.sqrt(1.0 - cosine**2)
    near = sine < SMALLEST_SINE
    ratio = np.where(near, cosine > 0.0, angle / np.where(near, 1.0, sine)) / len(units)
    step: np.ndarray = ratio - (ratio @ cosine) * mean
    return step


def _norms(gram: np.ndarray) -> np.ndarray:
    import numpy as np

    norms: np.ndarray = np.sqrt(np.diagonal(gram, axis1=-2, axis2=-1).clip(0.0))
    return norms


def _length(gram: np.ndarray, coefficients: np.ndarray) -> float:
    return math.sqrt(max(0.0, float(coefficients @ gram @ coefficients)))


def _floats(coefficients: np.ndarray) -> list[float]:
    return [float(value) for value in coefficients]
