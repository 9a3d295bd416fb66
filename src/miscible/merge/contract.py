"""What a merging method is: a pure function of tensors, and the data declared beside it.

A method sees one tensor of every model at a time. Its first argument says in which space it
works (`Weights` or `Deltas`, see `miscible.merge.spaces`), keyword-only arguments declare its
parameters (see `miscible.merge.declaration`), and three more names ask the engine for something:

``random``      a generator a model, whose draws belong to the element (`ElementRandom`)
``site``        where in the model the tensor stands (`Site`)
``statistics``  a tensor a model from its statistics file, or None (see *needs*)
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from typing import TYPE_CHECKING, Any, TypeAlias

from miscible.merge.declaration import REQUIRED, Parameter, PerModel, per_model, shared
from miscible.merge.spaces import Delta, Deltas, Site, Weight, Weights
from miscible.registry import Registry

if TYPE_CHECKING:
    import torch

    from miscible.merge.ops.random import ElementRandom

__all__ = [
    "METHODS", "REQUIRED", "WRAPPERS", "Base", "Context", "Delta", "Deltas", "Laws", "MergeMethod",
    "Parameter", "PerModel", "Site", "Weight", "Weights", "Wrapper", "merge_method", "per_model",
    "shared", "wrapper",
]  # fmt: skip

Condition: TypeAlias = Callable[[Mapping[str, Any]], bool]
"""Of a method's parameter values, by recipe name."""
Check: TypeAlias = Callable[[Mapping[str, Any]], str | None]
"""Returns what is wrong with a method's parameter values, as a sentence, or None."""
Function: TypeAlias = Callable[..., Weight | Delta]


class Base(Enum):
    """What a recipe's `base_model` means to a method."""

    ORIGIN = "the origin of all deltas, itself not an input"
    OPTIONAL = "the origin of all deltas if given; the weights themselves are merged without one"
    FIRST = "one of the two inputs, the one at t = 0"
    INPUT = "one more input, if given"


class Laws(Enum):
    """Laws from which a method's mathematics exempts it (see `miscible.testing`)."""

    ONE_MODEL = "one model at weight 1 returns it"
    ORDER = "model order is irrelevant"


