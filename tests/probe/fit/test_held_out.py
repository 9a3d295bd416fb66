"""Held-out probes: the choice of the penalty, their invariances, and what they refuse."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression, Ridge

from miscible.errors import DatasetError
from miscible.probe.fit.held_out import (
    Split,
    cross_fit_classes,
    cross_fit_values,
    fit_classes,
    fit_values,
)
from miscible.probe.fit.linear import PENALTIES

CLASSES = 4
SPLIT = Split(np.arange(80), np.arange(80, 120), np.arange(120, 170))

Data = tuple[np.ndarray, np.ndarray, np.ndarray]


@pytest.fixture(params=[15, 110], ids=["primal", "dual"])
def data(request: pytest.FixtureRequest) -> Data:
    rng = np.random.default_rng(0)
    labels = rng.integers(CLASSES, size=170)
    features = rng.normal(size=(170, 3, request.param))
    features[:, :, :CLASSES] += 2 * np.eye(CLASSES)[labels][:, None]
    features = (features * rng.uniform(0.1, 10, size=request.param) + 3).astype(np.float32)
    values = features[:, 0, :5].sum(axis=1) + rng.normal(size=170)
    return features, np.stack([labels, rng.permutation(labels)]), np.stack([values, values[::-1]])


def standardised(features: np.ndarray, layer: int) -> np.ndarray:
    wide = features[:, layer].astype(np.float64)
    return (wide - wide[SPLIT.train].mean(axis=0)) / wide[SPLIT.train].std(axis=0)


def test_penalty_and_scores_are_those_of_a_search_with_scikit_learn(data: Data) -> None:
    features, labels, _ = data
    found = fit_classes(features, labels, CLASSES, SPLIT, whole_grid=True)
    assert found.converged.all()
    for layer in range(3):
        wide = standardised(features, layer)
        for column in range(2):
            models = [
                LogisticRegression(
                    C=1 / (penalty * wide.shape[1]), solver="newton-cholesky", tol=1e-12
                ).fit(wide[SPLIT.train], labels[column, SPLIT.train])
                for penalty in PENALTIES
            ]
            logs = [model.predict_log_proba(wide[SPLIT.dev]) for model in models]
            losses = [-each[range(40), labels[column, SPLIT.dev]].sum() for each in logs]
            best = int(np.argmin(losses))
            assert found.penalties[column, layer] == PENALTIES[best]
            expected = models[best].predict_log_proba(wide[SPLIT.test])
            difference = np.abs(found.scores[column, layer] - expected).max()
            assert difference <= 1e-4 * np.abs(expected).max()


def test_a_path_that_ends_early_chooses_the_same(data: Data) -> None:
    features, labels, _ = data
    short = fit_classes(features, labels, CLASSES, SPLIT)
    whole = fit_classes(features, labels, CLASSES, SPLIT, whole_grid=True)
    np.testing.assert_array_equal(short.penalties, whole.penalties)


def test_penalty_and_values_are_those_of_a_search_with_scikit_learn(data: Data) -> None:
    features, _, values = data
    found = fit_values(features, values, SPLIT)
    for layer in range(3):
        wide = standardised(features, layer)
        for column in range(2):
            models = [
                Ridge(alpha=penalty * wide.shape[1], solver="svd").fit(
                    wide[SPLIT.train], values[column, SPLIT.train]
                )
                for penalty in PENALTIES
            ]
            errors = [
                np.square(model.predict(wide[SPLIT.dev]) - values[column, SPLIT.dev]).sum()
                for model in models
            ]
            best = int(np.argmin(errors))
            assert found.penalties[column, layer] == PENALTIES[best]
            expected = models[best].predict(wide[SPLIT.test])
            np.testing.assert_allclose(found.scores[column, layer], expected, atol=1e-5)


def test_equal_penalties_give_the_strongest(data: Data) -> None:
    features, labels, values = data
    flat = np.ones_like(features)
    assert (fit_classes(flat, labels, CLASSES, SPLIT).penalties == PENALTIES[0]).all()
    assert (fit_values(flat, values, SPLIT).penalties == PENALTIES[0]).all()


def test_scale_and_offset_of_the_features_change_nothing(data: Data) -> None:
    features, labels, values = data
    scaled = features * np.float32(1000)
    np.testing.assert_allclose(
        fit_classes(scaled, labels, CLASSES, SPLIT).scores,
        fit_classes(features, labels, CLASSES, SPLIT).scores,
        atol=2e-3,
    )
    exact = features * np.float32(1024)
    np.testing.assert_allclose(
        fit_values(exact, values, SPLIT).scores, fit_values(features, values, SPLIT).scores,
        atol=1e-8,
    )  # fmt: skip
    # An offset of 4096 costs 12 of the 24 bits: round first, so that both see the same digits.
    rounded = (features + np.float32(4096)) - np.float32(4096)
    np.testing.assert_allclose(
        fit_classes(rounded + np.float32(4096), labels, CLASSES, SPLIT).scores,
        fit_classes(rounded, labels, CLASSES, SPLIT).scores,
        atol=1e-6,
    )


def test_a_rotation_of_standardised_features_changes_nothing() -> None:
    # Standardising undoes a rotation only of features that are white over the training rows.
    rng = np.random.default_rng(3)
    wide = rng.normal(size=(170, 10))
    wide -= wide[SPLIT.train].mean(axis=0)
    covariance = wide[SPLIT.train].T @ wide[SPLIT.train] / 80
    white = wide @ np.linalg.inv(np.linalg.cholesky(covariance)).T
    labels = (white[:, :3] + rng.normal(size=(170, 3))).argmax(axis=1)[None]
    rotation = np.linalg.qr(rng.normal(size=(10, 10)))[0]
    plain, turned = ((part[:, None]).astype("f4") for part in (white, white @ rotation))
    np.testing.assert_allclose(
        fit_classes(turned, labels, 3, SPLIT).scores,
        fit_classes(plain, labels, 3, SPLIT).scores,
        atol=1e-3,
    )


def test_order_of_rows_changes_nothing(data: Data) -> None:
    features, labels, values = data
    order = np.random.default_rng(1).permutation(80)
    moved = Split(SPLIT.train[order], SPLIT.dev[::-1].copy(), SPLIT.test)
    np.testing.assert_allclose(
        fit_classes(features, labels, CLASSES, moved).scores,
        fit_classes(features, labels, CLASSES, SPLIT).scores,
        atol=2e-3,
    )
    np.testing.assert_allclose(
        fit_values(features, values, moved).scores, fit_values(features, values, SPLIT).scores,
        atol=1e-7,
    )  # fmt: skip


def test_constant_features_are_ignored(data: Data) -> None:
    features, labels, values = data
    wider = np.concatenate([features, np.full_like(features, 7.3)], axis=2)
    # The penalty is in units of the width: half of it on twice the width is the same.
    for fit, targets in (
        (lambda x, p: fit_classes(x, labels, CLASSES, SPLIT, (p,)), labels),
        (lambda x, p: fit_values(x, values, SPLIT, (p,)), values),
    ):
        assert len(targets) == 2
        np.testing.assert_allclose(fit(wider, 0.5).scores, fit(features, 1.0).scores, atol=1e-3)


def test_a_layer_alone_is_fitted_as_in_a_batch(data: Data) -> None:
    features, labels, values = data
    np.testing.assert_allclose(
        fit_classes(features[:, 1:2], labels, CLASSES, SPLIT).scores[:, 0],
        fit_classes(features, labels, CLASSES, SPLIT).scores[:, 1],
        atol=1e-8,
    )
    np.testing.assert_allclose(
        fit_values(features[:, 1:2], values, SPLIT).scores[:, 0],
        fit_values(features, values, SPLIT).scores[:, 1],
        atol=1e-8,
    )


def test_random_labels_score_at_chance() -> None:
    rng = np.random.default_rng(5)
    features = rng.normal(size=(900, 1, 20)).astype(np.float32)
    labels = rng.integers(4, size=(2, 900))
    split = Split(np.arange(300), np.arange(300, 400), np.arange(400, 900))
    scores = fit_classes(features, labels, 4, split).scores
    accuracy = (scores.argmax(axis=-1)[:, 0] == labels[:, split.test]).mean(axis=1)
    # Four standard errors of a share of 500.
    assert (np.abs(accuracy - 0.25) < 4 * (0.25 * 0.75 / 500) ** 0.5).all()


def test_a_class_that_is_not_in_train(data: Data) -> None:
    features, labels, _ = data
    other = labels.copy()
    other[:, SPLIT.train] %= 3
    found = fit_classes(features, other, CLASSES, SPLIT)
    assert np.isneginf(found.scores[..., 3]).all()
    np.testing.assert_allclose(np.exp(found.scores).sum(axis=-1), 1)
    without = Split(SPLIT.train, SPLIT.dev[(other[0, SPLIT.dev] < 3)], SPLIT.test)
    same = fit_classes(features, other[:1], CLASSES, without)
    np.testing.assert_array_equal(found.penalties[:1], same.penalties)


def test_cross_fitting_is_a_fit_of_each_fold(data: Data) -> None:
    features, labels, values = data
    folds = np.arange(170) % 4
    by_class = cross_fit_classes(features, labels, CLASSES, folds)
    by_value = cross_fit_values(features, values, folds)
    assert by_class.scores.shape == (2, 3, 170, CLASSES)
    assert by_class.penalties.shape == by_value.penalties.shape == (2, 3, 4)
    parts = [np.flatnonzero(np.isin(folds, part)) for part in ([1, 2], [0], [3])]
    one = fit_classes(features, labels, CLASSES, Split(*parts))
    np.testing.assert_allclose(by_class.scores[:, :, folds == 3], one.scores, atol=1e-8)
    two = fit_values(features, values, Split(*parts))
    np.testing.assert_allclose(by_value.scores[:, :, folds == 3], two.scores, atol=1e-8)


def test_what_is_refused(data: Data) -> None:
    features, labels, values = data
    broken = features.copy()
    broken[17, 2, 5] = np.inf
    with pytest.raises(DatasetError, match="row 17 at layer index 2"):
        fit_classes(broken, labels, CLASSES, SPLIT)
    with pytest.raises(DatasetError, match="from 0 to 2"):
        fit_classes(features, labels, 3, SPLIT)
    with pytest.raises(DatasetError, match="dev part"):
        fit_classes(features, labels, CLASSES, SPLIT._replace(dev=np.arange(0)))
    with pytest.raises(DatasetError, match="finite"):
        fit_values(features, values * np.nan, SPLIT)
    with pytest.raises(DatasetError, match="at least 3 folds"):
        cross_fit_classes(features, labels, CLASSES, np.arange(170) % 2)
