"""What validation says, as plain data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from miscible.predict.contract import Forecast
from miscible.predict.pairs import Floats
from miscible.predict.validation.calibration import Coverage
from miscible.predict.validation.folds import Fold
from miscible.predict.validation.scores import LktoScore, LotoScore


@dataclass(frozen=True)
class Comparison:
    """Scores of the predictor or of a baseline, on the same folds.

    Attributes:
        title: what it is, for people; empty for the predictor itself.
        loto, lkto: None where not validated so.
        intervals: 95 % intervals over tasks of ``loto_r``, ``lkto_r`` and ``lkto_skill``.
    """

    title: str
    loto: LotoScore | None = None
    lkto: LktoScore | None = None
    intervals: Mapping[str, tuple[float, float]] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """Return it as plain data."""
        return {
            "loto_r": self.loto.r_mean if self.loto else None,
            "lkto_r": self.lkto.r if self.lkto else None,
            "lkto_skill": self.lkto.skill if self.lkto else None,
            "intervals": {name: list(bounds) for name, bounds in self.intervals.items()},
        }


@dataclass(frozen=True)
class Spread:
    """A score over seeds.

    Attributes:
        mean, sd: NaN where there are too few seeds.
        number: seeds.
    """

    mean: float
    sd: float
    number: int

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """Return the spread of one value a seed."""
        sd = float(np.std(values, ddof=1)) if len(values) > 1 else float("nan")
        return cls(float(np.mean(values)), sd, len(values))


@dataclass(frozen=True)
class NullResult:
    """Scores of relabelled tables, and how the predictor's compare.

    Attributes:
        number: relabellings.
        loto, lkto, skill: their scores, empty where not validated so.
        loto_p, lkto_p, skill_p: (1 + #(null >= score)) / (1 + number), None likewise.
    """

    number: int
    loto: Floats
    lkto: Floats
    skill: Floats
    loto_p: float | None
    lkto_p: float | None
    skill_p: float | None

    def as_dict(self) -> dict[str, Any]:
        """Return it as plain data."""
        return {
            "loto_r_mean": _mean(self.loto), "p": self.loto_p,
            "lkto_r": _mean(self.lkto), "lkto_p": self.lkto_p,
            "lkto_skill": _mean(self.skill), "lkto_skill_p": self.skill_p,
            "number": self.number,
        }  # fmt: skip


@dataclass(frozen=True)
class Validation:
    """A predictor on the merges of one method.

    Attributes:
        pairs, tasks: merged pairs with an outcome, and models in them.
        own: the predictor's scores.
        baselines: by name, on the same folds.
        null: None if not asked for.
        coverage: of predictive intervals, by ``loto`` (one model unseen) and ``lkto`` (both).
        seeds: spread of scores over seeds.
        coefficients: of the fit to all pairs; empty if the predictor is not linear.
        skipped: what could not be validated, and why.
        forecasts: folds and forecasts by ``loto`` and ``lkto``, of the first seed.
    """

    method: str
    pairs: int
    tasks: int
    own: Comparison
    baselines: Mapping[str, Comparison]
    null: NullResult | None
    coverage: Mapping[str, Coverage]
    seeds: Mapping[str, Spread]
    coefficients: Mapping[str, float]
    skipped: Mapping[str, str]
    forecasts: Mapping[str, tuple[Sequence[Fold], Sequence[Forecast]]]

    def as_dict(self) -> dict[str, Any]:
        """Return it as plain data; what was not validated is None."""
        first = next(iter(self.coverage.values()), None)
        return {
            "pairs": self.pairs,
            "tasks": self.tasks,
            "loto": self.own.loto.as_dict() if self.own.loto else None,
            "lkto": self.own.lkto.as_dict() if self.own.lkto else None,
            "intervals": self.own.as_dict()["intervals"],
            "baselines": {name: held.as_dict() for name, held in self.baselines.items()},
            "null": self.null.as_dict() if self.null else None,
            "interval_coverage": {
                **(first.as_dict() if first else {}),
                "by": {name: held.as_dict() for name, held in self.coverage.items()},
            },
            "seeds": {
                name: {"mean": held.mean, "sd": held.sd, "number": held.number}
                for name, held in self.seeds.items()
            },
            "coefficients": dict(self.coefficients),
            "not_validated": dict(self.skipped),
        }


def _mean(values: Floats) -> float | None:
    there = values[np.isfinite(values)]
    return float(there.mean()) if len(there) else None
