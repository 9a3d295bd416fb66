from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from miscible.analyse.resample import (
    Resampling,
    bootstrap_means,
    cluster_sums,
    interval,
    sign_flip_test,
)


def one_each(n: int) -> np.ndarray:
    return np.arange(n)


def test_the_mean_is_weighted_and_skips_what_is_missing() -> None:
    values = np.array([[1.0, 2.0, np.nan], [1.0, 2.0, 6.0]])
    sums = cluster_sums(values, np.array([1.0, 3.0, 4.0]), one_each(3))
    assert sums.means == pytest.approx([7 / 4, 31 / 8])


def test_a_comparison_without_items_has_no_number() -> None:
    sums = cluster_sums(np.full((1, 3), np.nan), np.ones(3), one_each(3))
    low, high = interval(bootstrap_means(sums, Resampling(resamples=50), "x"), 0.95)
    assert np.isnan([sums.means[0], low[0], high[0]]).all()
    assert np.isnan(sign_flip_test(sums, Resampling(), "x").two_sided[0])


@pytest.mark.parametrize("per_cluster", [1, 4])
def test_intervals_cover_at_about_their_level(per_cluster: int) -> None:
    rng = np.random.default_rng(1)
    clusters = np.arange(240) // per_cluster
    shared = rng.normal(size=(500, clusters.max() + 1))[:, clusters]
    values = 0.3 + 0.5 * shared + 0.5 * rng.normal(size=(500, 240))
    sums = cluster_sums(values, rng.uniform(1, 3, size=240), clusters)
    low, high = interval(bootstrap_means(sums, Resampling(resamples=800), "x"), 0.95)
    covered = ((low <= 0.3) & (high >= 0.3)).mean()
    assert 0.91 <= covered <= 0.98


def test_ignoring_clusters_would_cover_too_seldom() -> None:
    rng = np.random.default_rng(2)
    clusters = np.arange(240) // 6
    values = rng.normal(size=(400, 40))[:, clusters] + 0.2 * rng.normal(size=(400, 240))
    sums = cluster_sums(values, np.ones(240), one_each(240))
    low, high = interval(bootstrap_means(sums, Resampling(resamples=400), "x"), 0.95)
    assert ((low <= 0) & (high >= 0)).mean() < 0.75


@pytest.mark.parametrize("n", [10, 60])
def test_p_values_are_uniform_under_the_null(n: int) -> None:
    rng = np.random.default_rng(3)
    values = rng.normal(size=(800, n)) * rng.uniform(0.2, 3, size=n)
    p = sign_flip_test(cluster_sums(values, np.ones(n), one_each(n)), Resampling(flips=999), "x")
    for tail in p:
        assert stats.kstest(tail, "uniform").pvalue > 1e-3
        assert (tail <= 0.05).mean() <= 0.08


def test_the_flips_of_accuracies_are_the_exact_mcnemar_test() -> None:
    difference = np.array([1.0] * 9 + [-1.0] * 3 + [0.0] * 1)
    sums = cluster_sums(difference[None], np.ones(13), one_each(13))
    p = sign_flip_test(sums, Resampling(), "x")
    assert p.two_sided[0] == pytest.approx(stats.binomtest(9, 12).pvalue)
    assert p.greater[0] == pytest.approx(stats.binomtest(9, 12, alternative="greater").pvalue)


def test_the_one_sided_tests_look_in_opposite_directions() -> None:
    rng = np.random.default_rng(4)
    up = rng.normal(0.6, 1, size=(1, 50))
    sums = cluster_sums(np.concatenate([up, -up]), np.ones(50), one_each(50))
    p = sign_flip_test(sums, Resampling(), "x")
    assert p.greater[0] < 0.01 < 0.9 < p.less[0]
    assert p.greater[0] == pytest.approx(p.less[1], abs=0.01)


def test_a_seed_fixes_the_draws_and_a_name_changes_them() -> None:
    sums = cluster_sums(np.random.default_rng(0).normal(size=(1, 30)), np.ones(30), one_each(30))
    options = Resampling(resamples=20)
    same = [bootstrap_means(sums, options, "x") for _ in range(2)]
    assert np.array_equal(*same)
    assert not np.array_equal(same[0], bootstrap_means(sums, options, "y"))
