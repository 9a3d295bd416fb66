"""Which merges to try next: those that may be best, or those that teach most."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

import numpy as np
from scipy.stats import norm

from miscible.errors import MiscibleError
from miscible.predict.contract import Predictor
from miscible.predict.forecasting.forecast import chosen
from miscible.predict.forecasting.knowledge import MethodKnowledge, learn
from miscible.predict.forecasting.leverage import Leverage
from miscible.predict.pairs import Examples, Floats, Pairs, PairTable, Target
from miscible.predict.validation.calibration import LEVEL

Aim: TypeAlias = Literal["gain", "information"]
FEWEST_MERGES = 4
"""Merged pairs of a method below which nothing is learnt of it."""


@dataclass(frozen=True)
class Suggestion:
    """A merge to try.

    Attributes:
        a, b, method: what to merge, and how.
        value: expected gain over the threshold, or standard deviation of what is not known.
        mean, low, high: expected outcome and its interval.
        why: in a sentence.
    """

    a: str
    b: str
    method: str
    value: float
    mean: float
    low: float
    high: float
    why: str

    def as_dict(self) -> dict[str, Any]:
        """Return it as plain data."""
        return {
            "a": self.a, "b": self.b, "method": self.method, "value": self.value,
            "mean": self.mean, "low": self.low, "high": self.high, "why": self.why,
        }  # fmt: skip


@dataclass(frozen=True)
class Suggestions:
    """What to try, best first.

    Attributes:
        aim: see `suggest`.
        threshold: what a gain is counted from, and whose it is.
        merges: as many as the budget allows, or as there are.
        open: merges among which these were chosen.
        left_out: by reason, how many others were not considered.
    """

    aim: Aim
    threshold: float
    best: str
    merges: tuple[Suggestion, ...]
    open: int
    left_out: Mapping[str, int] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """Return it as plain data."""
        return {
            "objective": self.aim, "threshold": self.threshold, "best": self.best,
            "suggestions": [merge.as_dict() for merge in self.merges], "open": self.open,
            "left_out": dict(self.left_out),
        }  # fmt: skip


def suggest(
    table: PairTable,
    predictor: Predictor,
    budget: int,
    *,
    aim: Aim = "gain",
    target: Target = "normalised",
    methods: Sequence[str] | None = None,
    above: float | None = None,
    level: float = LEVEL,
    seed: int = 0,
) -> Suggestions:
    """Propose merges that have no outcome yet; add their outcomes and ask again.

    Args:
        table: measured pairs, some of them merged.
        predictor: what learns from these, once a method.
        budget: how many merges to propose.
        aim: ``gain``: the highest expected improvement over the best outcome so far (Mockus 1975;
            Jones, Schonlau and Welch 1998), E[max(0, y - best)] of a normal forecast.
            ``information``: one after another the merge of whose outcome least is known once the
            ones before it are. A linear predictor's doubt is its leverage; of any other it is its
            predictive standard deviation, refitted as if each chosen outcome were as expected.
        target: scale of the outcomes.
        methods: some of the table's methods; all if None.
        above: count gains from here instead of from the best outcome.
        level: of the intervals that are shown.
        seed: of whatever is drawn.

    Raises:
        UnknownNameError: for a method without outcomes, with a suggestion.
        MiscibleError: if nothing can be learnt or nothing is left to try.
    """
    if budget < 1:
        raise MiscibleError(f"a budget is at least one merge. Got {budget}.")
    left_out: dict[str, int] = {}
    held: dict[str, _Open] = {}
    for method in chosen(table.outcomes, methods):
        examples = table.examples(method, target)
        rows = np.flatnonzero(~np.isfinite(table.outcomes[method].mean[target]))
        if len(examples) < FEWEST_MERGES:
            why = f"{method}: fewer than {FEWEST_MERGES} merged pairs to learn from"
            left_out[why] = len(rows)
        elif len(rows):
            known = learn(predictor, examples, seed=seed)
            held[method] = _Open(method, known, examples, table.pairs.take(rows))
    if not held:
        raise MiscibleError(
            "there is nothing to suggest: "
            + ("too little was merged to learn from." if left_out else "all pairs were merged."),
            fix="Add rows of metrics for pairs that might be merged, or outcomes of merges.",
        )
    threshold, best = _best(held, above)
    if aim == "gain":
        merges = _gains(held, budget, threshold, level, left_out)
    else:
        merges = _informative(held, predictor, budget, level, seed)
    count = sum(len(each.pairs) for each in held.values())
    return Suggestions(aim, threshold, best, tuple(merges), count, left_out)


@dataclass(frozen=True)
class _Open:
    method: str
    known: MethodKnowledge
    examples: Examples
    pairs: Pairs

    def suggestion(self, row: int, value: float, level: float, why: str) -> Suggestion:
        pair = self.pairs.take(np.array([row]))
        forecast = self.known.forecast(pair)
        (low,), (high,) = self.known.interval(forecast, level)
        a, b = pair.names()[0]
        return Suggestion(
            a, b, self.method, value, float(forecast.mean[0]), float(low), float(high), why
        )

    def times(self, row: int) -> str:
        """Say how often the two models of a pair were merged by the method."""
        merged = Counter(name for pair in self.examples.pairs.names() for name in pair)
        a, b = self.pairs.take(np.array([row])).names()[0]
        return f"{a} was merged {merged[a]} times, {b} {merged[b]} times"


def _best(held: Mapping[str, _Open], above: float | None) -> tuple[float, str]:
    if above is not None:
        return above, "as asked"
    found, whose = -math.inf, ""
    for method, each in held.items():
        row = int(np.argmax(each.examples.mean))
        if each.examples.mean[row] > found:
            found = float(each.examples.mean[row])
            a, b = each.examples.pairs.take(np.array([row])).names()[0]
            whose = f"{a} with {b} by {method}"
    return found, whose


def expected_improvement(mean: Floats, sd: Floats, threshold: float) -> Floats:
    """Return E[max(0, y - threshold)] of normal forecasts; without an sd, of the mean alone."""
    ahead = mean - threshold
    safe = np.where(np.isfinite(sd) & (sd > 0), sd, 1.0)
    spread = ahead * norm.cdf(ahead / safe) + safe * norm.pdf(ahead / safe)
    return np.where(np.isfinite(sd) & (sd > 0), spread, np.maximum(ahead, 0.0))


def _gains(
    held: Mapping[str, _Open],
    budget: int,
    threshold: float,
    level: float,
    left_out: dict[str, int],
) -> list[Suggestion]:
    found: list[tuple[float, _Open, int]] = []
    for each in held.values():
        forecast = each.known.forecast(each.pairs)
        gains = expected_improvement(forecast.mean, forecast.sd, threshold)
        domain = each.known.domain
        outside, missing = domain.outside(each.pairs), domain.missing(each.pairs)
        for row, gain in enumerate(gains.tolist()):
            if outside[row]:
                why = f"{each.method}: metrics outside the range of the merged pairs"
            elif missing[row]:
                why = f"{each.method}: metrics missing that the predictor reads"
            else:
                found.append((gain, each, row))
                continue
            left_out[why] = left_out.get(why, 0) + 1
    found.sort(key=lambda merge: -merge[0])
    return [
        each.suggestion(
            row, gain, level, f"expected to beat {threshold:.3f} by {gain:.4f} on average"
        )
        for gain, each, row in found[:budget]
    ]


def _informative(
    held: Mapping[str, _Open], predictor: Predictor, budget: int, level: float, seed: int
) -> list[Suggestion]:
    doubts = {
        method: Leverage.of(each.known, each.examples, each.pairs)
        if each.known.fitted.coefficients
        else _Refitted(predictor, each.examples, each.pairs, seed)
        for method, each in held.items()
    }
    found: list[Suggestion] = []
    taken: set[tuple[str, int]] = set()
    for _ in range(min(budget, sum(len(each.pairs) for each in held.values()))):
        value, method, row = max(
            (float(sd), method, row)
            for method, doubt in doubts.items()
            for row, sd in enumerate(doubt.sd())
            if (method, row) not in taken
        )
        taken.add((method, row))
        doubts[method].learn(row)
        each = held[method]
        why = f"least is known of it (sd {value:.4f}): {each.times(row)}"
        found.append(each.suggestion(row, value, level, why))
    return found


class _Refitted:
    """Doubt of any predictor that tells a standard deviation: it learns what it expects."""

    def __init__(self, predictor: Predictor, examples: Examples, pairs: Pairs, seed: int) -> None:
        self.predictor, self.examples, self.pairs, self.seed = predictor, examples, pairs, seed
        self.fitted = predictor.fit(examples, seed=seed)
        self._sd: Floats | None = None

    def sd(self) -> Floats:
        if self._sd is None:
            self._sd = np.nan_to_num(self.fitted.predict(self.pairs).sd, nan=0.0)
        return self._sd

    def learn(self, row: int) -> None:
        pair = self.pairs.take(np.array([row]))
        expected = self.fitted.predict(pair)
        directed = expected.directed
        self.examples = Examples(
            joined(self.examples.pairs, pair),
            np.concatenate(
                [self.examples.directed, np.full((1, 2), np.nan) if directed is None else directed]
            ),
            np.concatenate([self.examples.mean, expected.mean]),
        )
        self.fitted = self.predictor.fit(self.examples, seed=self.seed)
        self._sd = None


def joined(one: Pairs, other: Pairs) -> Pairs:
    """Return the pairs of both; they are of one table."""
    return Pairs(
        one.models,
        np.concatenate([one.first, other.first]),
        np.concatenate([one.second, other.second]),
        one.metric_names,
        np.concatenate([one.metrics, other.metrics]),
        one.scalar_names,
        one.scalars,
    )
