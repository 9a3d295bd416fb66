"""The objective of *Demystifying Mergeability* (2601.22285), for reproduction.

Maximised is Pearson's r of the prediction minus a penalty on the L1 norm of the weights. As r does
not depend on the weights' scale, shrinking them all pays at any penalty: there is no optimum, and
which weights end as zero depends on the steps of the optimiser. `lasso` has neither trouble.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numba import njit

from miscible.predict.contract import Predictor, predictor
from miscible.predict.features import Scaling
from miscible.predict.linear import Linear, training_features
from miscible.predict.pairs import Examples, Floats

BETA1, BETA2, EPSILON = 0.9, 0.999, 1e-8
"""Of Adam (1412.6980)."""


def _ascend(
    gram: Any, moment: Any, start: Any, spread: float, penalty: float, rate: float,
    iterations: int, patience: int, tolerance: float,
) -> Any:  # fmt: skip
    """Minimise -r + penalty |w|_1 by Adam.

    r = w'q / (sd(y) sqrt(w'Gw)) with G and q the covariances of features and outcome: a step costs
    F^2 instead of n F, and is the same.
    """
    width = len(start)
    w, m, v = start.copy(), np.zeros(width), np.zeros(width)
    product = np.zeros(width)
    best, waited = np.inf, 0
    for step in range(1, iterations + 1):
        quadratic = linear = norm = 0.0
        for f in range(width):
            product[f] = 0.0
            for g in range(width):
                product[f] += gram[f, g] * w[g]
            quadratic += w[f] * product[f]
            linear += w[f] * moment[f]
            norm += abs(w[f])
        length = np.sqrt(max(quadratic, 1e-300))
        loss = -linear / (length * spread) + penalty * norm
        if loss < best - tolerance:
            best, waited = loss, 0
        else:
            waited += 1
            if waited >= patience:
                break
        for f in range(width):
            slope = -(moment[f] / length - linear * product[f] / length**3) / spread
            slope += penalty * np.sign(w[f])
            m[f] = BETA1 * m[f] + (1 - BETA1) * slope
            v[f] = BETA2 * v[f] + (1 - BETA2) * slope * slope
            ahead = np.sqrt(v[f] / (1 - BETA2**step)) + EPSILON
            w[f] -= rate * m[f] / (1 - BETA1**step) / ahead
    return w


ascend: Any = njit(cache=True, nogil=True)(_ascend)


@predictor("pearson")
@dataclass(frozen=True)
class Pearson(Predictor):
    """The paper's objective: Pearson's r minus an L1 penalty, by Adam (2601.22285).

    Level and slope, of which r says nothing, are fitted to the training pairs afterwards.

    Attributes:
        penalty: on the L1 norm; 0 is the paper's unpenalised predictor.
        rate, iterations, patience, tolerance: of Adam, and when it stops.
        start: standard deviation of the weights at the start.
        threshold: weights smaller than this at the end are 0.
    """

    penalty: float = 1.0
    rate: float = 0.01
    iterations: int = 2000
    patience: int = 100
    tolerance: float = 1e-5
    start: float = 0.1
    threshold: float = 1e-3

    def fit(self, train: Examples, *, seed: int) -> Linear:
        """Fit; *seed* draws the weights at the start."""
        names, features = training_features(train)
        scaling, mean = half_range(features), float(np.mean(train.mean))
        spread = float(np.std(train.mean))
        start = self.start * np.random.default_rng(seed).standard_normal(len(names))
        start = np.where(scaling.scale > 0, start, 0.0)
        if spread <= 1e-12 * abs(mean):
            return Linear(names, scaling, np.zeros(len(names)), mean)
        scaled, residual, n = scaling.apply(features), train.mean - mean, len(train)
        gram, moment = scaled.T @ scaled / n, scaled.T @ residual / n
        weights = ascend(
            gram, moment, start, spread, self.penalty, self.rate, self.iterations, self.patience,
            self.tolerance,
        )  # fmt: skip
        weights[np.abs(weights) < self.threshold] = 0.0
        variance = float(weights @ gram @ weights)
        slope = float(weights @ moment) / variance if variance > 0 else 0.0
        return Linear(names, scaling, weights * slope, mean)

    def restore(self, held: Mapping[str, Any]) -> Linear:
        """Return what was written."""
        return Linear.from_dict(held)


def half_range(features: Floats) -> Scaling:
    """Return the scaling to ranges of length 2, as from -1 to 1, centred at the mean.

    Where a range lies makes no difference to r; at its mean, a missing cell is the mean.
    """
    standard = Scaling.of(features)
    there = np.isfinite(features)
    high = np.where(there, features, -np.inf).max(axis=0)
    low = np.where(there, features, np.inf).min(axis=0)
    return Scaling(standard.centre, np.where(standard.scale > 0, (high - low) / 2, 0.0))
