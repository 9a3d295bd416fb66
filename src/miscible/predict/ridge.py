"""Ridge regression."""

from __future__ import annotations

from dataclasses import dataclass

from miscible.predict.contract import predictor
from miscible.predict.penalised import Penalised


@predictor("ridge")
@dataclass(frozen=True)
class Ridge(Penalised):
    """Least squares with an intercept and a squared penalty: all metrics, none of them large."""

    ratio: float = 0.0
