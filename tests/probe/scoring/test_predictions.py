"""What is called where classes are all but equal."""

from __future__ import annotations

import numpy as np

from miscible.probe.fit.held_out import Split, fit_classes
from miscible.probe.scoring.predictions import _called


def test_features_that_say_nothing_are_called_one_class() -> None:
    # Each row twice, once of either class: weights are 0 but for rounding.
    rng = np.random.default_rng(0)
    features = np.repeat(rng.normal(size=(60, 1, 9)), 2, axis=0).astype(np.float32)
    labels = np.tile([0, 1], 60)[None]
    split = Split(np.arange(60), np.arange(60, 90), np.arange(90, 120))
    fit = fit_classes(features, labels, 2, split)
    assert (_called(fit.scores) == 0).all()


def test_the_likeliest_class_is_called() -> None:
    scores = np.log([[0.2, 0.5, 0.3], [0.1, 0.1, 0.8], [0.4, 0.4, 0.2]])
    scores[2, 1] += 1e-9
    assert _called(scores).tolist() == [1, 2, 0]
    assert _called(np.array([-np.inf, 0.0])) == 1
