"""How a method declares its parameters: as defaults of its keyword arguments."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, TypeAlias, TypeVar

from miscible.errors import RecipeError, did_you_mean

T = TypeVar("T")
PerModel: TypeAlias = Annotated[tuple[T, ...], "per model"]
"""A parameter with one value a model, in the order of the models."""


LARGEST = 3.4028234663852886e38
"""Largest number of float32, in which methods compute."""


class Required:
    """Marks a parameter without a default."""


REQUIRED = Required()


@dataclass(frozen=True, slots=True)
class Parameter:
    """A declared parameter of a method.

    Attributes:
        name: as recipes write it.
        kind: ``float``, ``int``, ``bool`` or ``str``.
        default: the value where a recipe gives none, or `REQUIRED`.
        low, high: closed range of allowed numbers.
        choices: allowed words.
        per_model: whether each model has its own value.
    """

    name: str
    kind: type
    default: Any
    low: float = -math.inf
    high: float = math.inf
    choices: tuple[str, ...] = ()
    per_model: bool = False

    def check(self, value: Any, method: str) -> Any:
        """Return *value* in the parameter's type.

        Raises:
            RecipeError: if it is of another type or out of range.
        """
        hint = None
        if self.kind is bool:
            if isinstance(value, bool):
                return value
        elif self.kind is str:
            if value in self.choices:
                return value
            hint = did_you_mean(str(value), self.choices)
        else:
            number = _as_number(value)
            if number is not None and self.low <= number <= self.high:
                if self.kind is float:
                    return number
                if number == int(number):
                    return int(number)
        raise RecipeError(
            f"The {self.name!r} parameter of {method} must be {self}. Got {value!r}.", fix=hint
        )

    def __str__(self) -> str:
        if self.kind is bool:
            return "true or false"
        if self.kind is str:
            return f"one of {', '.join(self.choices)}"
        noun = "whole number" if self.kind is int else "number"
        if math.isinf(self.low) and math.isinf(self.high):
            return f"a {'' if self.kind is int else 'finite '}{noun}"
        if math.isinf(self.high):
            return f"a {noun} of at least {self.low:g}"
        return f"a {noun} in the range [{self.low:g}, {self.high:g}]"


def per_model(default: Any, *, low: float = -math.inf, high: float = math.inf) -> Any:
    """Declare a parameter with one number a model (annotate it ``PerModel[float]``)."""
    return Parameter("", float, default, low, high, per_model=True)


def shared(
    default: Any,
    *,
    low: float = -math.inf,
    high: float = math.inf,
    choices: Sequence[str] = (),
) -> Any:
    """Declare a parameter with one value for all models.

    Its kind is that of the default (``bool``, ``int``, ``float``; ``float`` for `REQUIRED`), or one
    of the words in *choices*.
    """
    kind = str if choices else type(default) if isinstance(default, (bool, int)) else float
    return Parameter("", kind, default, low, high, tuple(choices))


def _as_number(value: Any) -> float | None:
    # YAML 1.1 reads 1e-3 as text, and recipes in the wild contain it.
    if isinstance(value, bool):
        return None
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        return None
    return number if abs(number) <= LARGEST else None
