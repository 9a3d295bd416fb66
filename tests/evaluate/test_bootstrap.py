"""Intervals cover what they promise, follow clusters, and do not shrink to nothing."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import binomtest, bootstrap

from miscible.evaluate.bootstrap import FloatArray, Resampled, resample


def interval(
    values: FloatArray, weights: FloatArray | None = None, clusters: list[str] | None = None
) -> Resampled:
    return resample(
        values,
        np.ones_like(values) if weights is None else weights,
        clusters or [str(index) for index in range(len(values))],
        resamples=2000,
        confidence=0.95,
        seed=(1, 2),
    )


def test_agrees_with_scipy() -> None:
    values = np.random.default_rng(0).exponential(size=60)
    found = interval(values)
    expected = bootstrap((values,), np.mean, n_resamples=20000, method="BCa", rng=1)
    width = found.high - found.low
    assert found.low == pytest.approx(expected.confidence_interval.low, abs=0.06 * width)
    assert found.high == pytest.approx(expected.confidence_interval.high, abs=0.06 * width)


def test_ratio_covers_its_true_value() -> None:
    rng = np.random.default_rng(1)
    covered = 0
    for _ in range(200):
        sizes = rng.integers(20, 400, size=80).astype(np.float64)
        values = 1.5 + rng.normal(size=80) * 0.3
        found = interval(values, sizes)
        covered += found.low <= 1.5 <= found.high
    assert 178 <= covered <= 199


def test_clusters_widen_the_interval() -> None:
    values = np.repeat(np.random.default_rng(2).normal(size=20), 10)
    clusters = [str(index // 10) for index in range(200)]
    together, apart = interval(values, clusters=clusters), interval(values)
    assert together.high - together.low > 2.5 * (apart.high - apart.low)


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_unanimous_items_have_the_exact_binomial_bound(value: float) -> None:
    found = interval(np.full(12, value))
    exact = binomtest(int(12 * value), 12).proportion_ci(0.95)
    assert (found.low, found.high) == pytest.approx((exact.low, exact.high), abs=1e-12)


def test_one_cluster_has_no_interval() -> None:
    found = interval(np.array([0.5, 0.7]), clusters=["a", "a"])
    assert math.isnan(found.low)
    assert math.isnan(found.high)


def test_same_seed_same_interval() -> None:
    values = np.random.default_rng(3).normal(size=30)
    assert interval(values).replicates.tolist() == interval(values).replicates.tolist()
