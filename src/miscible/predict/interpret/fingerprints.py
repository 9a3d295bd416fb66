"""Fingerprints: the weights of a linear predictor of each method, and how far they can be read.

A weight is worth reading where it keeps its sign when tasks are left out or resampled. Where
metrics repeat one another it is not, whatever its size: see `collinearity`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from typing import Any

import numpy as np

from miscible.predict.contract import Predictor
from miscible.predict.pairs import Examples
from miscible.predict.validation.folds import leave_one_task_out
from miscible.predict.validation.intervals import draw_tasks, interval

TOP = 5
"""Metrics of two methods that are compared."""


@dataclass(frozen=True)
class Weight:
    """The weight of a metric.

    Attributes:
        value: in the fit to all pairs, in units of the outcome per standard deviation.
        low, high: 95 % over resampled tasks.
        selected_folds, selected_bootstrap: share of refits in which it is not 0: with each task
            left out, and with tasks resampled.
        sign_folds, sign_bootstrap: share of these in which its sign is that of `value`, of those in
            which it is not 0; NaN if `value` is 0, or none.
    """

    value: float
    low: float
    high: float
    selected_folds: float
    selected_bootstrap: float
    sign_folds: float
    sign_bootstrap: float

    def as_dict(self) -> dict[str, float]:
        """Return it as plain data."""
        return asdict(self)


def fingerprint(
    predictor: Predictor, examples: Examples, *, samples: int = 200, seed: int = 0
) -> dict[str, Weight]:
    """Return the weights of a linear predictor of one method; empty if it is not linear.

    In a bootstrap sample a pair of two drawn tasks stands as often as both were drawn.
    """
    whole = predictor.fit(examples, seed=seed).coefficients
    if not whole:
        return {}
    folds = [examples.take(fold.train) for fold in leave_one_task_out(examples.pairs)]
    pairs, drawn = examples.pairs, []
    for numbers in draw_tasks(examples, samples, seed):
        times = (numbers[pairs.first] * numbers[pairs.second]).astype(np.int64)
        if np.count_nonzero(times) > 2:
            drawn.append(examples.take(np.repeat(np.arange(len(times)), times)))
    refits = [
        [fitted.coefficients for fitted in predictor.fit_many(sets, seeds=[seed] * len(sets))]
        for sets in (folds, drawn)
    ]
    found = {}
    for name, value in whole.items():
        left, resampled = (np.array([held[name] for held in each]) for each in refits)
        low, high = interval(resampled)
        found[name] = Weight(
            value, low, high, _share(left != 0), _share(resampled != 0),
            _agreement(left, value), _agreement(resampled, value),
        )  # fmt: skip
    return found


@dataclass(frozen=True)
class Likeness:
    """Two methods' fingerprints.

    Attributes:
        a, b: methods.
        top: share of the `TOP` largest weights of a that are among those of b.
        chance: what that is by chance, over the metrics that either may choose.
        sign: share of the metrics with a weight in both that have the same sign; NaN if none.
        shared: how many there are.
    """

    a: str
    b: str
    top: float
    chance: float
    sign: float
    shared: int

    def as_dict(self) -> dict[str, Any]:
        """Return it as plain data."""
        return asdict(self)


def likenesses(weights: Mapping[str, Mapping[str, float]]) -> list[Likeness]:
    """Compare the weights of every two methods."""
    return [_likeness(a, b, weights[a], weights[b]) for a, b in combinations(sorted(weights), 2)]


def _likeness(a: str, b: str, first: Mapping[str, float], second: Mapping[str, float]) -> Likeness:
    one, other = largest(first, TOP), largest(second, TOP)
    both = [name for name in first if first[name] and second.get(name)]
    same = [np.sign(first[name]) == np.sign(second[name]) for name in both]
    return Likeness(
        a, b,
        len(set(one) & set(other)) / len(one) if one else float("nan"),
        len(other) / len(second) if second else float("nan"),
        float(np.mean(same)) if same else float("nan"),
        len(both),
    )  # fmt: skip


def largest(weights: Mapping[str, float], number: int) -> list[str]:
    """Return the names of the largest weights that are not 0, the largest first."""
    return sorted((n for n in weights if weights[n]), key=lambda n: -abs(weights[n]))[:number]


def _share(held: Sequence[bool] | np.ndarray[Any, Any]) -> float:
    return float(np.mean(held)) if len(held) else float("nan")


def _agreement(values: np.ndarray[Any, Any], value: float) -> float:
    used = values[values != 0]
    return float(np.mean(np.sign(used) == np.sign(value))) if value and len(used) else float("nan")
