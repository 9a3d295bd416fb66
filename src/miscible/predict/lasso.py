"""The interpretable default."""

from __future__ import annotations

from dataclasses import dataclass

from miscible.predict.contract import predictor
from miscible.predict.penalised import Penalised


@predictor("lasso")
@dataclass(frozen=True)
class Lasso(Penalised):
    """Least squares with an intercept and an L1 penalty: few metrics, each with its weight."""
