"""Lasso that lets metrics which say the same share their weight."""

from __future__ import annotations

from dataclasses import dataclass

from miscible.predict.contract import predictor
from miscible.predict.penalised import Penalised


@predictor("elastic_net")
@dataclass(frozen=True)
class ElasticNet(Penalised):
    """Least squares with an intercept, an L1 and a squared penalty in equal parts."""

    ratio: float = 0.5
