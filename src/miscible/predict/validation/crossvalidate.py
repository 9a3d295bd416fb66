"""Fits and forecasts over folds: nothing of a held-out task's outcomes is seen in fitting."""

from __future__ import annotations

from collections.abc import Sequence

from miscible.predict.contract import Forecast, Predictor
from miscible.predict.pairs import Examples
from miscible.predict.validation.folds import Fold


def crossvalidate(
    predictor: Predictor, examples: Examples, folds: Sequence[Fold], *, seed: int
) -> list[Forecast]:
    """Fit on the training pairs of every fold and forecast its test pairs."""
    trains = [examples.take(fold.train) for fold in folds]
    fitted = predictor.fit_many(trains, seeds=[seed] * len(folds))
    return [
        each.predict(examples.pairs.take(fold.test))
        for each, fold in zip(fitted, folds, strict=True)
    ]
