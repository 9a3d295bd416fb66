from __future__ import annotations

import numpy as np
import pytest

from miscible.analyse.saddlepoint import sign_flip_p_values


def by_all_patterns(parts: np.ndarray) -> float:
    patterns = 1.0 - 2.0 * (np.arange(2 ** len(parts))[:, None] >> np.arange(len(parts)) & 1)
    sums = np.abs(patterns @ parts)
    return float((sums >= abs(parts.sum()) - 1e-10).mean())


@pytest.mark.parametrize("values", [(-1.0, 0.0, 1.0), (-1.0, -0.5, 0.0, 0.5, 1.0)])
def test_differences_of_accuracies_are_as_good_as_exact(values: tuple[float, ...]) -> None:
    rng = np.random.default_rng(0)
    parts = rng.choice(values, size=(17, 40))
    parts[:3] = 1.0
    exact = [by_all_patterns(column) for column in parts.T]
    np.testing.assert_allclose(sign_flip_p_values(parts), exact, rtol=0.04)


def test_real_differences_are_close_and_on_the_safe_side() -> None:
    rng = np.random.default_rng(1)
    parts = rng.normal(0.3, 1, size=(17, 60))
    exact = np.array([by_all_patterns(column) for column in parts.T])
    factor = sign_flip_p_values(parts) / exact
    assert 1.0 < np.median(factor) < 1.1
    assert np.quantile(factor, [0.05, 0.95]) == pytest.approx([1.0, 1.2], abs=0.15)


def test_few_clusters_are_exact() -> None:
    parts = np.random.default_rng(2).normal(size=(9, 5))
    exact = [by_all_patterns(column) for column in parts.T]
    assert sign_flip_p_values(parts) == pytest.approx(exact)


def test_a_p_value_goes_as_far_as_the_clusters_do() -> None:
    assert sign_flip_p_values(np.ones((60, 1)))[0] == pytest.approx(2.0**-59, rel=0.2)


def test_scale_and_sign_do_not_matter_and_nothing_is_no_evidence() -> None:
    parts = np.random.default_rng(3).normal(0.2, 1, size=(40, 3))
    p = sign_flip_p_values(parts)
    np.testing.assert_allclose(sign_flip_p_values(-1e6 * parts), p, rtol=1e-9)
    assert sign_flip_p_values(np.zeros((40, 1)))[0] == 1.0
    assert sign_flip_p_values(np.r_[np.ones((20, 1)), -np.ones((20, 1))])[0] == 1.0
    assert np.isnan(sign_flip_p_values(np.full((40, 1), np.nan))[0])
