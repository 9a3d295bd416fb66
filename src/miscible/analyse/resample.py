"""Cluster bootstrap and sign-flip test of weighted means, many comparisons at once.

Both see the data only through its clusters: a comparison is a column of cluster sums, and all
resamples of all comparisons are one matrix product.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias
from zlib import crc32

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

Floats: TypeAlias = NDArray[np.float64]

BLOCK = 4_000_000
"""Numbers of a resampling matrix that are held at once (32 MB)."""

EXACT_CLUSTERS = 13
"""Up to this many clusters all 2^clusters sign flips are visited instead of a sample."""


@dataclass(frozen=True)
class Resampling:
    """How intervals and p values are had.

    Attributes:
        resamples: bootstrap resamples of an interval.
        flips: sign flips of a test; no p value is below 1 / (flips + 1).
        level: confidence level of an interval.
        seed: every data set draws from its own stream of this seed, so that the result of one
            does not depend on what else is in the study.
    """

    resamples: int = 2000
    flips: int = 9999
    level: float = 0.95
    seed: int = 0

    @property
    def alpha(self) -> float:
        """Error rate of a test: 1 - level."""
        return 1.0 - self.level

    def rng(self, name: str) -> np.random.Generator:
        """Return the random stream of *name*."""
        return np.random.default_rng([self.seed, crc32(name.encode())])


class ClusterSums(NamedTuple):
    """K weighted means as sums over clusters: arrays of shape (clusters, K)."""

    weighted: Floats
    weight: Floats

    @property
    def means(self) -> Floats:
        """(K,) weighted means, NaN where there is no weight."""
        return ratio(self.weighted.sum(axis=0), self.weight.sum(axis=0))


class PValues(NamedTuple):
    """(K,) p values of "differs from 0", "is above 0" and "is below 0"."""

    two_sided: Floats
    greater: Floats
    less: Floats


def cluster_sums(values: Floats, weights: Floats, clusters: NDArray[np.intp]) -> ClusterSums:
    """Sum *values* (K, items) by cluster.

    Args:
        values: a row a comparison; NaN is a missing item.
        weights: (items,).
        clusters: (items,) dense codes.
    """
    n = values.shape[1]
    held = np.isfinite(values)
    gather = sparse.csr_matrix((np.ones(n), (clusters, np.arange(n))))
    weighted = gather @ np.where(held, values * weights, 0.0).T
    weight = gather @ (held * weights).T
    return ClusterSums(np.asarray(weighted), np.asarray(weight))


def bootstrap_means(sums: ClusterSums, options: Resampling, name: str) -> Floats:
    """Return (resamples, K) means of clusters drawn with replacement."""
    rng = options.rng(name)
    n = sums.weighted.shape[0]
    weight = sums.weight
    if (weight == weight[:, :1]).all():  # nothing is missing: one denominator serves all
        weight = weight[:, :1]
    drawn = [
        ratio(counts @ sums.weighted, counts @ weight)
        for counts in _counts(n, options.resamples, rng)
    ]
    return np.concatenate(drawn)


def interval(draws: Floats, level: float) -> tuple[Floats, Floats]:
    """Return the (K,) percentile limits of (resamples, K) draws; NaN draws are left out."""
    tails = [50 * (1 - level), 50 * (1 + level)]
    missing = np.isnan(draws).any(axis=0)
    limits = np.full((2, draws.shape[1]), np.nan)
    if (~missing).any():
        limits[:, ~missing] = np.percentile(draws[:, ~missing], tails, axis=0)
    for k in np.flatnonzero(missing):
        finite = draws[np.isfinite(draws[:, k]), k]
        if finite.size >= draws.shape[0] / 2:
            limits[:, k] = np.percentile(finite, tails)
    return limits[0], limits[1]


def sign_flip_test(sums: ClusterSums, options: Resampling, name: str) -> PValues:
    """Test that the differences of the clusters are symmetric about 0.

    Under the null the sign of each cluster's difference is a fair coin. For accuracies of
    independent items this is the exact McNemar test; unlike it, the test also holds for clusters
    and for real-valued scores. All comparisons share their flips.
    """
    observed = sums.weighted.sum(axis=0)
    scale = np.abs(sums.weighted).sum(axis=0)
    slack = 1e-10 * scale
    n, k = sums.weighted.shape
    above, below, beyond, total = np.zeros(k), np.zeros(k), np.zeros(k), 0
    for signs in _signs(n, options.flips, options.rng(name)):
        flipped = signs @ sums.weighted
        above += (flipped >= observed - slack).sum(axis=0)
        below += (flipped <= observed + slack).sum(axis=0)
        beyond += (np.abs(flipped) >= np.abs(observed) - slack).sum(axis=0)
        total += signs.shape[0]
    sampled = 0 if n <= EXACT_CLUSTERS else 1
    nothing = sums.weight.sum(axis=0) == 0
    tails = (
        np.where(nothing, np.nan, (sampled + count) / (sampled + total))
        for count in (beyond, above, below)
    )
    return PValues(*tails)


def ratio(top: Floats, bottom: Floats) -> Floats:
    """Return top / bottom, NaN where bottom is 0."""
    top, bottom = np.broadcast_arrays(top, bottom)
    out: Floats = np.divide(top, bottom, out=np.full(top.shape, np.nan), where=bottom != 0)
    return out


def _counts(n: int, resamples: int, rng: np.random.Generator) -> Iterator[Floats]:
    step = max(1, BLOCK // n)
    for start in range(0, resamples, step):
        rows = min(step, resamples - start)
        drawn = rng.integers(0, n, size=(rows, n)) + n * np.arange(rows)[:, None]
        counts = np.bincount(drawn.ravel(), minlength=rows * n)
        yield counts.reshape(rows, n).astype(np.float64)


def _signs(n: int, flips: int, rng: np.random.Generator) -> Iterator[Floats]:
    if n <= EXACT_CLUSTERS:
        patterns = np.arange(2**n)[:, None] >> np.arange(n)
        yield 1.0 - 2.0 * (patterns & 1).astype(np.float64)
        return
    step = max(1, BLOCK // n)
    for start in range(0, flips, step):
        rows = min(step, flips - start)
        heads = rng.integers(0, 2, size=(rows, n), dtype=np.int8)
        yield 2.0 * heads.astype(np.float64) - 1.0
