"""Scores of predictions against scikit-learn and SciPy; intervals that cover."""

from __future__ import annotations

import numpy as np
import pytest

from miscible.probe.scoring.agreement import Agreement


def alone(kind, truth, seed=0) -> Agreement:
    return Agreement(kind, np.asarray(truth, dtype=float), np.arange(len(truth)), seed)


def test_scores_are_those_of_scikit_learn() -> None:
    from sklearn.metrics import accuracy_score, f1_score

    rng = np.random.default_rng(0)
    for _ in range(20):
        truth, called = rng.integers(0, 5, 40), rng.integers(0, 6, 40)
        found = alone("classification", truth).scores(called.astype(float))
        assert found["probe_accuracy"] == pytest.approx(accuracy_score(truth, called))
        assert found["probe_macro_f1"] == pytest.approx(f1_score(truth, called, average="macro"))


def test_correlation_is_that_of_scipy_and_the_mean_of_its_items() -> None:
    from scipy.stats import pearsonr

    rng = np.random.default_rng(0)
    truth = rng.normal(size=60)
    called = truth + rng.normal(size=60)
    judge = alone("regression", truth)
    expected = pearsonr(truth, called).statistic
    assert judge.scores(called)["probe_pearson"] == pytest.approx(expected)
    metric, values = judge.items(called)
    assert metric == "probe_pearson" and values.mean() == pytest.approx(expected)
    assert judge.scores(np.ones(60)) == {"probe_pearson": 0.0}
    assert judge.trivial(0.3) == {"probe_pearson": 0.0}


def test_trivial_predictor() -> None:
    judge = alone("classification", [0, 0, 0, 1])
    assert judge.trivial(0.0)["probe_accuracy"] == 0.75
    assert judge.trivial(0.0)["probe_macro_f1"] == pytest.approx((6 / 7 + 0) / 2)


@pytest.mark.parametrize("kind", ["classification", "regression"])
def test_intervals_cover(kind) -> None:
    rng = np.random.default_rng(1)
    covered = 0
    for seed in range(200):
        if kind == "classification":
            truth = rng.integers(0, 3, 120).astype(float)
            called = np.where(rng.random(120) < 0.7, truth, (truth + 1) % 3)
            goal, metric = 0.7, "probe_accuracy"
        else:
            truth = rng.normal(size=120)
            called = 0.6 * truth + 0.8 * rng.normal(size=120)
            goal, metric = 0.6, "probe_pearson"
        low, high = alone(kind, truth, seed).intervals(called)[metric]
        covered += low <= goal <= high
    assert covered >= 178  # 95 % of 200 within four standard errors


def test_groups_widen_intervals() -> None:
    truth, called = np.zeros(200), np.tile([0.0] * 20 + [1.0] * 20, 5)
    groups = np.repeat(np.arange(10), 20)
    narrow = Agreement("classification", truth, np.arange(200), 0).intervals(called)
    wide = Agreement("classification", truth, groups, 0).intervals(called)
    lengths = [high - low for low, high in (i["probe_accuracy"] for i in (narrow, wide))]
    assert lengths[1] > 2 * lengths[0]


def test_perfection_has_an_interval_from_the_count_of_groups() -> None:
    low, high = alone("classification", np.arange(30) % 2).intervals(
        (np.arange(30) % 2).astype(float)
    )["probe_accuracy"]
    assert high == 1 and 0.85 < low < 0.95
