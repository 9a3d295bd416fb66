"""The batched solver against scikit-learn's optimum, and its symmetries."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression

from miscible.probe.fit.logistic import Design, solve


def problem(rows: int, width: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    features = rng.normal(size=(rows, width)) * rng.uniform(0.1, 5, size=width)
    labels = (features @ rng.normal(size=width) + rng.normal(size=rows) > 0).astype(float)
    labels[:2] = [0, 1]
    return features, labels


def scores(features: np.ndarray, labels: np.ndarray, penalty: float, gram: bool) -> np.ndarray:
    rows = torch.from_numpy(features @ features.T if gram else features)[None]
    design = Design(rows, gram, torch.ones(1, len(labels), dtype=torch.float64))
    found = solve(
        design, torch.from_numpy(labels)[None, None], torch.full((1, 1), penalty).double()
    )
    assert found.converged.all()
    return found.scores[0, 0].numpy()


@pytest.mark.parametrize("gram", [False, True])
@settings(max_examples=20, deadline=None)
@given(
    rows=st.integers(4, 40),
    width=st.integers(1, 60),
    seed=st.integers(0, 1000),
    penalty=st.sampled_from([1e-3, 1e-1, 1.0, 100.0]),
)
def test_optimum_equals_scikit_learn(
    gram: bool, rows: int, width: int, seed: int, penalty: float
) -> None:
    features, labels = problem(rows, width, seed)
    reference = LogisticRegression(C=1 / penalty, solver="newton-cholesky", tol=1e-12)
    expected = reference.fit(features, labels).decision_function(features)
    np.testing.assert_allclose(scores(features, labels, penalty, gram), expected, atol=1e-4)


def test_dual_and_primal_agree() -> None:
    features, labels = problem(30, 20, 0)
    np.testing.assert_allclose(
        scores(features, labels, 0.3, True), scores(features, labels, 0.3, False), atol=1e-8
    )


def test_rotation_of_the_features_changes_nothing() -> None:
    features, labels = problem(30, 20, 1)
    rotation = np.linalg.qr(np.random.default_rng(2).normal(size=(20, 20)))[0]
    np.testing.assert_allclose(
        scores(features @ rotation, labels, 0.1, False),
        scores(features, labels, 0.1, False),
        atol=1e-8,
    )


def test_columns_are_independent_and_a_warm_start_changes_only_the_time() -> None:
    features, labels = problem(30, 50, 3)
    design = Design(
        torch.from_numpy(features @ features.T)[None],
        True,
        torch.ones(1, 30, dtype=torch.float64),
    )
    both = torch.from_numpy(np.stack([labels, labels[::-1].copy()]))[None]
    strong = solve(design, both, torch.full((1, 2), 50.0).double())
    warm = solve(design, both, torch.full((1, 2), 0.1).double(), strong)
    cold = solve(design, both, torch.full((1, 2), 0.1).double())
    torch.testing.assert_close(warm.scores, cold.scores, atol=1e-6, rtol=0)
    alone = scores(features, labels, 0.1, True)
    np.testing.assert_allclose(cold.scores[0, 0].numpy(), alone, atol=1e-6)


def test_rows_without_weight_do_not_count() -> None:
    features, labels = problem(20, 30, 4)
    padded = np.concatenate([features, features[:1].repeat(3, axis=0)])
    weights = torch.tensor([[1.0] * 20 + [0.0] * 3]).double()
    marks = torch.from_numpy(np.concatenate([labels, 1 - labels[:1].repeat(3)]))[None, None]
    for gram in (True, False):
        rows = torch.from_numpy(padded @ padded.T if gram else padded)[None]
        found = solve(Design(rows, gram, weights), marks, torch.ones(1, 1).double())
        expected = scores(features, labels, 1.0, gram)
        np.testing.assert_allclose(found.scores[0, 0, :20].numpy(), expected, atol=1e-8)


def test_separable_data_with_almost_no_penalty_still_converges() -> None:
    features = np.array([[-3.0], [-2.0], [2.0], [3.0]])
    labels = np.array([0.0, 0.0, 1.0, 1.0])
    found = scores(features, labels, 1e-6, False)
    assert (np.sign(found) == [-1, -1, 1, 1]).all() and abs(found).max() > 10
