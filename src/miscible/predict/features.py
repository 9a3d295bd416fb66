"""What linear predictors see of a pair: its metrics, and the scalars of its two models.

A scalar s of two models becomes two features that do not depend on their order: ``mean(s)`` and
``gap(s)``, the absolute difference.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from miscible.predict.pairs import Floats, Pairs


def feature_names(pairs: Pairs) -> list[str]:
    """Return the names of all features that *pairs* offer."""
    scalars = [f"{kind}({name})" for name in pairs.scalar_names for kind in ("mean", "gap")]
    return [*pairs.metric_names, *scalars]


def feature_matrix(pairs: Pairs, names: tuple[str, ...] | list[str]) -> Floats:
    """Return float64 [n, F]: the features of those names, NaN where one is missing."""
    found = np.full((len(pairs), len(names)), np.nan)
    metric = {name: column for column, name in enumerate(pairs.metric_names)}
    scalar = {name: column for column, name in enumerate(pairs.scalar_names)}
    for column, name in enumerate(names):
        if name in metric:
            found[:, column] = pairs.metrics[:, metric[name]]
        elif name[:5] == "mean(" and name[5:-1] in scalar:
            held = pairs.scalars[:, scalar[name[5:-1]]]
            found[:, column] = (held[pairs.first] + held[pairs.second]) / 2
        elif name[:4] == "gap(" and name[4:-1] in scalar:
            held = pairs.scalars[:, scalar[name[4:-1]]]
            found[:, column] = np.abs(held[pairs.first] - held[pairs.second])
    return found


@dataclass(frozen=True)
class Scaling:
    """Mean and standard deviation of features, of the training pairs alone.

    A missing cell is taken for the mean; a feature that is constant, or missing everywhere, says
    nothing (it becomes 0).

    Attributes:
        centre, scale: float64 [F].
    """

    centre: Floats
    scale: Floats

    @classmethod
    def of(cls, features: Floats) -> Scaling:
        """Return the scaling of training features, float64 [n, F] with NaN for missing cells."""
        there = np.isfinite(features)
        count = np.maximum(there.sum(axis=0), 1)
        centre = np.where(there, features, 0.0).sum(axis=0) / count
        squares = np.where(there, features - centre, 0.0) ** 2
        spread = np.sqrt(squares.sum(axis=0) / count)
        constant = spread <= CONSTANT * np.maximum(np.abs(centre), 1e-300)
        return cls(centre, np.where(constant, 0.0, spread))

    def apply(self, features: Floats) -> Floats:
        """Return features of any pairs on the scale of the training pairs, without NaN."""
        scale = np.where(self.scale > 0, self.scale, 1.0)
        scaled = (features - self.centre) / scale
        return np.where(np.isfinite(features) & (self.scale > 0), scaled, 0.0)

    def as_dict(self) -> dict[str, Any]:
        """Return it as plain data."""
        return {"centre": self.centre.tolist(), "scale": self.scale.tolist()}

    @classmethod
    def from_dict(cls, held: Mapping[str, Any]) -> Scaling:
        """Return what `as_dict` wrote."""
        return cls(np.asarray(held["centre"], float), np.asarray(held["scale"], float))


CONSTANT = 1e-12
"""A feature whose spread is this small a part of its mean differs by rounding alone."""
