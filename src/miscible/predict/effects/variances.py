"""Variances of known covariances at their likeliest, on the scale on which effects add up.

    z = log(ceiling - y), z ~ N(m, sum_c v_c K_c + v_0 I),  m ~ N(0, 10)

y is the outcome, so exp(z) is what a merge loses against a ceiling just above the best outcome.
Losses of a sensitive task with a strong partner multiply; their logarithms add. The matrices are
known, the variances are those of highest posterior density (restricted likelihood).

Their square roots have half-Cauchy priors (Gelman, 2006), and density is taken over logarithms, in
which an effect of 20 models is not found to be exactly 0 only because so few models do not show
it: forecasts from such zeros are too sure of the sources that are left (Chung et al., 2013).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.linalg.lapack import dpotrf, dpotri
from scipy.optimize import minimize

from miscible.errors import MiscibleError
from miscible.predict.pairs import Floats

MEAN_VARIANCE = 10.0
"""Prior variance of the mean m, for outcomes of variance one: as good as unknown."""
MARGIN = 0.5
"""How far the ceiling lies above the best outcome, in standard deviations of the outcomes. Much
less, and differences between merges that lose next to nothing count most; much more, and the
scale is as good as linear."""
LEAST, MOST = 1e-6, 25.0
"""Smallest and largest variance of anything, in units of the variance of z."""
STEPS = 200
REFUSED = 1e12
"""Value of the objective where a matrix is not positive definite."""


@dataclass(frozen=True)
class Scale:
    """From outcomes to z and back: z = (log(ceiling - y) - centre) / spread."""

    ceiling: float
    centre: float
    spread: float

    @classmethod
    def of(cls, outcome: Floats) -> Scale:
        """Return the scale of training outcomes.

        Raises:
            MiscibleError: if these are all the same.
        """
        best, deviation = float(outcome.max()), float(outcome.std())
        if not deviation > 1e-12 * max(abs(best), 1e-300):
            raise MiscibleError("all merges have the same outcome: there is nothing to learn.")
        loss = np.log(best + MARGIN * deviation - outcome)
        return cls(best + MARGIN * deviation, float(loss.mean()), float(loss.std()))

    def forward(self, outcome: Floats) -> Floats:
        """Return z of outcomes below the ceiling."""
        found: Floats = (np.log(self.ceiling - outcome) - self.centre) / self.spread
        return found

    def loss_log(self, z: Floats) -> Floats:
        """Return log(ceiling - y)."""
        return z * self.spread + self.centre


@dataclass(frozen=True)
class Variances:
    """What was estimated.

    Attributes:
        sources: float64 [C], variance of each covariance matrix.
        noise: variance of the noise.
    """

    sources: Floats
    noise: float

    def matrix(self, covariances: Floats) -> Floats:
        """Return sum_c v_c K_c + 10, [n, m], of covariances [C, n, m], without the noise."""
        found: Floats = np.tensordot(self.sources, covariances, 1) + MEAN_VARIANCE
        return found


class Posterior:
    """Density of the logarithms of variances, up to a constant, given z.

    Args:
        z: float64 [n].
        covariances: float64 [C, n, n].
        medians: float64 [C], of the variances a priori. The noise's logarithm is uniform.
    """

    def __init__(self, z: Floats, covariances: Floats, medians: Floats) -> None:
        self.z, self.medians = z, medians
        self.covariances = covariances.reshape(len(covariances), -1)
        self.diagonal = np.diag_indices(len(z))

    def __call__(self, logs: Floats) -> tuple[float, Floats]:
        """Return minus its logarithm and its slope.

        Args:
            logs: float64 [C + 1], logarithms of the variances, the noise's last.
        """
        n, v = len(self.z), np.exp(logs)
        matrix = (v[:-1] @ self.covariances).reshape(n, n) + MEAN_VARIANCE
        matrix[self.diagonal] += v[-1]
        factor, failed = dpotrf(matrix.T, lower=1, overwrite_a=1, clean=0)
        if failed:
            return REFUSED, np.zeros_like(v)
        half_log = float(np.log(np.diag(factor)).sum())
        inverse, _ = dpotri(factor, lower=1, overwrite_c=1)
        inverse = np.tril(inverse) + np.tril(inverse, -1).T
        weights = inverse @ self.z
        slope = np.outer(weights, weights) - inverse
        by_log = -0.5 * v * np.append(self.covariances @ slope.ravel(), np.trace(slope))
        by_log[:-1] += v[:-1] / (v[:-1] + self.medians) - 0.5
        prior = float((np.log1p(v[:-1] / self.medians) - 0.5 * logs[:-1]).sum())
        return 0.5 * float(self.z @ weights) + half_log + prior, by_log


def estimate(
    z: Floats, covariances: Floats, medians: Floats, start: Variances | None = None
) -> Variances:
    """Return the variances of highest posterior density.

    Args:
        z: float64 [n], of variance one.
        covariances: float64 [C, n, n].
        medians: float64 [C], of the variances a priori.
        start: variances to begin with, of a problem like this one.

    Raises:
        MiscibleError: if nothing fits.
    """
    count = len(covariances)
    initial = np.append(np.full(count, 0.5 / max(count, 1)), 0.2)
    if start is not None:
        initial = np.append(start.sources, start.noise)
    found = minimize(
        Posterior(z, covariances, medians), np.log(initial), jac=True, method="L-BFGS-B",
        bounds=[(np.log(LEAST), np.log(MOST))] * (count + 1),
        options={"maxiter": STEPS, "ftol": 1e-8},
    )  # fmt: skip
    if not found.fun < REFUSED:
        raise MiscibleError("no variances explain these outcomes.")
    return Variances(np.exp(found.x[:-1]), float(np.exp(found.x[-1])))


def as_dict(scale: Scale, variances: Variances) -> dict[str, Any]:
    """Return both as plain data."""
    return {
        "sources": variances.sources.tolist(), "noise": variances.noise,
        "ceiling": scale.ceiling, "centre": scale.centre, "spread": scale.spread,
    }  # fmt: skip


def from_dict(held: Mapping[str, Any]) -> tuple[Scale, Variances]:
    """Return what `as_dict` wrote.

    Raises:
        KeyError, TypeError, ValueError: if it is not that.
    """
    scale = Scale(*(float(held[name]) for name in ("ceiling", "centre", "spread")))
    variances = Variances(np.asarray(held["sources"], dtype=np.float64), float(held["noise"]))
    numbers = [scale.ceiling, scale.centre, scale.spread, variances.noise, *variances.sources]
    if not np.isfinite(numbers).all():
        raise ValueError("a variance or the scale is not a number")
    if variances.noise <= 0 or scale.spread <= 0 or (variances.sources < 0).any():
        raise ValueError("a variance or the scale is not positive")
    return scale, variances