@dataclass(frozen=True, slots=True, eq=False)
class Context:
    """What the engine offers to a method besides its inputs and parameters."""

    site: Site
    random: Sequence[ElementRandom] = ()
    statistics: Sequence[torch.Tensor | None] = ()


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
        asks: which of ``random``, ``site`` and ``statistics`` it takes.
        needs: kind of statistics that it works from (``fisher``, ``gram``), None without.
        averages: on weights: whether, or with what values, equal inputs are returned as they are.
        check: what values that are allowed one by one do not go together.
        streams: whether, or with what values, it is written in streamed operations alone.
        elementwise: whether, or with what values, each element of the result depends on that
            element alone.
        exempt: laws that it does not obey, by its mathematics.
    """

    name: str
    function: Function
    summary: str
    paper: str
    space: type
    base: Base
    parameters: dict[str, Parameter]
    ignored: frozenset[str]
    least: int
    most: int | None
    asks: frozenset[str] = frozenset()
    needs: str | None = None
    averages: bool | Condition = False
    check: Check | None = None
    streams: bool | Condition = False
    elementwise: bool | Condition = False
    exempt: frozenset[Laws] = frozenset()

    @property
    def random(self) -> bool:
        """Whether it draws random numbers."""
        return "random" in self.asks

    @property
    def linear_in_lambda(self) -> bool:
        """Whether the merged delta is proportional to the parameter ``lambda``."""
        return self.space is Deltas and "lambda" in self.parameters

    def keeps_what_is_common(self, values: Mapping[str, Any]) -> bool:
        """Return whether a tensor that is the same in all inputs and the base stays as it is."""
        if self.space is Deltas:
            return True  # the engine sees to it
        return _holds(self.averages, values)

    def can_stream(self, values: Mapping[str, Any]) -> bool:
        """Return whether these values leave it written in streamed operations alone."""
        return _holds(self.streams, values)

    def is_elementwise(self, values: Mapping[str, Any]) -> bool:
        """Return whether each element of the result depends on that element alone."""
        return _holds(self.elementwise, values)

    def __call__(
        self, inputs: Weights | Deltas, values: Mapping[str, Any], context: Context
    ) -> Weight | Delta:
        """Run the method on one tensor; *values* holds every parameter, by recipe name."""
        arguments = {_argument(name): value for name, value in values.items()}
        arguments |= {name: getattr(context, name) for name in self.asks}
        return self.function(inputs, **arguments)


@dataclass(frozen=True, slots=True, eq=False)
class Wrapper:
    """Something around a method on deltas: it changes what goes in, or what comes out.

    Attributes:
        function: takes the deltas and the method (from deltas to a delta), then its parameters.
        streams: whether it is written in streamed operations alone.
    """

    name: str
    function: Callable[..., Delta]
    summary: str
    paper: str
    parameters: dict[str, Parameter]
    asks: frozenset[str]
    streams: bool

    def __call__(
        self,
        deltas: Deltas,
        merge: Callable[[Deltas], Delta],
        values: Mapping[str, Any],
        context: Context,
    ) -> Delta:
        """Run *merge* within the wrapper."""
        arguments = {_argument(name): value for name, value in values.items()}
        arguments |= {name: getattr(context, name) for name in self.asks}
        return self.function(deltas, merge, **arguments)


METHODS: Registry[MergeMethod] = Registry("merge method", ("miscible.merge.methods",))
WRAPPERS: Registry[Wrapper] = Registry("wrapper", ("miscible.merge.wrappers",))


def merge_method(
    name: str,
    *,
    paper: str,
    base: Base = Base.ORIGIN,
    least: int = 1,
    most: int | None = None,
    ignored: Sequence[str] = (),
    needs: str | None = None,
    averages: bool | Condition = False,
    check: Check | None = None,
    streams: bool | Condition = False,
    elementwise: bool | Condition = False,
    exempt: Sequence[Laws] = (),
) -> Callable[[Function], Function]:
    """Register a merging method; its parameters are read off the function's signature.

    The first argument is annotated ``Weights`` or ``Deltas``, under these names; parameters are
    keyword-only and declared with `per_model` or `shared`. A trailing underscore of a name is
    dropped (``lambda_``). With ``base=Base.OPTIONAL`` the first argument is annotated
    ``Weights | Deltas`` and the result is of the same space. See `MergeMethod` for the other
    arguments.
    """

    def register(function: Function) -> Function:
        arguments = list(inspect.signature(function).parameters.values())
        deltas = arguments[0].annotation in (Deltas, "Deltas") and base is not Base.OPTIONAL
        METHODS.register(
            name,
            MergeMethod(
                name=name,
                function=function,
                summary=_summary(function),
                paper=paper,
                space=Deltas if deltas else Weights,
                base=base,
                parameters=_declared(arguments),
                ignored=frozenset(ignored),
                least=least,
                most=most,
                asks=_asked(arguments),
                needs=needs,
                averages=averages,
                check=check,
                streams=streams,
                elementwise=elementwise,
                exempt=frozenset(exempt),
            ),
        )
        return function

    return register


def wrapper(
    name: str, *, paper: str, streams: bool = False
) -> Callable[[Callable[..., Delta]], Callable[..., Delta]]:
    """Register a wrapper around methods on deltas: ``f(deltas, merge, *, parameters) -> Delta``."""

    def register(function: Callable[..., Delta]) -> Callable[..., Delta]:
        arguments = list(inspect.signature(function).parameters.values())
        WRAPPERS.register(
            name,
            Wrapper(
                name=name,
                function=function,
                summary=_summary(function),
                paper=paper,
                parameters=_declared(arguments),
                asks=_asked(arguments),
                streams=streams,
            ),
        )
        return function

    return register


def _declared(arguments: Sequence[inspect.Parameter]) -> dict[str, Parameter]:
    named = {
        argument.name.removesuffix("_"): argument.default
        for argument in arguments[1:]
        if isinstance(argument.default, Parameter)
    }
    return {name: replace(parameter, name=name) for name, parameter in named.items()}


def _asked(arguments: Sequence[inspect.Parameter]) -> frozenset[str]:
    return frozenset({"random", "site", "statistics"} & {argument.name for argument in arguments})


def _summary(function: Callable[..., object]) -> str:
    return (function.__doc__ or "").strip().partition("\n")[0]


def _holds(condition: bool | Condition, values: Mapping[str, Any]) -> bool:
    return condition if isinstance(condition, bool) else condition(values)


def _argument(name: str) -> str:
    return "lambda_" if name == "lambda" else name
