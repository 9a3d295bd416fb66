"""The batched solver against scikit-learn's optimum, and its symmetries."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression

from miscible.probe.fit.logistic import Solution, solve


def problem(rows: int, width: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    features = rng.normal(size=(rows, width)) * rng.uniform(0.1, 5, size=width)
    labels = (features @ rng.normal(size=width) + rng.normal(size=rows) > 0).astype(float)
    labels[:2] = [0, 1]
    return features, labels


def solved(features: np.ndarray, labels: np.ndarray, penalties: list[float]) -> Solution:
    """Fit the same rows with several penalties at once."""
    rows = torch.from_numpy(features).expand(len(penalties), -1, -1)
    marks = torch.from_numpy(labels).expand(len(penalties), -1)
    start = Solution.at(rows, rows.new_zeros(len(rows), rows.shape[2]), rows.new_zeros(len(rows)))
    found = solve(rows, marks, torch.tensor(penalties).double(), start)
    assert found.converged.all()
    return found


@settings(max_examples=20, deadline=None)
@given(
    rows=st.integers(4, 40),
    width=st.integers(1, 60),
    seed=st.integers(0, 1000),
    penalty=st.sampled_from([1e-3, 1e-1, 1.0, 100.0]),
)
def test_optimum_equals_scikit_learn(rows: int, width: int, seed: int, penalty: float) -> None:
    features, labels = problem(rows, width, seed)
    reference = LogisticRegression(C=1 / penalty, solver="newton-cholesky", tol=1e-12)
    expected = reference.fit(features, labels).decision_function(features)
    found = solved(features, labels, [penalty]).scores[0].numpy()
    np.testing.assert_allclose(found, expected, atol=1e-4)


def test_rotation_of_the_features_changes_nothing() -> None:
    features, labels = problem(30, 20, 1)
    rotation = np.linalg.qr(np.random.default_rng(2).normal(size=(20, 20)))[0]
    turned = solved(features @ rotation, labels, [0.1]).scores
    torch.testing.assert_close(turned, solved(features, labels, [0.1]).scores, atol=1e-8, rtol=0)


def test_problems_are_independent_and_a_warm_start_changes_only_the_time() -> None:
    features, labels = problem(30, 50, 3)
    both = solved(features, labels, [50.0, 0.1])
    alone = solved(features, labels, [0.1])
    torch.testing.assert_close(both.scores[1], alone.scores[0], atol=1e-6, rtol=0)
    rows, marks = torch.from_numpy(features)[None], torch.from_numpy(labels)[None]
    strong = Solution.at(rows, both.weights[:1], both.intercept[:1])
    warm = solve(rows, marks, torch.tensor([0.1]).double(), strong)
    torch.testing.assert_close(warm.scores, alone.scores, atol=1e-6, rtol=0)


def test_separable_data_with_almost_no_penalty_still_converges() -> None:
    features = np.array([[-3.0], [-2.0], [2.0], [3.0]])
    labels = np.array([0.0, 0.0, 1.0, 1.0])
    found = solved(features, labels, [1e-6]).scores[0].numpy()
    assert (np.sign(found) == [-1, -1, 1, 1]).all() and abs(found).max() > 10
