"""Sign-flip p values without flips: the tails of a sum of fair signs, by its saddlepoint.

A map of layers and phenomena holds hundreds of tests, so that after correction only p values count
that lie far below what some thousand random flips can show. The distribution is known, though: the
sum of e_c x_c over clusters c with fair signs e_c has the cumulant generating function
K(t) = sum of log cosh(t x_c). Its tail is approximated by Lugannani and Rice (Advances in Applied
Probability 12, 1980, 475-490) with the second continuity correction of Daniels (International
Statistical Review 55, 1987, 37-48), for the lattice on which the smallest x_c is half a step.
"""

from __future__ import annotations

import numpy as np
from scipy.special import ndtr

from miscible.analyse.resample import (
    BLOCK,
    EXACT_CLUSTERS,
    ClusterSums,
    Floats,
    Resampling,
    sign_flip_test,
)

STEPS = 60


def sign_flip_p_values(parts: Floats) -> Floats:
    """Return two-sided p values of *parts* (clusters, K) being symmetric about 0: (K,).

    Few clusters are tested exactly, by all patterns of signs. For more, 90 % of the results lie
    between 0.87 and 1.4 times the exact p, and within 4 % of it where parts have few sizes, as
    those of accuracies have (measured with 17 clusters). NaN for a comparison whose parts are not
    all finite.
    """
    if parts.shape[0] <= EXACT_CLUSTERS:
        exact = sign_flip_test(ClusterSums(parts, np.ones_like(parts)), Resampling(), "exact")
        return np.where(np.isfinite(parts).all(axis=0), exact.two_sided, np.nan)
    p_values = np.full(parts.shape[1], np.nan)
    sound = np.flatnonzero(np.isfinite(parts).all(axis=0))
    width = max(1, BLOCK // max(1, parts.shape[0]))
    for start in range(0, len(sound), width):
        held = sound[start : start + width]
        p_values[held] = _two_sided(np.abs(parts[:, held]), np.abs(parts[:, held].sum(axis=0)))
    return p_values


def _two_sided(sizes: Floats, observed: Floats) -> Floats:
    largest = sizes.max(axis=0, initial=0.0)
    scale = np.where(largest > 0, largest, 1.0)
    sizes, observed = sizes / scale, observed / scale
    # A size that is a rounding error of 0 is no step of the lattice.
    step = np.where(sizes > 1e-9, sizes, np.inf).min(axis=0, initial=np.inf)
    level = np.where(np.isfinite(step), observed - step, 0.0)
    p_values = np.ones(level.shape)
    beyond = np.flatnonzero(level > 1e-9)
    if len(beyond):
        tail = _upper_tail(sizes[:, beyond], level[beyond], step[beyond])
        p_values[beyond] = np.clip(2 * tail, 0.0, 1.0)
    return p_values


def _upper_tail(sizes: Floats, level: Floats, step: Floats) -> Floats:
    t = level / np.square(sizes).sum(axis=0)
    # K' is concave for t > 0 and starts below the level, so that Newton climbs to the root.
    for _ in range(STEPS):
        tangent = np.tanh(t * sizes)
        curvature = (np.square(sizes) * (1 - np.square(tangent))).sum(axis=0)
        change = (level - (sizes * tangent).sum(axis=0)) / curvature
        t = t + change
        if (np.abs(change) <= 1e-9 * t).all():
            break
    product = t * sizes
    log_cosh = product + np.log1p(np.exp(-2 * product)) - np.log(2)
    curvature = (np.square(sizes) * (1 - np.square(np.tanh(product)))).sum(axis=0)
    signed_root = np.sqrt(np.maximum(2 * (t * level - log_cosh.sum(axis=0)), 0.0))
    lattice = np.sinh(t * step) / step * np.sqrt(curvature)
    density = np.exp(-np.square(signed_root) / 2) / np.sqrt(2 * np.pi)
    near = signed_root < 1e-3  # both terms of the correction diverge, their difference does not
    safe = np.where(near, 1.0, signed_root)
    correction = np.where(near, 0.0, 1 / np.where(near, 1.0, lattice) - 1 / safe)
    tail: Floats = ndtr(-signed_root) + density * correction
    return tail
