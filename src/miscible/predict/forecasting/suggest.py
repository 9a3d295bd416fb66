"""Which merges to try next: those that may be best, or those that teach most."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from miscible.errors import MiscibleError
from miscible.predict.contract import Predictor
from miscible.predict.forecasting.forecast import checked, chosen
from miscible.predict.forecasting.knowledge import MethodKnowledge, learn
from miscible.predict.forecasting.leverage import Leverage
from miscible.predict.forecasting.suggestion import (
    Aim,
    Suggestion,
    Suggestions,
    check_aims,
    doubt_told,
    expected_improvement,
    gain_told,
)
from miscible.predict.pairs import Examples, Floats, Pairs, PairTable, Target
from miscible.predict.validation.calibration import LEVEL

FEWEST_MERGES = 4
"""Merged pairs of a method below which nothing is learnt of it."""


def suggest(
    table: PairTable,
    predictor: Predictor,
    budget: int,
    *,
    aim: Aim = "gain",
    target: Target = "normalised",
    methods: Sequence[str] | None = None,
    above: float | None = None,
    level: float | None = None,
    seed: int = 0,
) -> Suggestions:
    """Propose merges that have no outcome yet; add their outcomes and ask again.

    Args:
        table: measured pairs, some of them merged.
        predictor: what learns from these, once a method.
        budget: how many merges to propose.
        aim: see `Aim`. What is not known is the leverage of a linear predictor, and of any other
            its predictive standard deviation, refitted as if each chosen outcome were as expected.
            Pairs outside the range of the merged ones, or that lack what the predictor reads, are
            left out.
        target: scale of the outcomes.
        methods: some of the table's methods; all if None.
        above: count gains from here instead of from the best outcome.
        level: of the intervals that are shown; 0.8 if None.
        seed: of whatever is drawn.

    Raises:
        UnknownNameError: for a method without outcomes, with a suggestion.
        MiscibleError: if nothing can be learnt or nothing is left to try.
    """
    check_aims(budget, above)
    level = checked(LEVEL if level is None else level)
    left_out: dict[str, int] = {}
    held: dict[str, _Open] = {}
    count = 0
    for method in chosen(table.outcomes, methods):
        examples = table.examples(method, target)
        rows = np.flatnonzero(~np.isfinite(table.outcomes[method].mean[target]))
        if len(examples) < FEWEST_MERGES:
            why = f"{method}: fewer than {FEWEST_MERGES} merged pairs to learn from"
            left_out[why] = len(rows)
        elif len(rows):
            known = learn(predictor, examples, seed=seed)
            pairs = table.pairs.take(rows)
            inside = _inside(known, pairs, method, left_out)
            held[method] = _Open(method, known, examples, pairs.take(inside))
            count += len(rows)
    if not held:
        raise MiscibleError(
            "there is nothing to suggest: "
            + ("too little was merged to learn from." if left_out else "all pairs were merged."),
            fix="Add rows of metrics for pairs that might be merged, or outcomes of merges.",
        )
    threshold, best = _best(held, above)
    if aim == "gain":
        merges = _gains(held, budget, threshold, level)
    else:
        merges = _informative(held, predictor, budget, level, seed)
    learnt = {method: len(each.examples) for method, each in held.items()}
    what = "expected gain" if aim == "gain" else "how little is known of their outcome"
    rule = f"by {what}, from {predictor.name} fitted to the {sum(learnt.values())} outcomes."
    return Suggestions(
        aim, threshold, best, tuple(merges), count, rule, learnt, level, left_out, (),
        table.counts,
    )  # fmt: skip


def _inside(
    known: MethodKnowledge, pairs: Pairs, method: str, left_out: dict[str, int]
) -> npt.NDArray[np.bool_]:
    """Return bool [n]: whether a pair is like the merged ones; count those that are not."""
    outside, missing = known.domain.outside(pairs), known.domain.missing(pairs)
    inside = np.ones(len(pairs), dtype=np.bool_)
    for row in range(len(pairs)):
        if outside[row]:
            why = f"{method}: metrics outside the range of the merged pairs"
        elif missing[row]:
            why = f"{method}: metrics missing that the predictor reads"
        else:
            continue
        inside[row] = False
        left_out[why] = left_out.get(why, 0) + 1
    return inside


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


def _gains(
    held: Mapping[str, _Open], budget: int, threshold: float, level: float
) -> list[Suggestion]:
    found: list[tuple[float, _Open, int]] = []
    for each in held.values():
        forecast = each.known.forecast(each.pairs)
        gains = expected_improvement(forecast.mean, forecast.sd, threshold)
        found += [(gain, each, row) for row, gain in enumerate(gains.tolist())]
    found.sort(key=lambda merge: -merge[0])
    return [
        each.suggestion(row, gain, level, gain_told(gain, threshold))
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
        merged = Counter(name for pair in each.examples.pairs.names() for name in pair)
        why = doubt_told(value, each.pairs.names()[row], merged)
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
