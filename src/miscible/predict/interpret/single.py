"""What a single feature says of the outcome, beside what it says of the wrong models."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass

import numpy as np

from miscible.predict.features import feature_matrix, feature_names
from miscible.predict.pairs import Examples, Floats, Pairs
from miscible.predict.validation.null import relabellings

FEWEST = 3
"""Pairs with a value below which nothing correlates."""


@dataclass(frozen=True)
class Correlation:
    """Pearson's r of a feature with the outcome over all merged pairs.

    Attributes:
        r: 0 where it is not defined.
        null_low, null_high: between which 95 % of the relabelled tables lie; NaN without a null.
        p: (1 + number of tables whose |r| is as large) / (1 + number of tables).
        p_any: likewise of tables in which *any* feature's is: of all features looked at together
            (Westfall and Young 1993).
    """

    r: float
    null_low: float = float("nan")
    null_high: float = float("nan")
    p: float = float("nan")
    p_any: float = float("nan")

    def as_dict(self) -> dict[str, float]:
        """Return it as plain data."""
        return asdict(self)


def single_correlations(
    examples: Examples, among: Pairs, *, null: int, seed: int = 0
) -> dict[str, Correlation]:
    """Correlate every feature with the outcome; the null is that of the predictor.

    Args:
        among: all measured pairs, see `miscible.predict.validation.null.relabel`.
        null: number of relabelled tables.
        seed: the one of the predictor's null gives the same tables.
    """
    names = feature_names(examples.pairs)
    found = correlations(feature_matrix(examples.pairs, names), examples.mean)
    if not null:
        return {name: Correlation(r) for name, r in zip(names, found.tolist(), strict=True)}
    wrong = np.array([
        correlations(feature_matrix(examples.pairs.relabelled(order, among), names), examples.mean)
        for order in relabellings(examples.pairs, null, seed)
    ])  # fmt: skip
    low, high = np.quantile(wrong, [0.025, 0.975], axis=0)
    own, largest = np.abs(found), np.abs(wrong).max(axis=1, initial=0.0)
    p = (1 + (np.abs(wrong) >= own).sum(axis=0)) / (1 + null)
    p_any = (1 + (largest[:, None] >= own).sum(axis=0)) / (1 + null)
    columns = (found, low, high, p, p_any)
    return {
        name: Correlation(*(float(column[n]) for column in columns)) for n, name in enumerate(names)
    }


def correlations(features: Floats, outcome: Floats) -> Floats:
    """Return float64 [F]: Pearson's r of features [n, F] with an outcome [n].

    It is taken over the pairs that have the feature; 0 where there are too few or all are alike.
    """
    there = np.isfinite(features)
    count = there.sum(axis=0)
    many = np.maximum(count, 1)
    x = np.where(there, features, 0.0)
    y = np.where(there, outcome[:, None], 0.0)
    x = np.where(there, x - x.sum(axis=0) / many, 0.0)
    y = np.where(there, y - y.sum(axis=0) / many, 0.0)
    size = np.sqrt((x * x).sum(axis=0) * (y * y).sum(axis=0))
    usable = (count >= FEWEST) & (size > 0)
    found: Floats = np.where(usable, (x * y).sum(axis=0) / np.where(usable, size, 1.0), 0.0)
    return found


def strongest(held: Mapping[str, Correlation], number: int) -> list[str]:
    """Return the names of the features that correlate most, the first first."""
    return sorted(held, key=lambda name: -abs(held[name].r))[:number]
