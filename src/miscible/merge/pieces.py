"""The pieces of a merge: which sources make which part of the output.

A recipe of ``models`` is one piece; one of ``slices`` is a piece a slice, stacked in order; one of
``modules`` has the pieces of each module, which cover only the tensors within it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from miscible.errors import RecipeError
from miscible.merge.recipe import LayerRange, Module, Recipe, Slice, Source
from miscible.models.checkpoint import Checkpoint
from miscible.models.layout import Layout, Place

REST = "default"
"""The module of all tensors that no other module covers."""


@dataclass(frozen=True, slots=True)
class Piece:
    """A part of the output that is made from one set of sources.

    Attributes:
        sources: in the order of the recipe.
        levels: parameters of slice, module and recipe: what is nearer to the source comes first.
        module: name of the module that the piece belongs to, None for the whole model.
        others: with the module ``default``: the other modules.
        ranges: with slices: the range of layers of each source.
        stack: with slices: the stack of layers that is cut.
        start: with slices: number of the piece's first layer in the output.
        first, last: whether tensors before and behind all layers come from this piece.
    """

    sources: Sequence[Source]
    levels: tuple[Mapping[str, Any], ...]
    module: str | None = None
    others: tuple[str, ...] = ()
    ranges: Mapping[str, LayerRange] | None = None
    stack: str | None = None
    start: int = 0
    first: bool = True
    last: bool = True

    @property
    def length(self) -> int:
        """With slices: number of layers."""
        begin, end = next(iter((self.ranges or {"": (0, 0)}).values()))
        return end - begin

    def covers(self, name: str) -> bool:
        """Return whether a tensor of that name belongs to the piece's module."""
        return _within(name, self.module, self.others)

    def output_name(self, name: str, place: Place, model: str) -> str | None:
        """Return what a source's tensor is called in the output, None if it is not taken."""
        if not self.covers(name):
            return None
        if self.ranges is None:
            return name
        if place.stack != self.stack or place.index is None:
            return name if (self.first if place.first else self.last) else None
        begin, end = self.ranges.get(model, (0, 0))
        if not begin <= place.index < end:
            return None
        return f"{place.stack}{place.index - begin + self.start}{place.rest}"


def pieces_of(recipe: Recipe, models: Mapping[str, Checkpoint], layout: Layout) -> list[Piece]:
    """Return the pieces of a recipe in the order of the output.

    Raises:
        RecipeError: if a range does not fit its model, or the sources of a slice do not fit
            together.
    """
    if recipe.modules is None:
        return _parts(recipe, (recipe.parameters,), None, (), models, layout)
    pieces: list[Piece] = []
    named = tuple(name for name in recipe.modules if name != REST)
    for name, module in recipe.modules.items():
        levels = (module.parameters, recipe.parameters)
        others = named if name == REST else ()
        _check_covers(name, others, module, models)
        pieces += _parts(module, levels, name, others, models, layout)
    return pieces


def _parts(
    part: Recipe | Module,
    levels: tuple[Mapping[str, Any], ...],
    module: str | None,
    others: tuple[str, ...],
    models: Mapping[str, Checkpoint],
    layout: Layout,
) -> list[Piece]:
    key = "models" if part.models is not None else "slices"
    if not (part.models or part.slices):
        raise RecipeError(f"{key!r} is empty.")
    if part.models is not None:
        return [Piece(part.models, levels, module, others)]
    pieces: list[Piece] = []
    start = 0
    slices = part.slices or []
    for number, cut in enumerate(slices):
        stack, ranges = _ranges(cut, module, others, models, layout)
        piece = Piece(
            cut.sources,
            (cut.parameters, *levels),
            module,
            others,
            ranges,
            stack,
            start,
            first=number == 0,
            last=number == len(slices) - 1,
        )
        pieces.append(piece)
        start += piece.length
    return pieces


def _ranges(
    cut: Slice,
    module: str | None,
    others: tuple[str, ...],
    models: Mapping[str, Checkpoint],
    layout: Layout,
) -> tuple[str, dict[str, LayerRange]]:
    ranges: dict[str, LayerRange] = {}
    stacks: dict[str, str] = {}
    for source in cut.sources:
        model = models[source.model]
        names = (name for name in model.tensors if _within(name, module, others))
        sizes = layout.stack_sizes(names)
        if len(sizes) != 1:
            raise RecipeError(
                f"slices need a model with one stack of layers, {model.name} has {len(sizes)}"
                f"{': ' + ', '.join(sizes) if sizes else ''}.",
                fix="Name the parts under 'modules', or say under 'layout' how layers are named.",
            )
        ((stacks[source.model], size),) = sizes.items()
        begin, end = source.layer_range or (0, size)
        if not begin <= end <= size:
            raise RecipeError(
                f"layer_range [{begin}, {end}] does not lie within the {size} layers of "
                f"{model.name}."
            )
        ranges[source.model] = (begin, end)
    lengths = {end - begin for begin, end in ranges.values()}
    if len(lengths) != 1:
        raise RecipeError(f"the sources of a slice differ in length: {sorted(lengths)}.")
    if len(set(stacks.values())) != 1:
        raise RecipeError(f"the sources of a slice name layers differently: {stacks}.")
    return next(iter(stacks.values())), ranges


def _within(name: str, module: str | None, others: Sequence[str]) -> bool:
    if module is None:
        return True
    if module == REST:
        return not any(_within(name, other, ()) for other in others)
    return f".{module}." in f".{name}"


def _check_covers(
    name: str, others: tuple[str, ...], module: Module, models: Mapping[str, Checkpoint]
) -> None:
    references = [source.model for source in module.models or []]
    references += [source.model for cut in module.slices or [] for source in cut.sources]
    for reference in references:
        tensors = models[reference].tensors
        if not any(_within(tensor, name, others) for tensor in tensors):
            tops = sorted({tensor.partition(".")[0] for tensor in tensors})
            raise RecipeError(
                f"{reference} has no tensor in the module {name!r}.",
                fix=f"A module is a part of its tensors' names, such as: {', '.join(tops[:8])}; "
                f"{REST!r} is all the rest.",
            )
