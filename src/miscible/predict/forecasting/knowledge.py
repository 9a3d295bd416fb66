"""What is known of one merging method: a fitted predictor, where it was trained, how good it is."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from scipy.stats import norm

from miscible.errors import MiscibleError
from miscible.predict.contract import Fitted, Forecast, Predictor
from miscible.predict.forecasting.domain import Domain
from miscible.predict.pairs import Examples, Floats, Ints, Pairs
from miscible.predict.predictor_file import PredictorFile
from miscible.predict.validation.calibration import LEVEL, calibrate
from miscible.predict.validation.crossvalidate import crossvalidate
from miscible.predict.validation.folds import FEWEST, Fold, leave_one_task_out, leave_tasks_out

SIGNIFICANT = 0.05
"""A null that is reached more often than this share of times is not beaten."""
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
        number: of relabellings.
        high: upper end of the interval of r over tasks, NaN if there is none.
        partners: the correlation of the mean of the partner's other merges, NaN where models were
            held out so that no partner is known.
    """

    what: str
    skill: float = math.nan
    r: float = math.nan
    null: float = math.nan
    p: float = math.nan
    number: int = 0
    high: float = math.nan
    partners: float = math.nan

    @property
    def doubt(self) -> str:
        """Why its ranks are not to be trusted, empty if they are.

        Skill is above 0, and r beyond the null: at p <= 0.05, or above all of it where there are
        too few relabellings for such a p. What is known of the partners is in the null too: a
        predictor whose interval reaches to what these alone come to need not be beyond it.
        """
        ranks = self.r >= self.partners or self.high >= self.partners
        if self.skill <= 0:
            return (
                f"with {self.what} the predictor does no better than the training mean "
                f"(skill {self.skill:.2f}): ranks are not trustworthy."
            )
        if self.p > max(SIGNIFICANT, 1 / (1 + self.number)) and not ranks:
            return (
                f"with {self.what} the predictor does no better than where tasks are relabelled "
                f"(r {self.r:.2f}, null {self.null:.2f}, p {self.p:.2f}): ranks are not "
                "trustworthy."
            )
        return ""


@dataclass(frozen=True)
class MethodKnowledge:
    """All that a forecast of merges by one method rests on.

    Attributes:
        fitted: the predictor after training on all merged pairs.
        domain: what it reads, and the ranges of that in training.
        models: those with a merged pair.
        quantiles: float64 [Q], quantiles of the outcomes in training at Q even steps from 0 to 1.
        scales: half-width of an interval of level `level`, in standard deviations if the predictor
            tells these and else in units of the outcome, by how many of a pair's two models are
            unseen (0, 1, 2); NaN where that is not known.
        shared: see `MethodPredictor.shared`.
        merged: names of the merged pairs.
        level: of these intervals.
        validated: scores on held-out tasks, by the number of unseen models (1 or 2).
    """

    fitted: Fitted
    domain: Domain
    models: frozenset[str]
    quantiles: Floats
    scales: tuple[float, float, float] = (math.nan, math.nan, math.nan)
    shared: tuple[float, float] = (0.0, 0.0)
    merged: frozenset[tuple[str, str]] = frozenset()
    level: float = LEVEL
    validated: Mapping[int, Validated] = field(default_factory=dict)

    def unseen(self, pairs: Pairs) -> Ints:
        """Return int64 [n]: how many of a pair's two models are in no merged pair."""
        new = np.array([name not in self.models for name in pairs.models], dtype=np.bool_)
        return pairs.touches(new)

    def forecast(self, pairs: Pairs) -> Forecast:
        """Forecast pairs; the standard deviation is the one that errors on held-out tasks had."""
        found = self.fitted.predict(pairs)
        told = np.isfinite(found.sd)
        scale = np.array(self.scales)[self.unseen(pairs)]
        scaled = np.where(told, found.sd, 1.0) * scale / norm.ppf((1 + self.level) / 2)
        sd = np.where(np.isfinite(scale), scaled, np.where(told, found.sd, math.nan))
        return Forecast(found.mean, sd, found.directed)

    def interval(self, forecast: Forecast, level: float) -> tuple[Floats, Floats]:
        """Return ends between which an outcome lies with probability *level*.

        At another level than `level` they are as wide as if errors were normal.
        """
        half = norm.ppf((1 + level) / 2) * forecast.sd
        return forecast.mean - half, forecast.mean + half

    def spread(self, level: float) -> float:
        """Return the width of the interval that holds the share *level* of training outcomes."""
        at = np.linspace(0, 1, len(self.quantiles))
        low, high = np.interp([(1 - level) / 2, (1 + level) / 2], at, self.quantiles)
        return float(high - low)


