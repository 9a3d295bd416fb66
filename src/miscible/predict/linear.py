"""What all linear predictors become once they are fitted."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from miscible.errors import MiscibleError
from miscible.predict.contract import Fitted, Forecast
from miscible.predict.features import Scaling, feature_matrix, feature_names
from miscible.predict.pairs import Examples, Floats, Pairs


@dataclass(frozen=True)
class Linear(Fitted):
    """An intercept and a weight for each scaled feature.

    Attributes:
        names: F features.
        scaling: of the training pairs.
        weights: float64 [F], in units of the outcome per standard deviation of a feature.
        intercept: the mean outcome of the training pairs.
        details: what else fitting chose, e.g. the penalty.
    """

    names: tuple[str, ...]
    scaling: Scaling
    weights: Floats
    intercept: float
    details: Mapping[str, float] = field(default_factory=dict)

    def predict(self, pairs: Pairs) -> Forecast:
        """Return intercept + weights x scaled features."""
        features = self.scaling.apply(feature_matrix(pairs, self.names))
        # Summed feature by feature: a product of matrices may round by how many rows it has.
        return Forecast.of(self.intercept + (features * self.weights).sum(axis=1))

    @property
    def coefficients(self) -> Mapping[str, float]:
        """The weight of every feature."""
        return dict(zip(self.names, self.weights.tolist(), strict=True))

    def as_dict(self) -> dict[str, Any]:
        """Return it as plain data."""
        return {
            "names": list(self.names), "scaling": self.scaling.as_dict(),
            "weights": self.weights.tolist(), "intercept": self.intercept,
            "details": dict(self.details),
        }  # fmt: skip

    @classmethod
    def from_dict(cls, held: Mapping[str, Any]) -> Linear:
        """Return what `as_dict` wrote."""
        names = tuple(str(name) for name in held["names"])
        scaling, weights = Scaling.from_dict(held["scaling"]), np.asarray(held["weights"], float)
        if not len(names) == len(weights) == len(scaling.centre) == len(scaling.scale):
            raise ValueError("names, weights and scales differ in number")
        return cls(names, scaling, weights, float(held["intercept"]), dict(held["details"]))


def training_features(train: Examples) -> tuple[tuple[str, ...], Floats]:
    """Return the names and the values [n, F] of the features of training pairs.

    Raises:
        MiscibleError: if there are fewer than two pairs, or no feature at all.
    """
    names = tuple(feature_names(train.pairs))
    if len(train) < 2:
        raise MiscibleError(f"a predictor cannot learn from {len(train)} merged pairs.")
    if not names:
        raise MiscibleError(
            "a linear predictor needs metrics, and none is left.",
            fix="Give metrics or scalars that differ between pairs.",
        )
    return names, feature_matrix(train.pairs, names)
