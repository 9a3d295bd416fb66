"""What lasso, elastic net and ridge share: a penalty, chosen on tasks that are held out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from miscible.errors import MiscibleError
from miscible.predict.active_set import FOLDS, nested, path
from miscible.predict.contract import Predictor
from miscible.predict.features import Scaling
from miscible.predict.linear import Linear, training_features
from miscible.predict.pairs import Examples, Floats, Ints

FRACTIONS: Floats = np.logspace(0, -3, 30)
"""Penalties with an L1 part that are tried, over the smallest one that lets no feature in."""
RIDGE: Floats = np.logspace(3, -4, 36)
"""Penalties without one, for features and outcome of standard deviation 1."""


@dataclass(frozen=True)
class Penalised(Predictor):
    """Least squares with an intercept and a penalty on the weights of standardised features.

    The penalty is the one that predicts pairs of held-out tasks best: inner cross-validation in
    groups of tasks, not of pairs.

    Attributes:
        ratio: share of L1 in the penalty, in [0, 1]; the rest is squared.
        penalty: a penalty to take instead of choosing one, of the objective of `active_set` for an
            outcome of standard deviation 1.
    """

    ratio: float = 1.0
    penalty: float | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.ratio <= 1:
            raise MiscibleError(f"ratio must be in [0, 1]. Got {self.ratio!r}.")
        if self.penalty is not None and not 0 <= self.penalty < np.inf:
            raise MiscibleError(f"penalty must be 0 or more. Got {self.penalty!r}.")

    def fit(self, train: Examples, *, seed: int) -> Linear:
        """Choose the penalty and fit; *seed* draws the inner groups of tasks."""
        names, features = training_features(train)
        centre, spread = float(np.mean(train.mean)), float(np.std(train.mean))
        if spread <= 1e-12 * abs(centre):
            return Linear(names, Scaling.of(features), np.zeros(len(names)), centre)
        outcome = (train.mean - centre) / spread
        if self.penalty is not None:
            scaling = Scaling.of(features)
            scaled, n = scaling.apply(features), len(outcome)
            step = np.array([self.penalty])
            weights = path(scaled.T @ scaled / n, scaled.T @ outcome / n, step, self.ratio)[0]
            return Linear(names, scaling, weights * spread, centre, {"penalty": self.penalty})
        group, groups = inner_groups(train, seed)
        weights, middle, scale, mean, penalty, _ = nested(
            features, outcome, train.pairs.first, train.pairs.second, group, groups,
            FRACTIONS if self.ratio > 0 else RIDGE, self.ratio,
        )  # fmt: skip
        return Linear(
            names, Scaling(middle, scale), weights * spread, centre + mean * spread,
            {"penalty": penalty},
        )  # fmt: skip

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