def of_file(predictor: PredictorFile) -> dict[str, MethodKnowledge]:
    """Return what a predictor file knows, by method."""
    found: dict[str, MethodKnowledge] = {}
    for name, each in predictor.methods.items():
        ranges = {n: ends for n, ends in predictor.ranges.items() if ends[0] < ends[1]}
        scalars = {n: e for n, e in ranges.items() if n in predictor.scalars}
        metrics = {n: e for n, e in ranges.items() if n not in predictor.scalars}
        found[name] = MethodKnowledge(
            each.fitted,
            Domain(metrics, scalars).read_by(each.fitted.coefficients),
            frozenset(each.models),
            np.array(each.quantiles),
            scales=each.scales,
            shared=each.shared,
            merged=frozenset(each.merged),
            level=predictor.level,
            validated=validated(each.validation),
        )
    return found


def validated(held: Mapping[str, Any]) -> dict[int, Validated]:
    """Return what `Validation.as_dict` says, by the number of unseen models in a pair."""
    null: Mapping[str, Any] = held.get("null") or {}
    number = int(null.get("number") or 0)
    found: dict[int, Validated] = {}
    if loto := held.get("loto"):
        _, high = map(_number, (held.get("intervals") or {}).get("loto_r") or (None, None))
        partners = (held.get("baselines") or {}).get("partners_mean") or {}
        found[1] = Validated(
            "one of the two models new", _number(loto.get("skill")), _number(loto.get("r_mean")),
            _number(null.get("loto_r_mean")), _number(null.get("p")), number,
            high, _number(partners.get("loto_r")),
        )  # fmt: skip
    if lkto := held.get("lkto"):
        found[2] = Validated(
            "both models new", _number(lkto.get("skill")), _number(lkto.get("r")),
            _number(null.get("lkto_r")), _number(null.get("lkto_p")), number,
        )  # fmt: skip
    return found


def learn(predictor: Predictor, train: Examples, *, seed: int = 0) -> MethodKnowledge:
    """Fit a predictor on merged pairs, and hold tasks out to learn how large its errors are.

    Where the predictor tells its own standard deviation, that is believed.

    Raises:
        MiscibleError: if there is too little to learn from.
    """
    fitted = predictor.fit(train, seed=seed)
    seen = train.pairs.seen()
    tells = np.isfinite(fitted.predict(train.pairs.take(np.arange(1))).sd).all()
    nan = math.nan
    one, both = (nan, nan) if tells else _scales(predictor, train, int(seen.sum()), seed)
    return MethodKnowledge(
        fitted,
        Domain.of(train.pairs).read_by(fitted.coefficients),
        frozenset(m for m, held in zip(train.pairs.models, seen, strict=True) if held),
        np.quantile(train.mean, np.linspace(0, 1, 21)),
        (one, one, both),  # of two known models no less is known than with a new partner
    )


def _scales(predictor: Predictor, train: Examples, tasks: int, seed: int) -> tuple[float, float]:
    """Return the half-widths of intervals of pairs of one and of two unseen models."""

    def scale(make: Callable[[], Sequence[Fold]]) -> float:
        try:
            folds = make()
        except MiscibleError:  # too few tasks to hold any out
            return math.nan
        return calibrate(folds, crossvalidate(predictor, train, folds, seed=seed), train).scale

    k = max(FEWEST, tasks // 4)
    return (
        scale(lambda: leave_one_task_out(train.pairs)),
        scale(lambda: leave_tasks_out(train.pairs, k, DRAWS, seed)),
    )


def _number(value: float | None) -> float:
    return math.nan if value is None else float(value)
