"""Behaviour: what a model says, measured item by item, with intervals."""

from __future__ import annotations

from miscible.evaluate.contract import (
    Evaluation,
    Evaluator,
    EvaluatorFactory,
    evaluator,
    evaluators,
)
from miscible.evaluate.options import DataSource, EvaluationOptions

__all__ = [
    "DataSource",
    "Evaluation",
    "EvaluationOptions",
    "Evaluator",
    "EvaluatorFactory",
    "evaluator",
    "evaluators",
]
