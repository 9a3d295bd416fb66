"""The multinomial solver against scikit-learn's optimum, and its symmetries."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression

from miscible.probe.fit.coordinates import coordinates
from miscible.probe.fit.multinomial import (
    Fits,
    Problems,
    Solution,
    log_probabilities,
)


def problem(rows: int, width: int, classes: int, seed: int, noise: float = 1.0):
    rng = np.random.default_rng(seed)
    features = (rng.normal(size=(rows, 2, width)) * rng.uniform(0.1, 5, size=width)).astype("f4")
    logits = features[:, 0] @ rng.normal(size=(width, classes)) / width**0.5
    labels = (logits + noise * rng.normal(size=logits.shape)).argmax(axis=1)
    labels[:classes] = np.arange(classes)
    return features, labels


class Asked(NamedTuple):
    problems: Problems
    penalty: float
    rows: torch.Tensor  # fitted ones, then others


def problems(
    features: np.ndarray, labels: np.ndarray, classes: int, penalty: float, others: int = 0
) -> Asked:
    count = len(features) - others
    layers = features.shape[1]
    train, rest = np.arange(count), np.arange(count, len(features))
    features = np.ascontiguousarray(features)
    places = coordinates(features, slice(0, layers), train, rest, classes, 1)
    marks = torch.from_numpy(labels[:count]).repeat(layers, 1)
    made = Problems(places, torch.arange(layers), marks, classes)
    return Asked(made, penalty, torch.cat([places.training, places.others], dim=1))


def fit(asked: Asked, tolerance: float = 1e-4) -> Solution:
    fits, layer = Fits(asked.problems), asked.problems.layer
    penalty = torch.full((len(layer),), asked.penalty, dtype=torch.float64)
    return fits.solve(layer, penalty, tolerance)


def scores_of(found: Solution, asked: Asked) -> torch.Tensor:
    return log_probabilities(found.weights, asked.rows, asked.problems.layer)


def reference(features: np.ndarray, labels: np.ndarray, penalty: float) -> np.ndarray:
    wide = features.astype(np.float64)
    train = wide[: len(labels)]
    wide = (wide - train.mean(axis=0)) / train.std(axis=0)
    # Newton's method where scikit-learn has it for this shape, to the last digit.
    model = LogisticRegression(
        C=1 / (penalty * wide.shape[1]), solver="newton-cholesky", tol=1e-12, max_iter=10_000
    ).fit(wide[: len(labels)], labels)
    return model.predict_log_proba(wide)


@pytest.mark.parametrize("penalty", [100.0, 1.0, 0.01, 0.0001])
@pytest.mark.parametrize(
    ("rows", "width", "classes", "noise"),
    [
        (60, 12, 2, 1.0),
        (40, 90, 2, 1.0),
        (120, 20, 5, 1.0),
        (50, 80, 4, 1.0),
        (200, 10, 20, 1.0),
        (80, 30, 3, 0.0),  # separable
    ],
)
def test_optimum_equals_scikit_learn(rows, width, classes, noise, penalty) -> None:
    features, labels = problem(rows + 20, width, classes, 0, noise)
    asked = problems(features, labels, classes, penalty, others=20)
    found = fit(asked)
    assert (found.error <= 1e-4).all()
    scores = scores_of(found, asked).numpy()
    for layer in range(2):
        expected = reference(features[:, layer], labels[:rows], penalty).T
        difference = np.abs(scores[layer] - expected).max()
        assert difference <= 1e-4 * np.abs(expected).max()


def test_correlated_features_are_rotated_and_equal_scikit_learn() -> None:
    rng = np.random.default_rng(6)
    parts = rng.normal(size=(420, 150)) / np.arange(1, 151) ** 1.5
    mixed = parts @ np.linalg.qr(rng.normal(size=(150, 150)))[0]
    features = np.stack([mixed, rng.normal(size=mixed.shape)], axis=1).astype(np.float32)
    logits = parts[:, :30] @ rng.normal(size=(30, 3)) * 20
    labels = (logits + rng.gumbel(size=logits.shape)).argmax(axis=1)
    penalty = 1e-4
    asked = problems(features, labels, 3, penalty, others=20)
    found = fit(asked)
    assert (found.error <= 1e-4).all()
    assert asked.problems.coordinates.is_rotated(0)
    scores = scores_of(found, asked)[0].numpy()
    expected = reference(features[:, 0], labels[:400], penalty).T
    assert np.abs(scores - expected).max() <= 1e-4 * np.abs(expected).max()


def test_rare_classes_equal_scikit_learn() -> None:
    features, labels = problem(150, 40, 6, 1)
    labels[labels == 5] = 0
    labels[7] = 5
    asked = problems(features, labels, 6, 0.01)
    scores = scores_of(fit(asked), asked).numpy()
    expected = reference(features[:, 1], labels, 0.01).T
    assert np.abs(scores[1] - expected).max() <= 1e-4 * np.abs(expected).max()


def test_the_error_is_below_its_bound() -> None:
    features, labels = problem(100, 30, 5, 2)
    asked = problems(features, labels, 5, 0.1)
    exact = fit(asked, 1e-9).weights[..., :-1].flatten(1)
    for tolerance in (0.3, 0.03, 0.003):
        found = fit(asked, tolerance)
        weights = found.weights[..., :-1].flatten(1)
        distance = (weights - exact).norm(dim=1) / weights.norm(dim=1)
        assert (distance <= found.error).all()
        assert (found.error <= tolerance).all()


def test_a_class_without_rows_has_no_probability_and_touches_nothing() -> None:
    features, labels = problem(60, 20, 3, 3)
    three = problems(features, labels, 3, 0.1)
    four = problems(features, labels + (labels == 2), 4, 0.1)
    narrow = scores_of(fit(three), three)
    wide = scores_of(fit(four), four)
    assert torch.isneginf(wide[:, 2]).all()
    torch.testing.assert_close(wide[:, [0, 1, 3]], narrow, atol=1e-8, rtol=0)


def test_one_class_alone_is_certain() -> None:
    features, _ = problem(10, 4, 2, 4)
    asked = problems(features, np.full(10, 1), 3, 1.0)
    scores = scores_of(fit(asked), asked)
    assert (scores[:, 1] == 0).all()
    assert torch.isneginf(scores[:, [0, 2]]).all()


def test_a_layer_alone_is_solved_as_in_a_batch() -> None:
    features, labels = problem(80, 30, 4, 5)
    both, second = (problems(part, labels, 4, 0.01) for part in (features, features[:, 1:]))
    torch.testing.assert_close(
        scores_of(fit(both), both)[1:],
        scores_of(fit(second), second),
        atol=1e-8,
        rtol=0,
    )
