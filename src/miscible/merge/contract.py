"""What a merging method is: a pure function of tensors, and the data declared beside it.

A method sees one tensor of every model at a time. Its first argument says in which space it
works: `Weights` (the tensors themselves) or `Deltas` (their differences from the base). Returning
a `Weights` result from deltas is a type error, so a base can neither be forgotten nor added twice.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias, TypeVar, get_type_hints

from miscible.errors import RecipeError
from miscible.registry import Registry

if TYPE_CHECKING:
    import torch

    from miscible.merge.ops.random import ElementRandom

T = TypeVar("T")
Condition: TypeAlias = Callable[[Mapping[str, Any]], bool]
"""Of a method's parameter values, by recipe name."""
Check: TypeAlias = Callable[[Mapping[str, Any]], str | None]
"""Returns what is wrong with a method's parameter values, as a sentence, or None."""
PerModel: TypeAlias = Annotated[tuple[T, ...], "per model"]
"""A parameter with one value a model, in the order of the models."""


@dataclass(frozen=True, slots=True, eq=False)
class Weights:
    """One tensor of each model, all of the same shape, float32 or float64."""

    tensors: tuple[torch.Tensor, ...]

    def weighted_sum(self, weights: Sequence[float]) -> Weight:
        """Return sum w_i x_i."""
        return Weight(_weighted_sum(self.tensors, weights))


@dataclass(frozen=True, slots=True, eq=False)
class Deltas:
    """One tensor's differences from the base, a model each, all of the same shape."""

    tensors: tuple[torch.Tensor, ...]

    def weighted_sum(self, weights: Sequence[float]) -> Delta:
        """Return sum w_i d_i."""
        return Delta(_weighted_sum(self.tensors, weights))

    def __iter__(self) -> Iterator[torch.Tensor]:
        return iter(self.tensors)


@dataclass(frozen=True, slots=True, eq=False)
class Weight:
    """A merged tensor."""

    tensor: torch.Tensor


@dataclass(frozen=True, slots=True, eq=False)
class Delta:
    """A merged difference, to be added to the base by the engine."""

    tensor: torch.Tensor

    def scaled(self, factor: float) -> Delta:
        """Return the difference times *factor*."""
        return self if factor == 1.0 else Delta(self.tensor * factor)


class Base(Enum):
    """What a recipe's `base_model` means to a method."""

    ORIGIN = "the origin of all deltas, itself not an input"
    FIRST = "one of the two inputs, the one at t = 0"
    INPUT = "one more input, if given"


class Required:
    """Marks a parameter without a default."""


REQUIRED = Required()


@dataclass(frozen=True, slots=True)
class Parameter:
    """A declared parameter of a method.

    Attributes:
        name: as recipes write it.
        kind: ``float`` or ``bool``.
        default: the value where a recipe gives none, or `REQUIRED`.
        low, high: closed range of allowed values.
        per_model: whether each model has its own value.
    """

    name: str
    kind: type
    default: Any
    low: float = -math.inf
    high: float = math.inf
    per_model: bool = False

    def check(self, value: Any, method: str) -> float | bool:
        """Return *value* in the parameter's type.

        Raises:
            RecipeError: if it is of another type or out of range.
        """
        if self.kind is bool:
            if isinstance(value, bool):
                return value
        else:
            number = _as_number(value)
            if number is not None and self.low <= number <= self.high:
                return number
        raise RecipeError(f"The {self.name!r} parameter of {method} must be {self}. Got {value!r}.")

    def __str__(self) -> str:
        if self.kind is bool:
            return "true or false"
        if math.isinf(self.low) and math.isinf(self.high):
            return "a finite number"
        return f"a number in the range [{self.low:g}, {self.high:g}]"


def per_model(default: Any, *, low: float = -math.inf, high: float = math.inf) -> Any:
    """Declare a parameter with one value a model (annotate it ``PerModel[float]``)."""
    return Parameter("", float, default, low, high, per_model=True)


def shared(default: Any, *, low: float = -math.inf, high: float = math.inf) -> Any:
    """Declare a parameter with one value for all models (annotate it ``float`` or ``bool``)."""
    return Parameter("", bool if isinstance(default, bool) else float, default, low, high)


