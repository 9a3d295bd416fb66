"""What an evaluator is: options go in once, models go in one after another, rows come out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, TypeAlias

from miscible.evaluate.options import EvaluationOptions
from miscible.records import ItemRow, ScoreRow
from miscible.registry import Registry

if TYPE_CHECKING:
    from miscible.models import LiveModel


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Behaviour of one model: scores with intervals, and the items that they are made of."""

    scores: list[ScoreRow]
    items: list[ItemRow]


class Evaluator(Protocol):
    """Measures behaviour; holds whatever is the same for every model of a sweep."""

    def prepare(self) -> None:
        """Load what is the same for every model, so that what is wrong with it shows at once.

        Raises:
            UnknownNameError, DatasetError: as `evaluate` does.
        """
        ...

    def tokens(self) -> float:
        """Return roughly how many tokens one model will read, for an estimate of the cost."""
        ...

    def evaluate(self, model: LiveModel) -> Evaluation:
        """Evaluate the weights that *model* holds now; nothing of an earlier model may remain.

        Raises:
            UnknownNameError: for a task that does not exist.
            DatasetError: for a task or data file that cannot be read.
        """
        ...


EvaluatorFactory: TypeAlias = Callable[[EvaluationOptions], Evaluator]

evaluators: Registry[EvaluatorFactory] = Registry("evaluator", ("miscible.evaluate.harness",))


def evaluator(name: str) -> Callable[[EvaluatorFactory], EvaluatorFactory]:
    """Register a factory of evaluators (a class will do) under *name*."""

    def decorate(factory: EvaluatorFactory) -> EvaluatorFactory:
        return evaluators.register(name, factory)

    return decorate
