"""How well predictions agree with labels: scores, intervals, what each item contributes."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from miscible.probe.dataset import Kind
from miscible.probe.scoring.intervals import Interval, percentile, resampled_weights, wilson

Array = npt.NDArray[np.float64]
Indices = npt.NDArray[np.int64]

METRICS: dict[Kind, tuple[str, ...]] = {
    "classification": ("probe_accuracy", "probe_macro_f1"),
    "regression": ("probe_pearson",),
}


@dataclass(frozen=True)
class Agreement:
    """Scores predictions for the same test items.

    Macro-F1 is the mean over the classes that occur among labels or predictions. A constant
    prediction has Pearson correlation 0.

    Attributes:
        kind: of the task.
        truth: class or value of each item, [items].
        groups: items that are not independent share one, [items].
        seed: of the resamples: whole groups are drawn, the probe is held fixed.
    """

    kind: Kind
    truth: Array
    groups: Indices
    seed: int

    def scores(self, called: Array) -> dict[str, float]:
        """Return the score of each metric for predictions, [items]."""
        once = np.ones((1, len(self.truth)))
        return {metric: float(values[0]) for metric, values in self._scores(called, once).items()}

    def intervals(self, called: Array) -> dict[str, Interval]:
        """Return a 95 % interval for each metric."""
        found = {m: percentile(values) for m, values in self._scores(called, self._weights).items()}
        right = called == self.truth
        if self.kind == "classification" and right.all() != (~right).all():
            share = float(right.mean())  # no resample differs: count the groups instead
            found["probe_accuracy"] = wilson(share, self._count)
            if right.all():
                found["probe_macro_f1"] = found["probe_accuracy"]
        return found

    def trivial(self, constant: float) -> dict[str, float]:
        """Return what the predictor that always says *constant* scores."""
        return self.scores(np.full(len(self.truth), constant))

    def items(self, called: Array) -> tuple[str, Array]:
        """Return a metric and each item's contribution: the score is their mean.

        For Pearson's correlation r of standardised values x and y these are
        x y - r (x^2 + y^2) / 2 + r: their mean is r, and their spread that of r itself, the
        standardisation included (its influence function).
        """
        if self.kind == "classification":
            return "probe_accuracy", (called == self.truth).astype(np.float64)
        x, y = _standardised(self.truth), _standardised(called)
        correlation = float((x * y).mean())
        return "probe_pearson", x * y - correlation * (x**2 + y**2) / 2 + correlation

    def _scores(self, called: Array, weights: Array) -> dict[str, Array]:
        if self.kind == "regression":
            return {"probe_pearson": _pearson(self.truth, called, weights)}
        right = (called == self.truth).astype(np.float64)
        accuracy: Array = weights @ right / weights.sum(axis=1)
        present = np.union1d(called, self.truth)
        real = (self.truth[:, None] == present).astype(np.float64)
        predicted = (called[:, None] == present).astype(np.float64)
        both = weights @ (real * predicted)
        either = weights @ (real + predicted)
        with np.errstate(invalid="ignore"):
            f1 = np.nanmean(2 * both / either, axis=1)  # a class may be missing from a resample
        return {"probe_accuracy": accuracy, "probe_macro_f1": f1}

    @cached_property
    def _weights(self) -> Array:
        return resampled_weights(np.unique(self.groups, return_inverse=True)[1], self.seed)

    @property
    def _count(self) -> int:
        return len(np.unique(self.groups))


def _pearson(truth: Array, called: Array, weights: Array) -> Array:
    total = weights.sum(axis=1)
    x, y = truth - truth.mean(), called - called.mean()
    mean_x, mean_y = weights @ x / total, weights @ y / total
    cross = weights @ (x * y) / total - mean_x * mean_y
    spread = (weights @ x**2 / total - mean_x**2) * (weights @ y**2 / total - mean_y**2)
    correlation: Array = np.divide(
        cross, np.sqrt(np.maximum(spread, 0)), out=np.zeros(len(weights)), where=spread > 0
    )
    return np.clip(correlation, -1, 1)


def _standardised(values: Array) -> Array:
    deviation = values.std()
    centred: Array = values - values.mean()
    return centred / deviation if deviation > 0 else centred * 0
