"""Cross-fitting: no leak, the right optimum in every fold, invariances."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from miscible.errors import DatasetError
from miscible.probe.fit import linear
from miscible.probe.fit.linear import PENALTIES, cross_fit

PAIRS, LAYERS = 30, 2


@pytest.fixture(params=["more rows than features", "fewer", "fewer, through their Gram matrix"])
def data(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    width = 12 if request.param == "more rows than features" else 90
    if request.param == "fewer":
        monkeypatch.setattr(linear, "_FEW", 0)
    rng = np.random.default_rng(0)
    features = rng.normal(size=(2 * PAIRS, LAYERS, width))
    labels = np.repeat([True, False], PAIRS)
    features[:, :, :3] += labels[:, None, None]
    features = features * rng.uniform(0.1, 10, size=width) + 3
    folds = np.tile(np.arange(PAIRS) % 7 % 5, 2)  # of unequal sizes
    return features.astype(np.float32), labels, folds


def test_every_fold_is_at_the_optimum_of_scikit_learn(data) -> None:
    features, labels, folds = data
    found = cross_fit(features, labels[None], folds)
    assert found.converged.all()
    for layer in range(LAYERS):
        for fold in range(5):
            train = folds != fold
            wide = features[:, layer].astype(np.float64)
            wide = (wide - wide[train].mean(axis=0)) / wide[train].std(axis=0)
            strength = 1 / (found.penalties[0, layer, fold] * wide.shape[1])
            reference = LogisticRegression(C=strength, solver="newton-cholesky", tol=1e-12)
            expected = reference.fit(wide[train], labels[train]).decision_function(wide[~train])
            np.testing.assert_allclose(found.scores[0, layer, ~train], expected, atol=1e-4)


def test_penalties_are_those_of_nested_cross_validation(data) -> None:
    features, labels, folds = data
    found = cross_fit(features, labels[None], folds)
    fold, layer = 2, 1
    losses = []
    for penalty in PENALTIES:
        loss = 0.0
        for inner in set(range(5)) - {fold}:
            train, test = (folds != fold) & (folds != inner), folds == inner
            wide = features[:, layer].astype(np.float64)
            wide = (wide - wide[train].mean(axis=0)) / wide[train].std(axis=0)
            reference = LogisticRegression(
                C=1 / (penalty * wide.shape[1]), solver="newton-cholesky", tol=1e-12
            ).fit(wide[train], labels[train])
            signed = np.where(labels[test], 1, -1) * reference.decision_function(wide[test])
            loss += np.logaddexp(0, -signed).sum()
        losses.append(loss)
    assert found.penalties[0, layer, fold] == PENALTIES[int(np.argmin(losses))]


def test_scale_of_the_features_changes_nothing(data) -> None:
    features, labels, folds = data
    plain = cross_fit(features, labels[None], folds)
    scaled = cross_fit(features * np.float32(1024), labels[None], folds)
    np.testing.assert_allclose(scaled.scores, plain.scores, atol=1e-6)
    np.testing.assert_allclose(
        cross_fit(features * np.float32(1000), labels[None], folds).scores, plain.scores, atol=1e-3
    )


def test_label_columns_do_not_touch_each_other(data) -> None:
    features, labels, folds = data
    other = np.random.default_rng(1).permutation(labels)
    both = cross_fit(features, np.stack([labels, other]), folds)
    np.testing.assert_allclose(
        both.scores[0], cross_fit(features, labels[None], folds).scores[0], atol=1e-6
    )
    np.testing.assert_allclose(
        both.scores[1], cross_fit(features, other[None], folds).scores[0], atol=1e-6
    )


def test_a_test_row_never_influences_its_own_probe(data) -> None:
    features, labels, folds = data
    changed, flipped = features.copy(), labels.copy()
    where = folds == 0
    changed[where] += 100
    flipped[where] = ~flipped[where]
    before = cross_fit(features, labels[None], folds, penalties=(1.0,))
    after = cross_fit(changed, flipped[None], folds, penalties=(1.0,))
    slope = (after.scores - before.scores)[0, :, where]
    # One probe, moved rows: all scores of the fold shift by the same amount in each layer.
    np.testing.assert_allclose(slope, slope[:1].repeat(len(slope), axis=0), atol=1e-3)


def test_constant_features_are_ignored(data) -> None:
    features, labels, folds = data
    constant = np.full((*features.shape[:2], features.shape[2]), 7.3, dtype=np.float32)
    wider = np.concatenate([features, constant], axis=2)
    # The penalty is in units of the width, so half of it on twice the width is the same penalty.
    narrow = cross_fit(features, labels[None], folds, penalties=(1.0,))
    wide = cross_fit(wider, labels[None], folds, penalties=(0.5,))
    np.testing.assert_allclose(wide.scores, narrow.scores, atol=1e-6)


def test_constant_inputs_are_called_one_thing() -> None:
    features = np.ones((20, 1, 4), dtype=np.float32)
    found = cross_fit(features, np.repeat([True, False], 10)[None], np.tile(np.arange(10) % 5, 2))
    np.testing.assert_allclose(found.scores, 0, atol=1e-9)


def test_too_few_folds() -> None:
    with pytest.raises(DatasetError, match="at least 3 folds"):
        cross_fit(
            np.zeros((4, 1, 2), np.float32), np.array([[True, False] * 2]), np.array([0, 0, 1, 1])
        )
