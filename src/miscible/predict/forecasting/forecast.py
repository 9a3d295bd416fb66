"""Forecasts of merges that were not made, best first, or why there is none.

A merge is abstained from by the first `Rule` that applies.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any, Literal, NamedTuple

import numpy as np

from miscible.errors import MiscibleError, UnknownNameError, did_you_mean
from miscible.predict.forecasting.comparable import Comparability
from miscible.predict.forecasting.domain import MARGIN
from miscible.predict.forecasting.knowledge import MethodKnowledge
from miscible.predict.pairs import Floats, Pairs
from miscible.predict.validation.calibration import LEVEL

TOLD = 3
"""Features that a reason names at most."""
ALIKE = Comparability()


class Rule(StrEnum):
    """When there is no forecast, in the order in which it is asked."""

    COMPARABLE = "a metric or scalar that the predictor reads is missing, or was measured otherwise"
    INSIDE = f"one lies beyond the training values by more than {MARGIN:.0%} of their range"
    SKILL = "on held-out tasks the predictor did no better than the training mean, or than its null"
    """Held out as they are new in the pair: one of its two models, or both. See `Validated`."""
    KNOWLEDGE = "the interval is no narrower than that of the training outcomes"
    """The one that holds as many of these: no more is known of this pair than of any other."""


class Abstention(NamedTuple):
    """Why there is no forecast of a merge: the rule, and what it says here."""

    rule: Rule
    reason: str


@dataclass(frozen=True)
class Prediction:
    """What is expected of one merge.

    Attributes:
        a, b: its models.
        method: its merging method.
        status: ``ok``, or ``abstained`` for the `reason`, by the `rule`; all numbers are then NaN.
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
    rule: Rule | None = None

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
    comparability: Comparability = ALIKE,
) -> list[Prediction]:
    """Forecast all pairs by all methods: ranked ones first, then those abstained from.

    Args:
        known: by method.
        pairs: that were measured.
        methods: some of them; all if None.
        level: probability that an interval holds an outcome.
        comparability: of the pairs' metrics with those of the training pairs.

    Raises:
        UnknownNameError: for a method that the predictor does not know, with a suggestion.
        MiscibleError: if *level* is not a probability.
    """
    found: list[Prediction] = []
    for method in chosen(known, methods):
        found += _by_method(known[method], pairs, method, checked(level), comparability)
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
    comparability: Comparability,
) -> list[Prediction]:
    forecast = known.forecast(pairs)
    low, high = known.interval(forecast, level)
    doubts = abstentions(known, pairs, high - low, level, comparability)
    found: list[Prediction] = []
    for row, ((a, b), doubt) in enumerate(zip(pairs.names(), doubts, strict=True)):
        if doubt is not None:
            found.append(
                Prediction(a, b, method, "abstained", doubt.reason, level=level, rule=doubt.rule)
            )
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
    comparability: Comparability,
) -> list[Abstention | None]:
    """Return why there is no forecast of each pair, None where there is one.

    Args:
        width: float64 [n], of the intervals.
    """
    domain, spread = known.domain, known.spread(level)
    missing, outside, unseen = domain.missing(pairs), domain.outside(pairs), known.unseen(pairs)
    found: list[Abstention | None] = []
    for row, names in enumerate(pairs.names()):
        doubts = comparability.doubts(*names).items()
        other = next((each for each in doubts if _reads(domain.metrics, each[0])), None)
        skill = known.validated.get(max(int(unseen[row]), 1))
        rule, reason = None, ""
        if other is not None:
            rule = Rule.COMPARABLE
            reason = f"{other[0]} cannot be compared with the training pairs: {other[1]}"
        elif missing[row]:
            rule = Rule.COMPARABLE
            reason = f"{_listed(missing[row])} missing, which the predictor reads."
        elif outside[row]:
            rest = len(outside[row]) - TOLD
            told = "; ".join(str(excess) for excess in outside[row][:TOLD])
            rule, reason = Rule.INSIDE, told + (f"; and {rest} more." if rest > 0 else ".")
        elif skill is not None and skill.doubt:
            rule, reason = Rule.SKILL, skill.doubt
        elif not math.isfinite(width[row]):
            rule = Rule.KNOWLEDGE
            reason = "too few tasks were merged to learn how large errors are."
        elif width[row] >= spread:
            rule, reason = (
                Rule.KNOWLEDGE,
                (
                    f"its {level:.0%} interval ({width[row]:.3f} wide) is no narrower than that of "
                    f"the training outcomes ({spread:.3f})."
                ),
            )
        found.append(None if rule is None else Abstention(rule, reason))
    return found


def _reads(features: Iterable[str], metric: str) -> bool:
    return any(name in (metric, f"{metric}_mean", f"{metric}_gap") for name in features)


def _listed(names: Sequence[str]) -> str:
    held = ", ".join(names[:TOLD])
    more = len(names) - TOLD
    verb = "is" if len(names) == 1 else "are"
    return f"{held}{f' and {more} more' if more > 0 else ''} {verb}"
