"""Kendall's tau-b and Spearman's rho for many weightings of the same few models at once.

A bootstrap resample of models is a vector of counts, so all resamples are one matrix of weights,
and a model drawn twice is a tie with itself.
"""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Floats: TypeAlias = NDArray[np.float64]


def kendall(x: Floats, y: Floats, weights: Floats) -> Floats:
    """Return (R,) tau-b of *x* and *y* (models,) under each row of *weights* (R, models).

    With unit weights it is the usual tau-b; NaN where x or y is constant.
    """
    up, across = _signs(x), _signs(y)
    both = _quadratic(weights, up * across)
    return _normalised(both, _quadratic(weights, up**2), _quadratic(weights, across**2))


def spearman(x: Floats, y: Floats, weights: Floats) -> Floats:
    """Return (R,) rank correlations, ties sharing their mean rank; arguments as in `kendall`."""
    a, b = _centred_ranks(x, weights), _centred_ranks(y, weights)
    return _normalised(
        (weights * a * b).sum(axis=1),
        (weights * a * a).sum(axis=1),
        (weights * b * b).sum(axis=1),
    )


def rearranged(x: Floats, y: Floats, orders: NDArray[np.intp]) -> tuple[Floats, Floats]:
    """Return (R,) tau-b and (R,) rho of x taken by each row of *orders* (R, models) with y.

    A row may name a model twice, whose values are then ties.
    """
    taken = x[orders]
    up, across = np.sign(taken[:, :, None] - taken[:, None, :]), _signs(y)
    tau = _normalised(
        np.einsum("rij,ij->r", up, across),
        np.einsum("rij,rij->r", up, up),
        np.broadcast_to((across**2).sum(), len(orders)),
    )
    # Half the sum of a model's signs against all others is its rank less the mean rank.
    a, b = up.sum(axis=2), across.sum(axis=1)
    rho = _normalised(a @ b, (a * a).sum(axis=1), np.broadcast_to(b @ b, len(orders)))
    return tau, rho


def _signs(x: Floats) -> Floats:
    signs: Floats = np.sign(x[:, None] - x[None, :])
    return signs


def _quadratic(weights: Floats, matrix: Floats) -> Floats:
    product: Floats = ((weights @ matrix) * weights).sum(axis=1)
    return product


def _centred_ranks(x: Floats, weights: Floats) -> Floats:
    less = (x[None, :] < x[:, None]).astype(float)
    same = (x[None, :] == x[:, None]).astype(float)
    ranks = weights @ (less + 0.5 * same).T
    mean = (weights * ranks).sum(axis=1) / weights.sum(axis=1)
    centred: Floats = ranks - mean[:, None]
    return centred


def _normalised(both: Floats, xx: Floats, yy: Floats) -> Floats:
    norm = np.sqrt(xx * yy)
    out: Floats = np.divide(both, norm, out=np.full(both.shape, np.nan), where=norm > 1e-12)
    return out
