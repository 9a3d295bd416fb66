"""What to try next, as plain data; and the gain that is to be expected of a forecast."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

import numpy as np
from scipy.stats import norm

from miscible.errors import MiscibleError
from miscible.predict.pairs import Floats

Aim: TypeAlias = Literal["gain", "information"]
"""``gain``: the highest expected improvement (Mockus 1975; Jones, Schonlau and Welch 1998),
E[max(0, y - threshold)] of a normal forecast. ``information``: one after another the merge of whose
outcome least is known once the ones before it are."""


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
        aim: see `Aim`.
        threshold: what a gain is counted from, and whose it is.
        merges: as many as the budget allows, or as there are.
        open: merges that have no outcome, those in `left_out` too.
        rule: by what they are ranked, in a sentence.
        learnt: by method, the number of outcomes from which was learnt.
        level: of the intervals.
        left_out: by reason, how many others were not considered.
        excluded: models that could not be measured, and why.
        counts: what rules of reading tables concerned.
        notes: how metrics compare with those in training, see `Comparability`.
    """

    aim: Aim
    threshold: float
    best: str
    merges: tuple[Suggestion, ...]
    open: int
    rule: str
    learnt: Mapping[str, int]
    level: float
    left_out: Mapping[str, int] = field(default_factory=dict)
    excluded: tuple[tuple[str, str], ...] = ()
    counts: Mapping[str, int] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """Return it as plain data."""
        return {
            "objective": self.aim, "rule": self.rule, "threshold": self.threshold,
            "best": self.best, "level": self.level, "learnt": dict(self.learnt),
            "suggestions": [merge.as_dict() for merge in self.merges], "open": self.open,
            "left_out": dict(self.left_out),
            "excluded": [{"model": name, "reason": why} for name, why in self.excluded],
            "counts": dict(self.counts), "notes": list(self.notes),
        }  # fmt: skip


def expected_improvement(mean: Floats, sd: Floats, threshold: float) -> Floats:
    """Return E[max(0, y - threshold)] of normal forecasts; without an sd, of the mean alone."""
    ahead = mean - threshold
    safe = np.where(np.isfinite(sd) & (sd > 0), sd, 1.0)
    spread = ahead * norm.cdf(ahead / safe) + safe * norm.pdf(ahead / safe)
    return np.where(np.isfinite(sd) & (sd > 0), spread, np.maximum(ahead, 0.0))


def check_aims(budget: int, above: float | None) -> None:
    """Check the number of merges that are wanted, and from where a gain is counted.

    Raises:
        MiscibleError: if the one is below 1 or the other no number.
    """
    if above is not None and not math.isfinite(above):
        raise MiscibleError(
            f"a gain is counted from a finite number. Got {above}.", fix="Give the score to beat."
        )
    if budget < 1:
        raise MiscibleError(f"a budget is at least one merge. Got {budget}.", fix="Give 1 or more.")


def gain_told(gain: float, threshold: float) -> str:
    """Say what is expected of a merge that may be the best."""
    return f"expected to beat {threshold:.3f} by {gain:.3g} on average"


def doubt_told(sd: float, pair: tuple[str, str], merged: Counter[str]) -> str:
    """Say how little is known of a merge, and how often its two models were merged."""
    often = ", ".join(f"{name} {_times(merged[name])}" for name in pair)
    return f"least is known of it (sd {sd:.3g}); merged so far: {often}"


def _times(number: int) -> str:
    return {0: "never", 1: "once", 2: "twice"}.get(number, f"{number} times")
