"""What a linear predictor does not know of a pair: how far its features are from those learnt."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from miscible.predict.features import Scaling, feature_matrix
from miscible.predict.forecasting.knowledge import MethodKnowledge
from miscible.predict.pairs import Examples, Floats, Pairs

PRIOR = 1.0
"""Weight of what is taken for granted of every coefficient, in pairs. Without it a feature that
few pairs tell apart would decide alone."""


@dataclass
class Leverage:
    """Standard deviation of a linear fit at candidates, sigma sqrt(x' (X' X + prior)^-1 x).

    Attributes:
        candidates: float64 [n, F + 1], scaled features and an intercept.
        inverse: float64 [F + 1, F + 1].
        sigma: of an outcome around the fit.
    """

    candidates: Floats
    inverse: Floats
    sigma: float

    @classmethod
    def of(cls, known: MethodKnowledge, examples: Examples, pairs: Pairs) -> Leverage:
        """Return the leverage of *pairs* over all features, whatever their coefficients."""
        names = list(known.fitted.coefficients)
        features = feature_matrix(examples.pairs, names)
        scaling = Scaling.of(features)
        learnt = _design(scaling.apply(features))
        prior = np.diag([0.0, *([PRIOR] * len(names))])
        residuals = examples.mean - known.fitted.predict(examples.pairs).mean
        inverse: Floats = np.linalg.inv(learnt.T @ learnt + prior).astype(np.float64)
        candidates = _design(scaling.apply(feature_matrix(pairs, names)))
        return cls(candidates, inverse, float(np.std(residuals)))

    def sd(self) -> Floats:
        """Return the standard deviation of the fit at every candidate."""
        squares = np.einsum("nf,fg,ng->n", self.candidates, self.inverse, self.candidates)
        found: Floats = self.sigma * np.sqrt(np.maximum(squares, 0.0))
        return found

    def learn(self, row: int) -> None:
        """Go on as if the outcome of a candidate were known (Sherman and Morrison 1950)."""
        held = self.inverse @ self.candidates[row]
        self.inverse = self.inverse - np.outer(held, held) / (1 + self.candidates[row] @ held)


def _design(scaled: Floats) -> Floats:
    return np.hstack([np.ones((len(scaled), 1)), scaled])
