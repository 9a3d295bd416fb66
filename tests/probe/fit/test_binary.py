"""Binary problems of few rows against scikit-learn's optimum, and their symmetries."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression

from miscible.probe.fit.binary import BinaryFits


def problem(rows: int, width: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    features = rng.normal(size=(rows, width)) * rng.uniform(0.1, 5, size=width)
    labels = (features @ rng.normal(size=width) + rng.normal(size=rows) > 0).astype(np.int64)
    labels[:2] = [0, 1]
    return features, labels


def scores(features: np.ndarray, labels: np.ndarray, penalties: list[float]) -> np.ndarray:
    """Fit the same rows with several penalties; [penalties, rows]."""
    count = len(penalties)
    found = BinaryFits(torch.from_numpy(features)[None]).solve(
        torch.zeros(count, dtype=torch.int64),
        torch.from_numpy(labels).expand(count, -1),
        torch.tensor(penalties),
    )
    assert found.converged.all()
    return found.weights.numpy() @ features.T + found.intercepts.numpy()[:, None]


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
    np.testing.assert_allclose(scores(features, labels, [penalty])[0], expected, atol=1e-4)


def test_rotation_of_the_features_changes_nothing() -> None:
    features, labels = problem(30, 20, 1)
    rotation = np.linalg.qr(np.random.default_rng(2).normal(size=(20, 20)))[0]
    turned = scores(features @ rotation, labels, [0.1])
    np.testing.assert_allclose(turned, scores(features, labels, [0.1]), atol=1e-7)


def test_problems_are_independent() -> None:
    features, labels = problem(30, 50, 3)
    both = scores(features, labels, [50.0, 0.1])
    np.testing.assert_allclose(both[1:], scores(features, labels, [0.1]), atol=1e-12)


def test_separable_data_with_almost_no_penalty_still_converges() -> None:
    features = np.array([[-3.0], [-2.0], [2.0], [3.0]])
    found = scores(features, np.array([0, 0, 1, 1]), [1e-6])[0]
    assert (np.sign(found) == [-1, -1, 1, 1]).all() and abs(found).max() > 10
