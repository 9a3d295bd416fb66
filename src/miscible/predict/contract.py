"""What a predictor is: something that learns from merged pairs and forecasts unmerged ones.

A third-party package lists its module in the entry-point group ``miscible``::

    @predictor("nearest_pair")
    class NearestPair(Predictor):
        def fit(self, train: Examples, *, seed: int) -> Fitted: ...
        def restore(self, held: Mapping[str, Any]) -> Fitted: ...
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, TypeVar

import numpy as np

from miscible.predict.pairs import Examples, Floats, Pairs
from miscible.registry import Registry

P = TypeVar("P", bound="type[Predictor]")


@dataclass(frozen=True)
class Forecast:
    """What a predictor says of n pairs.

    Attributes:
        mean: float64 [n], the expected outcome.
        sd: float64 [n], standard deviation of the predictive distribution of a merge's outcome
            (noise included), NaN where the predictor tells none.
        directed: float64 [n, 2], expected score on the task of the first and the second model,
            None where the predictor tells none.
    """

    mean: Floats
    sd: Floats
    directed: Floats | None = None

    @classmethod
    def of(cls, mean: Floats) -> Forecast:
        """Return a forecast without a predictive distribution."""
        return cls(mean, np.full(len(mean), np.nan))


class Fitted(ABC):
    """A predictor after training. It knows models by name: pairs may be of any table."""

    @abstractmethod
    def predict(self, pairs: Pairs) -> Forecast:
        """Forecast pairs, whose models may or may not have been seen in training.

        Metrics and scalars are matched by name; one that the pairs lack is a missing cell.
        """

    @property
    def coefficients(self) -> Mapping[str, float]:
        """Weight of every standardised feature, in units of the outcome; empty if not linear."""
        return {}

    @abstractmethod
    def as_dict(self) -> dict[str, Any]:
        """Return it as plain data (names, finite numbers, lists, None), ready for JSON."""


class Predictor(ABC):
    """A way to learn; its options are the arguments of its constructor, all with defaults.

    Attributes:
        name: its registered name.
        summary: the first line of its docstring.
        pools: whether the forecast of a pair with a new model reads the metrics of the model's
            other pairs too; pairs are then best forecast together.
    """

    name: ClassVar[str]
    summary: ClassVar[str]
    pools: ClassVar[bool] = False

    @abstractmethod
    def fit(self, train: Examples, *, seed: int) -> Fitted:
        """Learn from merged pairs.

        Whatever is estimated (scales, penalties, values for missing cells) is estimated from
        *train*: of models without a pair there, at most the scalars at prediction are used.

        Raises:
            MiscibleError: if there is too little to learn from.
        """

    def fit_many(self, trains: Sequence[Examples], *, seeds: Sequence[int]) -> list[Fitted]:
        """Fit each of several sets; a predictor that gains from doing this at once overrides it."""
        return [self.fit(train, seed=seed) for train, seed in zip(trains, seeds, strict=True)]

    def quick(self) -> Predictor:
        """Return the predictor that stands for this one where it is fitted thousands of times.

        That is in the null. It may spare itself what hardly changes its scores; itself if nothing
        can be spared.
        """
        return self

    @abstractmethod
    def restore(self, held: Mapping[str, Any]) -> Fitted:
        """Return what `Fitted.as_dict` wrote.

        Raises:
            KeyError, TypeError, ValueError: if it is not that.
        """


PREDICTORS: Registry[type[Predictor]] = Registry("predictor", ("miscible.predict.models",))


def predictor(name: str) -> Callable[[P], P]:
    """Register a class of predictors under *name*.

    Raises:
        MiscibleError: if another one has that name.
    """

    def register(cls: P) -> P:
        cls.name = name
        cls.summary = (cls.__doc__ or "").strip().partition("\n")[0]
        PREDICTORS.register(name, cls)
        return cls

    return register


def make(name: str) -> Predictor:
    """Return the predictor of that name with its default options.

    Raises:
        UnknownNameError: if there is none, with a suggestion.
    """
    return PREDICTORS.get(name)()
