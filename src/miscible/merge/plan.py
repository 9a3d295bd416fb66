"""From a recipe to the list of output tensors: which inputs, and with what parameters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from miscible.errors import IncompatibleModelsError, RecipeError
from miscible.merge.contract import METHODS, Base, MergeMethod
from miscible.merge.parameters import check_names, values_for
from miscible.merge.recipe import LayerRange, Recipe, Source
from miscible.models.checkpoint import Checkpoint
from miscible.models.layout import input_embedding, is_output_head, place_of, stack_sizes


@dataclass(frozen=True, slots=True)
class Input:
    """A tensor that goes into an output tensor: of which model (its reference), and its name."""

    model: str
    tensor: str


@dataclass(frozen=True, slots=True)
class Output:
    """A tensor of the merge.

    Attributes:
        name: its name.
        inputs: without the origin.
        origin: the base's tensor, for methods on deltas.
        values: every parameter of the method.
    """

    name: str
    inputs: tuple[Input, ...]
    origin: Input | None
    values: Mapping[str, Any]

    @property
    def named(self) -> tuple[Input, ...]:
        """The inputs, and the origin if there is one."""
        return self.inputs if self.origin is None else (*self.inputs, self.origin)


@dataclass(frozen=True, slots=True)
class LayerOrigin:
    """A layer of a model: its reference, and the layer's number in it."""

    model: str
    layer: int


