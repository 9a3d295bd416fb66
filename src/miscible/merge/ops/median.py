"""The geometric median of vectors, as coefficients that follow from their inner products."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

MOST_STEPS = 2000
TOLERANCE = 1e-12
"""Change of the coefficients at which the iteration ends."""
SAME = 1e-14
"""Squared distance, as a share of the squared norms, below which two vectors are the same."""


def median_coefficients(gram: np.ndarray, weights: Sequence[float]) -> list[float]:
    """Return c such that sum c_i x_i minimises sum w_i |m - x_i| over m.

    Weiszfeld's iteration (Tohoku Math. J. 43, 1937): every iterate is a convex combination of the
    vectors, so its distances follow from the Gram matrix. The iteration cannot leave a vector and
    creeps towards one, so each is first tested for being the minimum (Vardi and Zhang, PNAS 97,
    2000). Where the minimum is a segment, as between two vectors of equal weight, its
    middle is returned. Without a positive weight all coefficients are 0.

    Args:
        gram: inner products, [models, models], float64.
        weights: of the distances, not negative.
    """
    import numpy as np

    weight = np.asarray(weights, dtype=np.float64)
    result = np.zeros(len(weight))
    used = np.flatnonzero(weight > 0)
    if not len(used):
        return result.tolist()
    inner = np.asarray(gram, dtype=np.float64)[np.ix_(used, used)]
    result[used] = _median(inner, weight[used] / weight[used].sum())
    return result.tolist()


def _median(gram: np.ndarray, weight: np.ndarray) -> np.ndarray:
    import numpy as np

    eye = np.eye(len(weight))
    distances = _distances(gram, eye)
    optimal = [k for k in range(len(weight)) if _is_median(k, gram, distances, weight)]
    if optimal:
        # A mean over distinct points: copies of one are weighted down by their number.
        copies = (distances[np.ix_(optimal, optimal)] == 0).sum(axis=1)
        middle: np.ndarray = (eye[optimal] / copies[:, None]).sum(axis=0) / (1.0 / copies).sum()
        return middle
    current = weight
    for _ in range(MOST_STEPS):
        distance = _distances(gram, current[None])[0]
        pull = weight / np.maximum(distance, np.finfo(np.float64).tiny)
        following = pull / pull.sum()
        done = np.abs(following - current).max() <= TOLERANCE
        current = following
        if done:
            break
    return current


def _distances(gram: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Return distances of points (rows of coefficients) to all vectors, 0 where they are equal."""
    import numpy as np

    steps = points[:, None, :] - np.eye(len(gram))[None]
    squares = np.einsum("pvi,ij,pvj->pv", steps, gram, steps)
    norms = np.einsum("pi,ij,pj->p", points, gram, points)
    same = squares <= SAME * (norms[:, None] + np.diag(gram)[None])
    return np.where(same, 0.0, np.sqrt(np.maximum(squares, 0.0)))


def _is_median(k: int, gram: np.ndarray, distances: np.ndarray, weight: np.ndarray) -> bool:
    """Return whether the unit forces of the others do not exceed the weight that lies at k."""
    import numpy as np

    others = distances[k] > 0
    force = np.zeros(len(weight))
    force[others] = weight[others] / distances[k, others]
    force[k] -= force.sum()
    pull = float(np.sqrt(max(0.0, force @ gram @ force)))
    return pull <= float(weight[~others].sum()) * (1.0 + 1e-9)
