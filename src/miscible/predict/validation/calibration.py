"""Predictive intervals from errors on held-out tasks, and how often they cover.

A conformal interval has the width that the errors of held-out pairs call for, in units of the
predictor's own standard deviation where it tells one. There is one width for each number of unseen
models in a pair. Its coverage is observed on every held-out task with the width that the errors on
pairs of *other* tasks give.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from miscible.predict.contract import Forecast
from miscible.predict.pairs import Examples, Floats
from miscible.predict.validation.folds import Fold

LEVEL = 0.8
"""Coverage that predictive intervals are made for."""


@dataclass(frozen=True)
class Coverage:
    """How often intervals cover.

    Attributes:
        level: what they are made for.
        observed: share of held-out pairs inside, NaN if no width could be had.
        width: mean full width, in units of the outcome.
        scale: half-width of an interval, in standard deviations if the predictor tells these,
            else in units of the outcome; from all held-out pairs, to be used on new ones.
        pairs: held-out pairs that were looked at.
    """

    level: float
    observed: float
    width: float
    scale: float
    pairs: int

    def as_dict(self) -> dict[str, Any]:
        """Return it as plain data."""
        return {
            "level": self.level, "observed": self.observed, "width": self.width,
            "scale": self.scale, "pairs": self.pairs,
        }  # fmt: skip


def calibrate(
    folds: Sequence[Fold], forecasts: Sequence[Forecast], examples: Examples, level: float = LEVEL
) -> Coverage:
    """Return widths and observed coverage of intervals around the forecasts of *folds*."""
    rows = np.concatenate([fold.test for fold in folds])
    units = np.concatenate([_unit(forecast) for forecast in forecasts])
    guesses = np.concatenate([forecast.mean for forecast in forecasts])
    errors = np.abs(examples.mean[rows] - guesses) / units
    pairs, place = examples.pairs, {name: n for n, name in enumerate(examples.pairs.models)}
    covered = pairs_seen = 0
    widths, start = 0.0, 0
    for fold in folds:
        here = slice(start, start + len(fold.test))
        start += len(fold.test)
        held = np.zeros(len(pairs.models), dtype=np.bool_)
        held[[place[name] for name in fold.held]] = True
        scale = _quantile(errors[pairs.touches(held)[rows] == 0], level)
        if not math.isfinite(scale):
            continue
        covered += int((errors[here] <= scale).sum())
        pairs_seen += len(fold.test)
        widths += float(2 * scale * units[here].sum())
    observed = covered / pairs_seen if pairs_seen else math.nan
    width = widths / pairs_seen if pairs_seen else math.nan
    return Coverage(level, observed, width, _quantile(errors, level), pairs_seen)


def half_width(forecast: Forecast, scale: float) -> Floats:
    """Return float64 [n]: half-widths of intervals of a `Coverage.scale`."""
    return scale * _unit(forecast)


def _unit(forecast: Forecast) -> Floats:
    tells = np.isfinite(forecast.sd) & (forecast.sd > 0)
    return np.where(tells, forecast.sd, 1.0) if tells.all() else np.ones(len(forecast.mean))


def _quantile(errors: Floats, level: float) -> float:
    """The ceil((n + 1) level)-th smallest error, NaN if there are too few."""
    rank = math.ceil((len(errors) + 1) * level)
    return float(np.sort(errors)[rank - 1]) if 0 < rank <= len(errors) else math.nan
