"""The plan of a merge: which inputs make which output tensor, and with what parameters."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeAlias

from miscible.merge.contract import Deltas, MergeMethod, Site, Weights, Wrapper


@dataclass(frozen=True, slots=True)
class Input:
    """A tensor that goes into an output tensor: of which model (its reference), and its name."""

    model: str
    tensor: str


Shape: TypeAlias = Callable[[Input], tuple[int, ...]]


@dataclass(frozen=True, slots=True)
class Output:
    """A tensor of the merge.

    Attributes:
        name: its name.
        method: what merges it; the recipe's, unless only some models have the tensor.
        inputs: without the origin.
        origin: the base's tensor, for methods on deltas.
        values: every parameter of the method.
        wrappers: around the method, the outermost first, with every parameter.
        site: where in the model it stands.
        partial: whether some of the recipe's models do not have it.
    """

    name: str
    method: MergeMethod
    inputs: tuple[Input, ...]
    origin: Input | None
    values: Mapping[str, Any]
    wrappers: tuple[tuple[Wrapper, Mapping[str, Any]], ...] = ()
    site: Site = Site("")  # noqa: RUF009  (frozen)
    partial: bool = False

    @property
    def named(self) -> tuple[Input, ...]:
        """The inputs, and the origin if there is one."""
        return self.inputs if self.origin is None else (*self.inputs, self.origin)

    @property
    def space(self) -> type:
        """The space in which it is merged."""
        return Weights if self.origin is None else Deltas


@dataclass(frozen=True, slots=True)
class LayerOrigin:
    """A layer of a model: its reference, and the layer's number in it."""

    model: str
    layer: int


@dataclass(frozen=True)
class MergePlan:
    """All output tensors, in the order in which they are written.

    Attributes:
        method: the recipe's merging method.
        outputs: by name.
        layer_origins: with slices, for each layer of the merge the layer of the first source that
            it is made from; else None.
        untied: whether an output head is written although an input ties it to its embedding.
        template: reference of the model whose config and tokenizer the merge takes.
    """

    method: MergeMethod
    outputs: Mapping[str, Output]
    layer_origins: tuple[LayerOrigin, ...] | None
    untied: bool
    template: str

    @property
    def layers(self) -> int | None:
        """Number of layers where slices change it, else None."""
        return None if self.layer_origins is None else len(self.layer_origins)

    @cached_property
    def partial(self) -> tuple[str, ...]:
        """Names of the tensors that only some models have."""
        return tuple(name for name, output in self.outputs.items() if output.partial)
