"""Intervals over groups of minimal pairs, the probes held fixed."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]

LEVEL = 0.95
RESAMPLES = 1000

_Z = 1.959963984540054


class Interval(NamedTuple):
    """A 95 % interval."""

    low: float
    high: float


def resampled_weights(groups: npt.NDArray[np.int64], seed: int) -> Array:
    """Return how often each pair counts in each bootstrap resample of whole groups.

    Args:
        groups: group of each pair, 0 ... G-1, [pairs].
        seed: the same seed gives every model and layer the same resamples, so that differences
            between them are paired.

    Returns:
        [RESAMPLES, pairs].
    """
    count = int(groups.max()) + 1
    draws = np.random.default_rng(seed).multinomial(count, np.full(count, 1 / count), RESAMPLES)
    return draws[:, groups].astype(np.float64)


def resampled_means(values: Array, weights: Array) -> Array:
    """Return the weighted means of each resample, [RESAMPLES, columns].

    Args:
        values: [pairs, columns].
        weights: from `resampled_weights`.
    """
    means: Array = weights @ values / weights.sum(axis=1, keepdims=True)
    return means


def percentile(estimates: Array) -> Interval:
    """Return the percentile interval of estimates from resamples, [RESAMPLES]."""
    low, high = np.quantile(estimates, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Interval(float(low), float(high))


def wilson(share: float, count: int) -> Interval:
    """Return the Wilson score interval of a share of *count* independent trials (1927)."""
    spread = _Z**2 / count
    centre = (share + spread / 2) / (1 + spread)
    half = _Z * np.sqrt(share * (1 - share) / count + spread / (4 * count)) / (1 + spread)
    # Rounding must not put the share itself outside.
    return Interval(min(share, float(centre - half)), max(share, float(centre + half)))
