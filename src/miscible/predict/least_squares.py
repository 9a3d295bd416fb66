"""Ordinary least squares."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from miscible.predict.contract import Predictor, predictor
from miscible.predict.features import Scaling
from miscible.predict.linear import Linear, training_features
from miscible.predict.pairs import Examples

RANK = 1e-10
"""Directions whose singular value is a smaller part of the largest one are not used."""


@predictor("ols")
@dataclass(frozen=True)
class LeastSquares(Predictor):
    """Ordinary least squares with an intercept; the shortest solution where several fit.

    It is also the optimum of the objective of 2601.22285 without its penalty.
    """

    def fit(self, train: Examples, *, seed: int) -> Linear:
        """Fit; there is nothing to draw."""
        names, features = training_features(train)
        scaling, mean = Scaling.of(features), float(np.mean(train.mean))
        found = np.linalg.lstsq(scaling.apply(features), train.mean - mean, rcond=RANK)[0]
        return Linear(names, scaling, found.astype(np.float64), mean)

    def restore(self, held: Mapping[str, Any]) -> Linear:
        """Return what was written."""
        return Linear.from_dict(held)
