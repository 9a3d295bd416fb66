"""Non-linear probes read what a linear one cannot, and nothing where there is nothing."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.neighbors import KNeighborsClassifier

from miscible.errors import DatasetError
from miscible.probe.fit.held_out import Split, fit_classes
from miscible.probe.fit.nonlinear import knn, mlp

SPLIT = Split(np.arange(400), np.arange(400, 500), np.arange(500, 800))


@pytest.fixture(scope="module")
def exclusive_or() -> tuple[np.ndarray, np.ndarray]:
    """Two layers, of which the second says nothing, and a column of random labels."""
    rng = np.random.default_rng(0)
    features = rng.normal(size=(800, 2, 4)).astype(np.float32)
    labels = (features[:, 0, 0] > 0) ^ (features[:, 0, 1] > 0)
    return features, np.stack([labels, rng.permutation(labels)]).astype(np.int64)


def accuracy(scores: np.ndarray, labels: np.ndarray) -> np.ndarray:
    return (scores.argmax(axis=-1) == labels[:, None, SPLIT.test]).mean(axis=-1)


def test_exclusive_or(exclusive_or) -> None:
    features, labels = exclusive_or
    assert accuracy(fit_classes(features, labels, 2, SPLIT).scores, labels)[0, 0] < 0.65
    for found in (mlp(features, labels, 2, SPLIT), knn(features, labels, 2, SPLIT)):
        share = accuracy(found.scores, labels)
        assert share[0, 0] > 0.8
        assert (np.abs(share[[0, 1, 1], [1, 0, 1]] - 0.5) < 4 * 0.5 / 300**0.5).all()
        np.testing.assert_allclose(np.exp(found.scores).sum(axis=-1), 1, rtol=1e-5)


def test_a_seed_gives_one_result_and_columns_are_apart(exclusive_or) -> None:
    features, labels = exclusive_or
    both = mlp(features[:, :1], labels, 2, SPLIT)
    np.testing.assert_array_equal(both.scores, mlp(features[:, :1], labels, 2, SPLIT).scores)
    alone = mlp(features[:, :1], labels[:1], 2, SPLIT)
    np.testing.assert_allclose(both.scores[:1], alone.scores, atol=1e-3)
    assert np.abs(both.scores - mlp(features[:, :1], labels, 2, SPLIT, seed=1).scores).max() > 0.01


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
def test_neighbours_are_those_of_scikit_learn(exclusive_or, metric: str) -> None:
    features, labels = exclusive_or
    found = knn(features, labels, 2, SPLIT, metric=metric, neighbours=(7,))
    wide = features[:, 0].astype(np.float64)
    wide = (wide - wide[SPLIT.train].mean(axis=0)) / wide[SPLIT.train].std(axis=0)
    model = KNeighborsClassifier(7, metric=metric).fit(wide[SPLIT.train], labels[0, SPLIT.train])
    expected = (7 * model.predict_proba(wide[SPLIT.test]) + 0.5) / 8
    np.testing.assert_allclose(np.exp(found.scores[0, 0]), expected)


def test_unknown_metric(exclusive_or) -> None:
    features, labels = exclusive_or
    with pytest.raises(DatasetError, match="'manhattan'"):
        knn(features, labels, 2, SPLIT, metric="manhattan")
