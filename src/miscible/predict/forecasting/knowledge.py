"""What is known of one merging method: a fitted predictor, where it was trained, how good it is."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np
from scipy.stats import norm

from miscible.predict.contract import Fitted, Forecast, Predictor
from miscible.predict.forecasting.domain import Domain
from miscible.predict.pairs import Examples, Floats, Ints, Pairs
from miscible.predict.validation.crossvalidate import crossvalidate
from miscible.predict.validation.folds import FEWEST, Fold, leave_one_task_out, leave_tasks_out

LEVEL = 0.8
"""Level of intervals."""
DRAWS = 40
"""Sets of tasks that are held out at once to learn how large errors are."""


@dataclass(frozen=True, slots=True)
class Validated:
    """How a predictor did on held-out tasks.

    Attributes:
        what: what was held out, in words.
        skill: 1 - SSE / SSE of the training mean; NaN if it was not measured.
        r, null: correlation with the outcomes, and its mean where tasks were relabelled.
        p: share of relabellings that reach r, NaN without any.
    """

    what: str
    skill: float = math.nan
    r: float = math.nan
    null: float = math.nan
    p: float = math.nan


@dataclass(frozen=True)
class MethodKnowledge:
    """All that a forecast of merges by one method rests on.

    Attributes:
        fitted: the predictor after training on all merged pairs.
        domain: of these pairs.
        merged: how many of them each model is in.
        outcomes: float64 [n], their outcomes.
        scales: half-width of an interval of level `level`, in standard deviations if the predictor
            tells these and else in units of the outcome, by how many of a pair's two models are
            unseen (1 or 2).
        level: of these intervals.
        validated: scores on held-out tasks, by the same number.
    """

    fitted: Fitted
    domain: Domain
    merged: Mapping[str, int]
    outcomes: Floats
    scales: Mapping[int, float] = field(default_factory=dict)
    level: float = LEVEL
    validated: Mapping[int, Validated] = field(default_factory=dict)

    def used(self) -> Domain:
        """Return the ranges of the features that the predictor reads."""
        idle = frozenset(name for name, weight in self.fitted.coefficients.items() if weight == 0)
        return self.domain.without(idle)

    def unseen(self, pairs: Pairs) -> Ints:
        """Return int64 [n]: how many of a pair's two models are in no merged pair."""
        new = np.array([not self.merged.get(name) for name in pairs.models], dtype=np.bool_)
        return pairs.touches(new)

    def forecast(self, pairs: Pairs) -> Forecast:
        """Forecast pairs; the standard deviation is the one that errors on held-out tasks had."""
        found = self.fitted.predict(pairs)
        return Forecast(found.mean, self._sd(found, self.unseen(pairs)), found.directed)

    def interval(self, forecast: Forecast, level: float) -> tuple[Floats, Floats]:
        """Return ends between which an outcome lies with probability *level*, if it is normal."""
        half = norm.ppf((1 + level) / 2) * forecast.sd
        return forecast.mean - half, forecast.mean + half

    def spread(self, level: float) -> float:
        """Return the width of the interval that holds the share *level* of training outcomes."""
        low, high = np.quantile(self.outcomes, [(1 - level) / 2, (1 + level) / 2])
        return float(high - low)

    def _sd(self, forecast: Forecast, unseen: Ints) -> Floats:
        told = np.isfinite(forecast.sd)
        unit = np.where(told, forecast.sd, 1.0)
        # Of two known models no less is known than of one with a new partner.
        scale = np.array([self.scales.get(max(n, 1), math.nan) for n in unseen.tolist()])
        scaled: Floats = unit * scale / norm.ppf((1 + self.level) / 2)
        return np.where(np.isfinite(scale), scaled, np.where(told, forecast.sd, math.nan))


def learn(predictor: Predictor, train: Examples, *, seed: int = 0) -> MethodKnowledge:
    """Fit a predictor on merged pairs, and hold tasks out to learn how large its errors are.

    Raises:
        MiscibleError: if there is too little to learn from.
    """
    fitted = predictor.fit(train, seed=seed)
    seen = train.pairs.seen()
    count = np.bincount(
        np.concatenate([train.pairs.first, train.pairs.second]), minlength=len(train.pairs.models)
    )
    merged = {name: int(n) for name, n in zip(train.pairs.models, count, strict=True) if n}
    known = MethodKnowledge(fitted, Domain.of(train.pairs), merged, train.mean)
    if np.isfinite(fitted.predict(train.pairs.take(np.arange(1))).sd).all():
        return known
    scales: dict[int, float] = {}
    tasks = int(seen.sum())
    if tasks > FEWEST:
        scales[1] = _scale(predictor, train, leave_one_task_out(train.pairs), seed)
    if tasks >= 2 * FEWEST:
        k = max(FEWEST, tasks // 4)
        scales[2] = _scale(predictor, train, leave_tasks_out(train.pairs, k, DRAWS, seed), seed)
    return replace(known, scales=scales)


def _scale(predictor: Predictor, train: Examples, folds: list[Fold], seed: int) -> float:
    forecasts = crossvalidate(predictor, train, folds, seed=seed)
    errors = [
        np.abs(train.mean[fold.test] - f.mean) for fold, f in zip(folds, forecasts, strict=True)
    ]
    return float(np.quantile(np.concatenate(errors), LEVEL, method="higher"))