@dataclass(frozen=True, slots=True, eq=False)
class MergeMethod:
    """A registered method.

    Attributes:
        function: the mathematics.
        space: `Weights` or `Deltas`.
        base: what `base_model` means; a method on deltas needs one.
        parameters: by the name that recipes use.
        ignored: parameters that recipes of other tools carry and that change nothing here.
        least, most: number of inputs that it accepts.
        random: whether it draws random numbers.
        averages: on weights: whether, or with what values, equal inputs are returned as they are.
        check: what values that are allowed one by one do not go together.
        linear_in_lambda: whether the merged delta is proportional to the parameter ``lambda``.
    """

    name: str
    function: Callable[..., Weight | Delta]
    summary: str
    paper: str
    space: type
    base: Base
    parameters: dict[str, Parameter]
    ignored: frozenset[str]
    least: int
    most: int | None
    random: bool
    averages: bool | Condition = False
    check: Check | None = None

    @property
    def linear_in_lambda(self) -> bool:
        return self.space is Deltas and "lambda" in self.parameters

    def keeps_what_is_common(self, values: Mapping[str, Any]) -> bool:
        """Return whether a tensor that is the same in all inputs and the base stays as it is."""
        if self.space is Deltas:
            return True  # the engine sees to it
        return self.averages if isinstance(self.averages, bool) else self.averages(values)

    def __call__(
        self,
        inputs: Weights | Deltas,
        values: dict[str, Any],
        random: Sequence[ElementRandom] = (),
    ) -> Weight | Delta:
        """Run the method on one tensor; *values* holds every parameter, by recipe name."""
        arguments = {_argument(name): value for name, value in values.items()}
        if self.random:
            arguments["random"] = tuple(random)
        return self.function(inputs, **arguments)


METHODS: Registry[MergeMethod] = Registry("merge method", ("miscible.merge.methods",))


def merge_method(
    name: str,
    *,
    paper: str,
    base: Base = Base.ORIGIN,
    least: int = 1,
    most: int | None = None,
    ignored: Sequence[str] = (),
    averages: bool | Condition = False,
    check: Check | None = None,
) -> Callable[[Callable[..., Weight | Delta]], Callable[..., Weight | Delta]]:
    """Register a merging method; its parameters are read off the function's signature.

    The first argument is annotated `Weights` or `Deltas`; parameters are keyword-only and declared
    with `per_model` or `shared`; an argument ``random`` asks for a generator a model. A trailing
    underscore of a name is dropped (``lambda_``). A method on weights declares with *averages*
    that it returns what all inputs have in common, always or with some values of its parameters;
    *check* says at planning what is wrong with the values for a tensor.
    """

    def register(function: Callable[..., Weight | Delta]) -> Callable[..., Weight | Delta]:
        arguments = list(inspect.signature(function).parameters.values())
        space = get_type_hints(function, localns=_annotation_names())[arguments[0].name]
        declared = {
            _recipe_name(argument.name): argument.default
            for argument in arguments[1:]
            if isinstance(argument.default, Parameter)
        }
        METHODS.register(
            name,
            MergeMethod(
                name=name,
                function=function,
                summary=inspect.cleandoc(function.__doc__ or "").partition("\n")[0],
                paper=paper,
                space=space,
                base=base,
                parameters={
                    key: Parameter(key, p.kind, p.default, p.low, p.high, p.per_model)
                    for key, p in declared.items()
                },
                ignored=frozenset(ignored),
                least=least,
                most=most,
                random=any(argument.name == "random" for argument in arguments),
                averages=averages,
                check=check,
            ),
        )
        return function

    return register


def _annotation_names() -> dict[str, Any]:
    # Methods annotate with names that they import for type checking only.
    from miscible.merge.ops.random import ElementRandom

    return {"ElementRandom": ElementRandom}


def _recipe_name(argument: str) -> str:
    return argument.removesuffix("_")


def _argument(name: str) -> str:
    return "lambda_" if name == "lambda" else name


def _as_number(value: Any) -> float | None:
    # YAML 1.1 reads 1e-3 as text, and recipes in the wild contain it.
    if isinstance(value, bool):
        return None
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    return number if math.isfinite(number) else None


def _weighted_sum(tensors: Sequence[torch.Tensor], weights: Sequence[float]) -> torch.Tensor:
    total = tensors[0] * weights[0]
    for tensor, weight in zip(tensors[1:], weights[1:], strict=True):
        total.add_(tensor, alpha=weight)
    return total
