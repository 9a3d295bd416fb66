"""Forecasts of a predictor, given outcomes of merges that it was not fitted to.

Its error on a merge is taken for Gaussian, with the standard deviation that errors on held-out
tasks had, and for the sum of what is special to the merge and of an effect of each model that is
new to the predictor. How much of the error is that effect was seen on held-out tasks too
(`miscible.predict.validation.shared`), so that the outcome of one merge says by how much a model's
others are misjudged: the conditional distribution of a Gaussian process (Rasmussen and Williams
2006, eq. 2.19).

Errors on held-out tasks have longer tails than that: how wide intervals are follows from a
Student-t process with the same correlations (Shah, Wilson and Ghahramani, 1402.4306), which doubts
more where outcomes lay farther off than expected.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.linalg import cho_factor, cho_solve
from scipy.stats import norm
from scipy.stats import t as student

from miscible.predict.contract import Forecast
from miscible.predict.forecasting.knowledge import MethodKnowledge
from miscible.predict.pairs import Floats, Ints, Pairs

MOST_SHARED = 0.95
"""Some of an error is special to its merge, whatever the held-out tasks say."""
FREEDOM = 5.0
"""Degrees of freedom of errors. On held-out vision tasks their mean square is 1.3 to 3.7 times
that of Gaussians with the same 80 % intervals; with 5 degrees of freedom it is 1.3, with 3 1.8."""
MOST_STRETCH = 2.0
"""A merge that fails altogether says little of pairs that have no model in common with it."""


@dataclass(frozen=True)
class Errors:
    """The joint distribution of the errors of a predictor on n pairs, before any outcome.

    Attributes:
        forecast: the predictor's.
        effects: float64 [n, T], how much of the effect of each model is in a pair's error, over
            the error's standard deviation. A row has at most two entries other than 0.
        level: of the intervals from which the standard deviations were taken.
    """

    forecast: Forecast
    effects: Floats
    level: float

    @classmethod
    def of(cls, known: MethodKnowledge, pairs: Pairs) -> Errors:
        """Return the distribution for pairs of one table."""
        one, both = known.shared
        share = np.array([0.0, min(one, MOST_SHARED), min(both, MOST_SHARED / 2)])
        weight = np.sqrt(share)[known.unseen(pairs)]
        new = np.array([name not in known.models for name in pairs.models], dtype=np.float64)
        effects, rows = np.zeros((len(pairs), len(pairs.models))), np.arange(len(pairs))
        effects[rows, pairs.first] += weight * new[pairs.first]
        effects[rows, pairs.second] += weight * new[pairs.second]
        return cls(known.forecast(pairs), effects, known.level)

    def covariance(self, left: Ints, right: Ints) -> Floats:
        """Return float64 [l, r]: covariances of the errors of two sets of rows."""
        correlation = self.effects[left] @ self.effects[right].T
        correlation[left[:, None] == right[None, :]] = 1.0
        sd = self.forecast.sd
        found: Floats = correlation * sd[left][:, None] * sd[right][None, :]
        return found

    def given(self, rows: Ints, outcomes: Floats) -> tuple[Floats, Floats]:
        """Return means and standard deviations of all pairs, given the outcomes of some.

        A pair whose error has no known size neither teaches anything nor learns.

        Args:
            rows: int64 [m], of pairs whose outcome is known.
            outcomes: float64 [m].
        """
        mean, sd = self.forecast.mean.copy(), self.forecast.sd.copy()
        told = self._told()
        outcomes, rows = outcomes[told[rows]], rows[told[rows]]
        wanted = np.flatnonzero(told)
        if not len(rows):
            return mean, sd
        factor = cho_factor(self.covariance(rows, rows), lower=True)
        across = self.covariance(wanted, rows)
        mean[wanted] += across @ cho_solve(factor, outcomes - mean[rows])
        explained = np.einsum("nm,mn->n", across, cho_solve(factor, across.T))
        sd[wanted] = np.sqrt(np.maximum(sd[wanted] ** 2 - explained, 0.0))
        return mean, sd

    def stretch(self, rows: Ints, outcomes: Floats) -> float:
        """Return how much wider intervals are to be, given outcomes, than those of a Gaussian.

        It is below 1 where outcomes were as close to their forecasts as hardly ever, and at most
        `MOST_STRETCH`.
        """
        told = self._told()[rows]
        rows, outcomes = rows[told], outcomes[told]
        if not len(rows):
            return 1.0
        off = outcomes - self.forecast.mean[rows]
        squares = float(off @ cho_solve(cho_factor(self.covariance(rows, rows), lower=True), off))
        upper, after = (1 + self.level) / 2, FREEDOM + len(rows)
        before, narrower = student.ppf(upper, [FREEDOM, after])
        # The scale of a Student-t is less than that of a Gaussian with the same interval.
        squares *= (before / norm.ppf(upper)) ** 2
        wider = float(np.sqrt((FREEDOM + squares) / after) * narrower / before)
        return min(wider, MOST_STRETCH)

    def _told(self) -> npt.NDArray[np.bool_]:
        mean, sd = self.forecast.mean, self.forecast.sd
        found: npt.NDArray[np.bool_] = np.isfinite(sd) & (sd > 0) & np.isfinite(mean)
        return found
