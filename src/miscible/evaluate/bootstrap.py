"""Intervals of weighted means by resampling clusters of items."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]
_CHUNK = 4_000_000
"""Counts held in memory at once."""


@dataclass(frozen=True, slots=True)
class Resampled:
    """Bootstrap distribution of a weighted mean; *low* and *high* are NaN for one cluster."""

    replicates: FloatArray
    low: float
    high: float


def resample(
    values: FloatArray,
    weights: FloatArray,
    clusters: Sequence[str],
    *,
    resamples: int,
    confidence: float,
    seed: Sequence[int],
) -> Resampled:
    """Bootstrap sum(weights * values) / sum(weights) over clusters.

    The interval is bias-corrected and accelerated (BCa; Efron 1987, doi:10.2307/2289144), the
    acceleration from the jackknife over clusters. Where every cluster scores 0, or every one
    scores 1, resampling sees no variance: the bound is then the exact binomial one.

    Args:
        values, weights: of each item, [items]; weights are not negative and not all 0.
        clusters: the cluster of each item.
        resamples: number of replicates.
        confidence: coverage of the interval.
        seed: of the resampling.
    """
    _, codes = np.unique(np.asarray(clusters, dtype=object).astype(str), return_inverse=True)
    numerators = np.bincount(codes, weights * values).astype(np.float64)
    denominators = np.bincount(codes, weights).astype(np.float64)
    replicates = _replicates(numerators, denominators, resamples, np.random.default_rng(seed))
    count, tail = len(numerators), (1 - confidence) / 2
    if count < 2:
        return Resampled(replicates, math.nan, math.nan)
    if np.all(values == 0):
        return Resampled(replicates, 0.0, 1 - tail ** (1 / count))
    if np.all(values == 1):
        return Resampled(replicates, tail ** (1 / count), 1.0)
    low, high = _bca(replicates, numerators, denominators, tail)
    return Resampled(replicates, low, high)


def _replicates(
    numerators: FloatArray, denominators: FloatArray, resamples: int, rng: np.random.Generator
) -> FloatArray:
    count = len(numerators)
    even = np.full(count, 1 / count)
    rows = max(1, _CHUNK // count)
    parts = []
    for start in range(0, resamples, rows):
        counts = rng.multinomial(count, even, size=min(rows, resamples - start))
        with np.errstate(invalid="ignore"):
            parts.append((counts @ numerators) / (counts @ denominators))
    return np.concatenate(parts)


def _bca(
    replicates: FloatArray, numerators: FloatArray, denominators: FloatArray, tail: float
) -> tuple[float, float]:
    estimate = numerators.sum() / denominators.sum()
    # Ties count half: means of few 0/1 items hit the estimate itself often.
    below = np.mean(replicates < estimate) + np.mean(replicates == estimate) / 2
    if not 0 < below < 1:
        low, high = np.nanquantile(replicates, [tail, 1 - tail])
        return float(low), float(high)
    with np.errstate(invalid="ignore", divide="ignore"):
        left_out = (numerators.sum() - numerators) / (denominators.sum() - denominators)
    deviations = np.nanmean(left_out) - left_out
    spread = float(np.nansum(deviations**2)) ** 1.5
    acceleration = float(np.nansum(deviations**3)) / (6 * spread) if spread > 0 else 0.0
    normal = NormalDist()
    bias = normal.inv_cdf(float(below))

    def level(probability: float) -> float:
        shifted = bias + normal.inv_cdf(probability)
        return normal.cdf(bias + shifted / (1 - acceleration * shifted))

    low, high = np.nanquantile(replicates, [level(tail), level(1 - tail)])
    return float(low), float(high)
