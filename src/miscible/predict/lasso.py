"""The interpretable default: least squares with an L1 penalty and an intercept."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from miscible.predict.active_set import FOLDS, nested, path
from miscible.predict.contract import Predictor, predictor
from miscible.predict.features import Scaling
from miscible.predict.linear import Linear, training_features
from miscible.predict.pairs import Examples, Floats, Ints

FRACTIONS: Floats = np.logspace(0, -3, 30)
"""Penalties that are tried, over the smallest one that lets no feature in."""


@predictor("lasso")
@dataclass(frozen=True)
class Lasso(Predictor):
    """Least squares with an L1 penalty (lasso) and an intercept.

    The penalty is the one that predicts pairs of tasks best that were held out: inner
    cross-validation in groups of tasks, not of pairs.

    Attributes:
        ratio: share of L1 in the penalty, in (0, 1]; the rest is squared (elastic net).
        penalty: a penalty to take instead of choosing one, in units of the outcome.
    """

    ratio: float = 1.0
    penalty: float | None = None

    def fit(self, train: Examples, *, seed: int) -> Linear:
        """Choose the penalty and fit; *seed* draws the inner groups of tasks."""
        names, features = training_features(train)
        centre, spread = float(np.mean(train.mean)), float(np.std(train.mean))
        if spread == 0:
            return Linear(names, Scaling.of(features), np.zeros(len(names)), centre)
        outcome = (train.mean - centre) / spread
        if self.penalty is not None:
            return self._at(names, features, outcome, centre, spread)
        group, groups = inner_groups(train, seed)
        weights, middle, scale, mean, penalty, _ = nested(
            features, outcome, train.pairs.first, train.pairs.second, group, groups, FRACTIONS,
            self.ratio,
        )  # fmt: skip
        return Linear(
            names, Scaling(middle, scale), weights * spread, centre + mean * spread,
            {"penalty": penalty * spread},
        )  # fmt: skip

    def _at(
        self, names: tuple[str, ...], features: Floats, outcome: Floats, mean: float, spread: float
    ) -> Linear:
        scaling, penalty = Scaling.of(features), self.penalty or 0.0
        scaled, n = scaling.apply(features), len(outcome)
        steps = np.array([penalty / spread])
        gram, moment = scaled.T @ scaled / n, scaled.T @ outcome / n
        weights = path(gram, moment, steps, self.ratio)[0]
        return Linear(names, scaling, weights * spread, mean, {"penalty": penalty})

    def restore(self, held: Mapping[str, Any]) -> Linear:
        """Return what was written."""
        return Linear.from_dict(held)


def inner_groups(train: Examples, seed: int, folds: int = FOLDS) -> tuple[Ints, int]:
    """Return the inner fold of every model, int64 [T], and how many folds there are.

    Models with training pairs are dealt out evenly in an order drawn from *seed*; the others are
    in no fold (-1).
    """
    seen = np.flatnonzero(train.pairs.seen())
    order = np.random.default_rng(seed).permutation(seen)
    group = np.full(len(train.pairs.models), -1, dtype=np.int64)
    groups = min(folds, len(seen))
    group[order] = np.arange(len(order)) % groups
    return group, groups