@dataclass(frozen=True, slots=True)
class MergePlan:
    """All output tensors, in the order in which they are written.

    Attributes:
        method: the merging method.
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


@dataclass(frozen=True, slots=True)
class _Piece:
    sources: Sequence[Source]
    parameters: Mapping[str, Any]
    ranges: Mapping[str, LayerRange] | None
    start: int
    lengths: Mapping[str, int]  # of each stack of layers


def plan_merge(recipe: Recipe, models: Mapping[str, Checkpoint]) -> MergePlan:
    """Plan a merge from headers alone.

    Args:
        recipe: the recipe.
        models: every reference of the recipe, opened.

    Raises:
        RecipeError, UnknownNameError: if the recipe cannot be carried out.
        IncompatibleModelsError: if tensors do not fit together.
    """
    method = METHODS.get(recipe.merge_method)
    check_names(method, recipe.parameters, *(s.parameters for s in recipe.sources()))
    pieces = _pieces(recipe, models)
    for piece in pieces:
        check_names(method, piece.parameters)
        _check_inputs(recipe, method, piece)
    outputs: dict[str, Output] = {}
    untied = False
    for number, piece in enumerate(pieces):
        last = number == len(pieces) - 1
        for name, inputs in _names(recipe, piece, models, first=number == 0, last=last):
            output = _output(recipe, method, piece, name, inputs, models)
            untied |= any(is_output_head(name) and i.tensor != name for i in output.inputs)
            outputs[name] = output
    template = recipe.base_model or pieces[0].sources[0].model
    return MergePlan(method, outputs, _layer_origins(pieces), untied, template)


def _layer_origins(pieces: Sequence[_Piece]) -> tuple[LayerOrigin, ...] | None:
    origins: list[LayerOrigin] = []
    for piece in pieces:
        if piece.ranges is None:
            return None
        first = piece.sources[0].model
        origins += [LayerOrigin(first, layer) for layer in range(*piece.ranges[first])]
    return tuple(origins)


def _pieces(recipe: Recipe, models: Mapping[str, Checkpoint]) -> list[_Piece]:
    if recipe.models is not None:
        if not recipe.models:
            raise RecipeError("'models' is empty.")
        sizes = stack_sizes(models[recipe.models[0].model].tensors)
        return [_Piece(recipe.models, {}, None, 0, sizes)]
    pieces: list[_Piece] = []
    start = 0
    for piece in recipe.slices or []:
        ranges = {s.model: _checked_range(s, models[s.model]) for s in piece.sources}
        found = {end - begin for begin, end in ranges.values()}
        if len(found) != 1:
            raise RecipeError(f"the sources of a slice differ in length: {sorted(found)}.")
        length = found.pop()
        stack = next(iter(stack_sizes(models[piece.sources[0].model].tensors)))
        pieces.append(_Piece(piece.sources, piece.parameters, ranges, start, {stack: length}))
        start += length
    if not pieces:
        raise RecipeError("'slices' is empty.")
    return pieces


def _checked_range(source: Source, model: Checkpoint) -> LayerRange:
    sizes = stack_sizes(model.tensors)
    if len(sizes) != 1:
        raise RecipeError(f"slices need a model with one stack of layers, {model.name} has "
                          f"{len(sizes)}.")  # fmt: skip
    size = next(iter(sizes.values()))
    begin, end = source.layer_range or (0, size)
    if not begin <= end <= size:
        raise RecipeError(
            f"layer_range [{begin}, {end}] does not lie within the {size} layers of {model.name}."
        )
    return begin, end


def _check_inputs(recipe: Recipe, method: MergeMethod, piece: _Piece) -> None:
    inputs = _input_sources(recipe, method, piece)
    seen: set[str] = set()
    for source in piece.sources:
        if source.model in seen:
            raise RecipeError(
                f"{source.model!r} is listed twice.", fix="Add its weights up into one entry."
            )
        seen.add(source.model)
    if method.base is not Base.INPUT and not recipe.base_model:
        raise RecipeError(f"{method.name} needs a 'base_model' ({method.base.value}).")
    enough = len(inputs) >= method.least
    if not enough or (method.most is not None and len(inputs) > method.most):
        wanted = (
            f"exactly {method.least}" if method.least == method.most else f"at least {method.least}"
        )
        raise RecipeError(
            f"{method.name} takes {wanted} models, the recipe gives {len(inputs)} "
            f"({', '.join(source.model for source in inputs)})."
        )


def _input_sources(recipe: Recipe, method: MergeMethod, piece: _Piece) -> list[Source]:
    base = recipe.base_model
    others = [source for source in piece.sources if source.model != base]
    if method.base is Base.ORIGIN or base is None:
        return others
    if method.base is Base.INPUT and any(source.model == base for source in piece.sources):
        return list(piece.sources)
    own = next((source for source in piece.sources if source.model == base), None)
    return [own or Source(model=base), *others]


def _names(
    recipe: Recipe, piece: _Piece, models: Mapping[str, Checkpoint], *, first: bool, last: bool
) -> list[tuple[str, dict[str, str]]]:
    # Output name -> name in each source, for the tensors that this piece contributes.
    wanted: dict[str, dict[str, str]] = {}
    sources = list(piece.sources)
    if piece.ranges is None and recipe.base_model:
        sources += [Source(model=recipe.base_model)]
    for source in sources:
        for name in models[source.model].tensors:
            place = place_of(name)
            if place.index is None or piece.ranges is None:
                if piece.ranges is None or (first if place.first else last):
                    wanted.setdefault(name, {})[source.model] = name
                continue
            begin, end = piece.ranges[source.model]
            if begin <= place.index < end:
                number = place.index - begin + piece.start
                wanted.setdefault(f"{place.stack}{number}{place.rest}", {})[source.model] = name
    return list(wanted.items())


def _output(
    recipe: Recipe,
    method: MergeMethod,
    piece: _Piece,
    name: str,
    found: Mapping[str, str],
    models: Mapping[str, Checkpoint],
) -> Output:
    sources = _input_sources(recipe, method, piece)
    inputs = tuple(
        Input(s.model, found.get(s.model) or _stand_in(name, models[s.model], found))
        for s in sources
    )
    origin = None
    if method.base is Base.ORIGIN and recipe.base_model:
        base = recipe.base_model
        origin_name = found.get(base) or next(iter(found.values()))
        if origin_name not in models[base].tensors:
            origin_name = _stand_in(name, models[base], found)
        origin = Input(base, origin_name)
    values = values_for(
        method,
        name,
        _depth(name, piece),
        [(s.model, (s.parameters, piece.parameters, recipe.parameters)) for s in sources],
        (_common_level(method, sources), piece.parameters, recipe.parameters),
    )
    wrong = method.check(values) if method.check else None
    if wrong:
        raise RecipeError(wrong, where=f"tensor {name!r}")
    output = Output(name, inputs, origin, values)
    _check_shapes(name, output.named, models)
    return output


def _common_level(method: MergeMethod, sources: Sequence[Source]) -> Mapping[str, Any]:
    # A parameter that all models share may be written under the models that agree on it.
    givers: dict[str, Source] = {}
    for source in sources:
        for name, value in source.parameters.items():
            if name not in method.parameters or method.parameters[name].per_model:
                continue
            first = givers.setdefault(name, source)
            if first.parameters[name] != value:
                raise RecipeError(
                    f"{name!r} of {method.name} has one value for all models, but {first.model} "
                    f"gives {first.parameters[name]!r} and {source.model} gives {value!r}.",
                    fix="Give it once, under the recipe's 'parameters'.",
                )
    return {name: source.parameters[name] for name, source in givers.items()}


def _depth(name: str, piece: _Piece) -> float:
    place = place_of(name)
    if place.index is None or place.stack is None:
        return 0.0
    length = piece.lengths.get(place.stack, 0)
    return (place.index - piece.start) / (length - 1) if length > 1 else 1.0


def _stand_in(name: str, model: Checkpoint, found: Mapping[str, str]) -> str:
    embedding = input_embedding(model.tensors)
    if is_output_head(name) and embedding is not None:
        return embedding  # a tied head is the embedding
    raise IncompatibleModelsError(
        f"tensor {name!r} is missing, {next(iter(found))} has it.",
        where=model.name,
        fix="The models must have the same architecture.",
    )


def _check_shapes(name: str, inputs: Sequence[Input], models: Mapping[str, Checkpoint]) -> None:
    infos = [(i.model, models[i.model].tensors[i.tensor]) for i in inputs]
    first_model, first = infos[0]
    for model, info in infos[1:]:
        if info.shape != first.shape:
            advice = (
                "Their vocabularies differ in size, and their rows cannot be matched yet."
                if place_of(name).first or is_output_head(name)
                else "The models must have the same architecture."
            )
            raise IncompatibleModelsError(
                f"tensor {name!r} has shape {first.shape} in {first_model} and {info.shape} in "
                f"{model}.",
                fix=advice,
            )
