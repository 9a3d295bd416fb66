"""What the errors of forecasts have in common: those of pairs that share an unseen model."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from miscible.predict.contract import Forecast
from miscible.predict.pairs import Examples
from miscible.predict.validation.calibration import half_width
from miscible.predict.validation.folds import Fold


def shared_errors(
    folds: Sequence[Fold], forecasts: Sequence[Forecast], examples: Examples
) -> float:
    """Return the correlation of the errors of two held-out pairs of a fold that share a new model.

    It says how much the outcome of one merge of a new model tells of the model's others. Errors
    are in units of the predictor's standard deviation where it tells one; their expectation is
    taken to be 0. Never below 0; 0 where no fold has two such pairs.

    Args:
        folds: that hold out one task, or several.
    """
    products = squares = 0.0
    couples = count = 0
    place = {name: number for number, name in enumerate(examples.pairs.models)}
    for fold, forecast in zip(folds, forecasts, strict=True):
        pairs = examples.pairs.take(fold.test)
        errors = (examples.mean[fold.test] - forecast.mean) / half_width(forecast, 1.0)
        held = np.zeros((len(pairs), len(pairs.models)))
        rows, new = np.arange(len(pairs)), [place[name] for name in fold.held]
        held[rows, pairs.first] = held[rows, pairs.second] = 1.0
        shares = np.triu(held[:, new] @ held[:, new].T, 1)
        products += float(errors @ shares @ errors)
        couples += int(shares.sum())
        squares += float(errors @ errors)
        count += len(pairs)
    if not couples or squares <= 0:
        return 0.0
    return float(np.clip(products / couples / (squares / count), 0.0, 1.0))
