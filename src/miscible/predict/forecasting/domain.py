"""Where the training pairs lie: a predictor is not asked about pairs that lie elsewhere."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from miscible.predict.pairs import Floats, Pairs

MARGIN = 0.25
"""How far beyond the training values a value may lie, over the width of their range."""

Range = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Excess:
    """A value that lies outside the training values.

    Attributes:
        name: metric of a pair, or scalar of one of its models.
        value: of the pair or model.
        low, high: the range in training.
        model: whose scalar it is, empty for a metric.
    """

    name: str
    value: float
    low: float
    high: float
    model: str = ""

    @property
    def beyond(self) -> float:
        """How far outside it lies, over the width of the range."""
        return max(self.low - self.value, self.value - self.high) / (self.high - self.low)

    def __str__(self) -> str:
        side = "above" if self.value > self.high else "below"
        whose = f" of {self.model}" if self.model else ""
        return (
            f"{self.name}{whose} is {self.value:.4g}, {side} the {self.low:.4g} to "
            f"{self.high:.4g} of the training data by {self.beyond:.2g} times their range"
        )


@dataclass(frozen=True)
class Domain:
    """Ranges of what a predictor reads.

    Attributes:
        metrics, scalars: by name, the lowest and the highest value in training. One that is the
            same everywhere has no range, and says nothing.
    """

    metrics: Mapping[str, Range]
    scalars: Mapping[str, Range]

    @classmethod
    def of(cls, pairs: Pairs) -> Domain:
        """Return the domain of training pairs and of the models in them."""
        return cls(
            _ranges(pairs.metric_names, pairs.metrics),
            _ranges(pairs.scalar_names, pairs.scalars[pairs.seen()]),
        )

    def read_by(self, coefficients: Mapping[str, float]) -> Domain:
        """Return the ranges of what has a coefficient other than 0; all if there are none."""
        if not coefficients:
            return self
        read = {name for name, weight in coefficients.items() if weight != 0}
        return Domain(
            {name: ends for name, ends in self.metrics.items() if name in read},
            {n: e for n, e in self.scalars.items() if {f"mean({n})", f"gap({n})"} & read},
        )

    def missing(self, pairs: Pairs) -> list[list[str]]:
        """Return what each pair lacks, as words."""
        metrics, scalars = self._metrics(pairs), self._scalars(pairs)
        found: list[list[str]] = []
        for row, names in enumerate(pairs.names()):
            held = [n for n, v in zip(self.metrics, metrics[row], strict=True) if not _there(v)]
            for side, model in enumerate(names):
                held += [
                    f"{name} of {model}"
                    for name, value in zip(self.scalars, scalars[row, side], strict=True)
                    if not _there(value)
                ]
            found.append(held)
        return found

    def outside(self, pairs: Pairs, margin: float = MARGIN) -> list[list[Excess]]:
        """Return the values of each pair that lie beyond the margin, the farthest first."""
        metrics, scalars = self._metrics(pairs), self._scalars(pairs)
        found: list[list[Excess]] = []
        for row, names in enumerate(pairs.names()):
            held = [
                Excess(name, float(value), *ends)
                for (name, ends), value in zip(self.metrics.items(), metrics[row], strict=True)
            ]
            for side, model in enumerate(names):
                held += [
                    Excess(name, float(value), *ends, model)
                    for (name, ends), value in zip(
                        self.scalars.items(), scalars[row, side], strict=True
                    )
                ]
            beyond = [excess for excess in held if excess.beyond > margin]
            found.append(sorted(beyond, key=lambda excess: -excess.beyond))
        return found

    def _metrics(self, pairs: Pairs) -> Floats:
        return _columns(self.metrics, pairs.metric_names, pairs.metrics)

    def _scalars(self, pairs: Pairs) -> Floats:
        """Return float64 [n, 2, S]."""
        held = _columns(self.scalars, pairs.scalar_names, pairs.scalars)
        return np.stack([held[pairs.first], held[pairs.second]], axis=1)


def _ranges(names: Sequence[str], values: Floats) -> dict[str, Range]:
    there = np.isfinite(values)
    low = np.where(there, values, np.inf).min(axis=0, initial=np.inf)
    high = np.where(there, values, -np.inf).max(axis=0, initial=-np.inf)
    ends = zip(names, low.tolist(), high.tolist(), strict=True)
    return {name: (least, most) for name, least, most in ends if least < most}


def _columns(wanted: Mapping[str, Range], names: Sequence[str], values: Floats) -> Floats:
    place = {name: column for column, name in enumerate(names)}
    found = np.full((len(values), len(wanted)), np.nan)
    for column, name in enumerate(wanted):
        if name in place:
            found[:, column] = values[:, place[name]]
    return found


def _there(value: float) -> bool:
    return bool(np.isfinite(value))
