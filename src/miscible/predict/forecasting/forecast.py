"""Forecasts of merges that were not made, best first, or why there is none.

A merge is abstained from, by the first rule that applies, where

1. a metric or scalar that the predictor reads is missing, or was measured otherwise;
2. one lies beyond the training values by more than a quarter of their range
   (`miscible.predict.forecasting.domain.MARGIN`);
3. the predictor did no better than the training mean, or than its null, on tasks that were held
   out in the same way: one of two models new, or both;
4. its interval is no narrower than the one that holds as many of the training outcomes: it knows
   no more of this pair than of any other.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

from miscible.errors import MiscibleError, UnknownNameError, did_you_mean
from miscible.predict.forecasting.knowledge import MethodKnowledge
from miscible.predict.pairs import Floats, Pairs
from miscible.predict.validation.calibration import LEVEL

TOLD = 3
"""Features that a reason names at most."""


@dataclass(frozen=True)
class Prediction:
    """What is expected of one merge.

    Attributes:
        a, b: its models.
        method: its merging method.
        status: ``ok``, or ``abstained`` for the `reason`; all numbers are then NaN.
        mean, low, high: expected outcome and the interval that holds it with probability `level`.
        sd: of the predictive distribution.
        directed: expected score on the task of each model, where the predictor tells these.
        rank: 1 for the highest mean, None where abstained.
    """

    a: str
    b: str
    method: str
    status: Literal["ok", "abstained"]
    reason: str = ""
    mean: float = math.nan
    low: float = math.nan
    high: float = math.nan
    sd: float = math.nan
    level: float = LEVEL
    directed: Mapping[str, float] | None = None
    rank: int | None = None

    def as_dict(self) -> dict[str, Any]:
        """Return it as plain data."""
        directed = None if self.directed is None else dict(self.directed)
        return {
            "a": self.a, "b": self.b, "method": self.method, "rank": self.rank,
            "status": self.status, "reason": self.reason, "mean": self.mean, "low": self.low,
            "high": self.high, "sd": self.sd, "level": self.level, "directed": directed,
        }  # fmt: skip


def forecast_pairs(
    known: Mapping[str, MethodKnowledge],
    pairs: Pairs,
    *,
    methods: Sequence[str] | None = None,
    level: float = LEVEL,
    incomparable: Mapping[str, str] | None = None,
) -> list[Prediction]:
    """Forecast all pairs by all methods: ranked ones first, then those abstained from.

    Args:
        known: by method.
        pairs: that were measured.
        methods: some of them; all if None.
        level: probability that an interval holds an outcome.
        incomparable: by metric, why its values are no match for those of the training pairs.

    Raises:
        UnknownNameError: for a method that the predictor does not know, with a suggestion.
        MiscibleError: if *level* is not a probability.
    """
    found: list[Prediction] = []
    for method in chosen(known, methods):
        found += _by_method(known[method], pairs, method, checked(level), incomparable or {})
    return ranked(found)


def chosen(known: Mapping[str, Any], methods: Sequence[str] | None) -> list[str]:
    """Return the methods that are meant, once each; all if None.

    Raises:
        UnknownNameError: for one that is not known, with a suggestion.
    """
    for method in methods or ():
        if method not in known:
            raise UnknownNameError(
                f"the predictor knows no method named {method!r}.", fix=did_you_mean(method, known)
            )
    return list(dict.fromkeys(methods)) if methods else sorted(known)


def checked(level: float) -> float:
    """Return the level of an interval.

    Raises:
        MiscibleError: if it is not between 0 and 1.
    """
    if not 0 < level < 1:
        raise MiscibleError(f"the level of an interval lies between 0 and 1. Got {level:g}.")
    return level


def ranked(predictions: Sequence[Prediction]) -> list[Prediction]:
    """Return predictions with their ranks, best first, those abstained from at the end."""
    sound = sorted((p for p in predictions if p.status == "ok"), key=lambda p: -p.mean)
    ranks = [replace(each, rank=number) for number, each in enumerate(sound, 1)]
    return ranks + [p for p in predictions if p.status != "ok"]


def _by_method(
    known: MethodKnowledge,
    pairs: Pairs,
    method: str,
    level: float,
    incomparable: Mapping[str, str],
) -> list[Prediction]:
    forecast = known.forecast(pairs)
    low, high = known.interval(forecast, level)
    reasons = abstentions(known, pairs, high - low, level, incomparable)
    found: list[Prediction] = []
    for row, (a, b) in enumerate(pairs.names()):
        if reasons[row]:
            found.append(Prediction(a, b, method, "abstained", reasons[row], level=level))
            continue
        directed = None
        if forecast.directed is not None and np.isfinite(forecast.directed[row]).all():
            directed = dict(zip((a, b), forecast.directed[row].tolist(), strict=True))
        found.append(
            Prediction(
                a, b, method, "ok", "", float(forecast.mean[row]), float(low[row]),
                float(high[row]), float(forecast.sd[row]), level, directed,
            )
        )  # fmt: skip
    return found


def abstentions(
    known: MethodKnowledge,
    pairs: Pairs,
    width: Floats,
    level: float,
    incomparable: Mapping[str, str],
) -> list[str]:
    """Return the reason to abstain from each pair, empty where there is none.

    Args:
        width: float64 [n], of the intervals.
    """
    domain, spread = known.domain, known.spread(level)
    missing, outside, unseen = domain.missing(pairs), domain.outside(pairs), known.unseen(pairs)
    other = {name: why for name, why in incomparable.items() if _reads(domain.metrics, name)}
    found: list[str] = []
    for row in range(len(pairs)):
        skill = known.validated.get(max(int(unseen[row]), 1))
        if other:
            name, why = next(iter(other.items()))
            reason = f"{name} cannot be compared with the training pairs: {why}"
        elif missing[row]:
            reason = f"{_listed(missing[row])} missing, which the predictor reads."
        elif outside[row]:
            rest = len(outside[row]) - TOLD
            told = "; ".join(str(excess) for excess in outside[row][:TOLD])
            reason = told + (f"; and {rest} more." if rest > 0 else ".")
        elif skill is not None and skill.doubt:
            reason = skill.doubt
        elif not math.isfinite(width[row]):
            reason = "too few tasks were merged to learn how large errors are."
        elif width[row] >= spread:
            reason = (
                f"its {level:.0%} interval ({width[row]:.3f} wide) is no narrower than that of "
                f"the training outcomes ({spread:.3f})."
            )
        else:
            reason = ""
        found.append(reason)
    return found


def _reads(features: Iterable[str], metric: str) -> bool:
    return any(name in (metric, f"{metric}_mean", f"{metric}_gap") for name in features)


def _listed(names: Sequence[str]) -> str:
    held = ", ".join(names[:TOLD])
    more = len(names) - TOLD
    verb = "is" if len(names) == 1 else "are"
    return f"{held}{f' and {more} more' if more > 0 else ''} {verb}"
