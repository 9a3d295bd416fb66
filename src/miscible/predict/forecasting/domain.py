"""Where the training pairs lie: a predictor is not asked about pairs that lie elsewhere."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from miscible.predict.features import feature_matrix, feature_names
from miscible.predict.pairs import Floats, Pairs

MARGIN = 0.25
"""How far beyond the training values a feature may lie, over the width of their range."""


@dataclass(frozen=True, slots=True)
class Excess:
    """A feature of a pair that lies outside the training values.

    Attributes:
        name: metric, or ``mean(s)`` and ``gap(s)`` of a scalar s of the two models.
        value: of the pair.
        low, high: the range of the training pairs.
    """

    name: str
    value: float
    low: float
    high: float

    @property
    def beyond(self) -> float:
        """How far outside it lies, over the width of the range."""
        return max(self.low - self.value, self.value - self.high) / (self.high - self.low)

    def __str__(self) -> str:
        side = "above" if self.value > self.high else "below"
        return (
            f"{self.name} is {self.value:.4g}, {side} the {self.low:.4g} to {self.high:.4g} of the "
            f"training pairs by {self.beyond:.1f} times their range"
        )


@dataclass(frozen=True)
class Domain:
    """Ranges of the features of training pairs.

    Attributes:
        names: F features that differ between training pairs.
        low, high: float64 [F], the lowest and the highest value of each.
    """

    names: tuple[str, ...]
    low: Floats
    high: Floats

    @classmethod
    def of(cls, pairs: Pairs) -> Domain:
        """Return the domain of training pairs; features without two values are not in it."""
        names = feature_names(pairs)
        values = feature_matrix(pairs, names)
        there = np.isfinite(values)
        low = np.where(there, values, np.inf).min(axis=0, initial=np.inf)
        high = np.where(there, values, -np.inf).max(axis=0, initial=-np.inf)
        kept = np.flatnonzero(high > low)
        return cls(tuple(names[column] for column in kept), low[kept], high[kept])

    def without(self, unused: frozenset[str]) -> Domain:
        """Return the ranges of all other features."""
        kept = [column for column, name in enumerate(self.names) if name not in unused]
        return Domain(tuple(self.names[c] for c in kept), self.low[kept], self.high[kept])

    def missing(self, pairs: Pairs) -> list[list[str]]:
        """Return the features that each pair lacks."""
        absent = ~np.isfinite(feature_matrix(pairs, self.names))
        return [[self.names[column] for column in np.flatnonzero(row)] for row in absent]

    def outside(self, pairs: Pairs, margin: float = MARGIN) -> list[list[Excess]]:
        """Return the features of each pair that lie beyond the margin, the farthest first."""
        values = feature_matrix(pairs, self.names)
        room = margin * (self.high - self.low)
        with np.errstate(invalid="ignore"):
            out = (values < self.low - room) | (values > self.high + room)
        found: list[list[Excess]] = []
        for row, beyond in zip(values, out, strict=True):
            held = [
                Excess(self.names[c], float(row[c]), float(self.low[c]), float(self.high[c]))
                for c in np.flatnonzero(beyond)
            ]
            found.append(sorted(held, key=lambda excess: -excess.beyond))
        return found

    def as_dict(self) -> dict[str, Any]:
        """Return it as plain data: the range of every feature."""
        ends = zip(self.low.tolist(), self.high.tolist(), strict=True)
        return {name: list(pair) for name, pair in zip(self.names, ends, strict=True)}

    @classmethod
    def from_dict(cls, held: Mapping[str, Any]) -> Domain:
        """Return what `as_dict` wrote.

        Raises:
            ValueError, TypeError: if it is not that.
        """
        ends = np.array([[float(low), float(high)] for low, high in held.values()], dtype=float)
        ends = ends.reshape(len(held), 2)
        if not (ends[:, 0] < ends[:, 1]).all():
            raise ValueError("a range of a feature is empty")
        return cls(tuple(str(name) for name in held), ends[:, 0], ends[:, 1])
