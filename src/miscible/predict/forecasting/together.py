"""Merges of more than two models: ranked by the mean of what their pairs are expected to score."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Any, Literal

from miscible.errors import MiscibleError
from miscible.predict.forecasting.forecast import Prediction

MOST = 100_000
"""Sets of models beyond which a ranking is refused."""


@dataclass(frozen=True)
class GroupPrediction:
    """What the pairs of several models let expect of merging all of them at once.

    Attributes:
        models: in alphabetical order.
        mean: of the expected outcomes of their pairs by `method`; NaN where abstained. It orders
            merges; it is no estimate of their score, and so has no interval.
        rank: 1 for the highest mean.
    """

    models: tuple[str, ...]
    method: str
    status: Literal["ok", "abstained"]
    reason: str = ""
    mean: float = math.nan
    rank: int | None = None

    def as_dict(self) -> dict[str, Any]:
        """Return it as plain data."""
        return {
            "models": list(self.models), "method": self.method, "rank": self.rank,
            "status": self.status, "reason": self.reason, "mean": self.mean,
        }  # fmt: skip


def forecast_together(predictions: Sequence[Prediction], size: int) -> list[GroupPrediction]:
    """Rank all sets of *size* models by method; a set with a pair abstained from has no rank.

    Raises:
        MiscibleError: if there are not as many models, or too many sets.
    """
    models = sorted({name for p in predictions for name in (p.a, p.b)})
    methods = sorted({p.method for p in predictions})
    if not 3 <= size <= len(models):
        raise MiscibleError(
            f"{size} of {len(models)} models cannot be merged together.",
            fix=f"Give a number from 3 to {len(models)}." if len(models) > 2 else None,
        )
    number = math.comb(len(models), size) * len(methods)
    if number > MOST:
        raise MiscibleError(f"there are {number} sets of {size} of {len(models)} models to rank.")
    held = {(p.method, *sorted((p.a, p.b))): p for p in predictions}
    found: list[GroupPrediction] = []
    for method in methods:
        for group in combinations(models, size):
            pairs = [(pair, held.get((method, *pair))) for pair in combinations(group, 2)]
            doubt = next((pair for pair, p in pairs if p is None or p.status != "ok"), None)
            if doubt is not None:
                reason = f"there is no forecast of {doubt[0]} with {doubt[1]}."
                found.append(GroupPrediction(group, method, "abstained", reason))
                continue
            mean = sum(p.mean for _, p in pairs if p is not None) / len(pairs)
            found.append(GroupPrediction(group, method, "ok", "", mean))
    sound = sorted((g for g in found if g.status == "ok"), key=lambda g: -g.mean)
    ranks = [replace(group, rank=place) for place, group in enumerate(sound, 1)]
    return ranks + [group for group in found if group.status != "ok"]
