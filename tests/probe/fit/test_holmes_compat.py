"""The reference protocol, with the behaviours that it is kept for."""

from __future__ import annotations

import numpy as np
import torch
from sklearn.metrics import f1_score

from miscible.probe.fit.held_out import Split
from miscible.probe.fit.holmes_compat import _loss, _macro_f1, holmes_scores

SPLIT = Split(np.arange(1000), np.arange(1000, 1100), np.arange(1100, 1300))


def data() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    labels = rng.integers(3, size=1300)
    features = rng.normal(size=(1300, 10))
    features[:, :3] += 3 * np.eye(3)[labels]
    return features.astype(np.float32), labels


def test_seeds_are_fixed_and_leave_the_global_one_alone() -> None:
    features, labels = data()
    before = torch.random.get_rng_state()
    scores = holmes_scores(features, labels, 3, SPLIT, (0, 1))
    assert torch.equal(before, torch.random.get_rng_state())
    np.testing.assert_array_equal(scores, holmes_scores(features, labels, 3, SPLIT, (0, 1)))
    assert scores.shape == (2,)
    assert (scores > 0.8).all()


def test_scores_depend_on_the_scale_of_the_features() -> None:
    features, labels = data()
    small = holmes_scores(features * np.float32(1e-4), labels, 3, SPLIT, (0,))
    assert small[0] < holmes_scores(features, labels, 3, SPLIT, (0,))[0] - 0.1


def test_the_loss_is_of_probabilities_taken_for_logits() -> None:
    # A certain and right answer costs log(1 + 2 / e), not 0.
    output = torch.tensor([[100.0, 0.0, 0.0]])
    expected = np.log(1 + 2 / np.e)
    np.testing.assert_allclose(float(_loss(output, torch.tensor([0]))), expected, rtol=1e-6)


def test_macro_f1_is_that_of_scikit_learn() -> None:
    rng = np.random.default_rng(1)
    predicted, truth = rng.integers(4, size=50), rng.integers(1, 6, size=50)
    expected = f1_score(truth, predicted, average="macro")
    np.testing.assert_allclose(_macro_f1(predicted, truth), expected)


def test_regression_scores_pearson() -> None:
    features, _ = data()
    values = features[:, 0].astype(np.float64)
    assert holmes_scores(features, values, 1, SPLIT, (0,))[0] > 0.9
    flat = holmes_scores(np.zeros_like(features), values, 1, SPLIT, (0,))
    assert np.isnan(flat[0])
