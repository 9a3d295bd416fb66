"""From a recipe to its plan, from headers alone.

A tensor that only some models have is never dropped. Where the base of a method on task vectors has
it, it is merged over the models that have it. Otherwise those that have it are averaged, by their
weights if the method has weights; one alone is copied.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from operator import mul
from typing import Any

from miscible.errors import IncompatibleModelsError, RecipeError
from miscible.merge.coefficients import CoefficientMap
from miscible.merge.contract import METHODS, WRAPPERS, Base, MergeMethod, Site, Weights
from miscible.merge.parameters import check_names, values_for
from miscible.merge.pieces import Piece, pieces_of
from miscible.merge.plan import Input, LayerOrigin, MergePlan, Output, Shape
from miscible.merge.recipe import Recipe, Source
from miscible.models.checkpoint import Checkpoint
from miscible.models.layout import (
    DEFAULT,
    Layout,
    StackSizes,
    depth_of,
    input_embedding,
    is_output_head,
)


def plan_merge(
    recipe: Recipe,
    models: Mapping[str, Checkpoint],
    *,
    shape: Shape | None = None,
    coefficients: CoefficientMap | None = None,
) -> MergePlan:
    """Plan a merge from headers alone.

    Args:
        recipe: the recipe.
        models: every reference of the recipe, opened.
        shape: of an input, where it is not as stored (aligned vocabularies).
        coefficients: factors on the models' weights.

    Raises:
        RecipeError, UnknownNameError: if the recipe cannot be carried out.
        IncompatibleModelsError: if tensors do not fit together.
    """
    return _Planner(recipe, models, shape, coefficients).plan()


class _Planner:
    def __init__(
        self,
        recipe: Recipe,
        models: Mapping[str, Checkpoint],
        shape: Shape | None,
        coefficients: CoefficientMap | None,
    ) -> None:
        self._shape = shape or (lambda i: models[i.model].tensors[i.tensor].shape)
        self.recipe, self.models, self.coefficients = recipe, models, coefficients
        self.method = METHODS.get(recipe.merge_method)
        override = recipe.layout
        self.layout = DEFAULT if override is None else Layout(override.layers, override.roles)
        self.wrappers = [(WRAPPERS.get(name), values) for name, values in recipe.wrappers()]
        for wrapper, values in self.wrappers:
            check_names(wrapper, values)
        self.pieces = pieces_of(recipe, models, self.layout)

    def plan(self) -> MergePlan:
        for piece in self.pieces:
            levels = (*piece.levels, *(source.parameters for source in piece.sources))
            check_names(self.method, *levels)
            self._check_inputs(piece)
        template = self.recipe.base_model or self.pieces[0].sources[0].model
        headless = not any(map(is_output_head, self.models[template].tensors))
        outputs: dict[str, Output] = {}
        untied = False
        for piece in self.pieces:
            sizes = self._sizes(piece)
            levels_of = [(s.parameters, *piece.levels) for s in self._inputs(piece)]
            for name, found in self._names(piece):
                output = self._output(piece, name, found, sizes, levels_of)
                ties = headless or any(i.tensor != name for i in output.named)
                untied |= is_output_head(name) and ties
                outputs[name] = output
        self._check_complete(outputs, template)
        return MergePlan(self.method, outputs, self._layer_origins(), untied, template)

    def _check_complete(self, outputs: Mapping[str, Output], template: str) -> None:
        if self.recipe.modules is None:
            return
        left = [name for name in self.models[template].tensors if name not in outputs]
        if left and self._layer_origins() is None:
            raise RecipeError(
                f"{len(left)} tensors of {template} are in no module, such as {left[0]!r}.",
                fix="Add a module for them, or one named 'default' for all the rest.",
            )

    def _layer_origins(self) -> tuple[LayerOrigin, ...] | None:
        stacked = [piece for piece in self.pieces if piece.ranges is not None]
        origins: list[LayerOrigin] = []
        for piece in stacked:
            first = piece.sources[0].model
            origins += [LayerOrigin(first, layer) for layer in range(*(piece.ranges or {})[first])]
        return tuple(origins) if stacked else None

    def _sizes(self, piece: Piece) -> StackSizes:
        if piece.ranges is not None:
            assert piece.stack is not None
            return StackSizes({piece.stack: piece.length}, {})
        return self.layout.stack_sizes(self.models[piece.sources[0].model].tensors)

    def _check_inputs(self, piece: Piece) -> None:
        inputs = self._inputs(piece)
        seen: set[str] = set()
        for source in piece.sources:
            if source.model in seen:
                raise RecipeError(
                    f"{source.model!r} is listed twice.", fix="Add its weights up into one entry."
                )
            seen.add(source.model)
        method, base = self.method, self.recipe.base_model
        if method.base is Base.FIRST and piece.ranges is not None and base not in seen:
            raise RecipeError(f"{method.name} needs its base {base} among the sources of a slice.")
        if method.base in (Base.ORIGIN, Base.FIRST) and not base:
            raise RecipeError(f"{method.name} needs a 'base_model' ({method.base.value}).")
        if self.wrappers and (method.space is Weights and method.base is not Base.OPTIONAL):
            raise RecipeError(
                f"{self.wrappers[0][0].name!r} wraps methods on task vectors, {method.name} works "
                "on weights."
            )
        self._check_count(inputs)

    def _check_count(self, inputs: Sequence[Source]) -> None:
        method = self.method
        enough = len(inputs) >= method.least
        if enough and (method.most is None or len(inputs) <= method.most):
            return
        if not inputs and method.base is Base.ORIGIN and method.least == 1 and method.most is None:
            return  # the base alone is a sum of no task vectors
        exact = method.least == method.most
        wanted = f"exactly {method.least}" if exact else f"at least {method.least}"
        if enough and not exact:
            wanted = f"at most {method.most}"
        raise RecipeError(
            f"{method.name} takes {wanted} models, the recipe gives {len(inputs)} "
            f"({', '.join(source.model for source in inputs)})."
        )

    def _inputs(self, piece: Piece) -> list[Source]:
        base = self.recipe.base_model
        others = [source for source in piece.sources if source.model != base]
        if self.method.base in (Base.ORIGIN, Base.OPTIONAL) or base is None:
            return others
        listed = any(source.model == base for source in piece.sources)
        if self.method.base is Base.INPUT and (listed or piece.ranges is not None):
            return list(piece.sources)
        own = next((source for source in piece.sources if source.model == base), None)
        return [own or Source(model=base), *others]

    def _names(self, piece: Piece) -> Iterator[tuple[str, dict[str, str]]]:
        # Output name -> name in each source, for the tensors that this piece contributes.
        wanted: dict[str, dict[str, str]] = {}
        sources = list(piece.sources)
        base = self.recipe.base_model
        if piece.ranges is None and base and all(source.model != base for source in sources):
            sources.append(Source(model=base))
        for source in sources:
            for name in self.models[source.model].tensors:
                called = piece.output_name(name, self.layout.place_of(name), source.model)
                if called is not None:
                    wanted.setdefault(called, {})[source.model] = name
        if piece.ranges is not None and piece.last and not any(map(is_output_head, wanted)):
            wanted |= {name: {} for name in self._heads(piece)}
        yield from wanted.items()

    def _heads(self, piece: Piece) -> list[str]:
        # The head of a last slice of tied models is their embedding, if other slices are not tied.
        tensors = (name for model in self.models.values() for name in model.tensors)
        heads = [name for name in tensors if is_output_head(name) and piece.covers(name)][:1]
        return [n for n in heads if any(self._by_name(n, s.model) for s in self._inputs(piece))]

    def _output(
        self,
        piece: Piece,
        name: str,
        found: Mapping[str, str],
        sizes: StackSizes,
        levels: Sequence[tuple[Mapping[str, Any], ...]],
    ) -> Output:
        sources = self._inputs(piece)
        named = [(n, s, self._tensor(name, s.model, found)) for n, s in enumerate(sources)]
        held = [(n, s, Input(s.model, t)) for n, s, t in named if t is not None]
        origin = self._origin(name, found)
        site = self._site(name, piece, sizes)
        partial = len(held) < len(sources)
        if not held:
            assert origin is not None
            output = self._average(name, (origin,), (1.0,), site, partial)
        else:
            depth = self._gradient_depth(name, piece, sizes)
            models = [(s.model, _called(name, i), levels[n]) for n, s, i in held]
            common = (_common_level(self.method, sources), *piece.levels)
            values = values_for(self.method, site, depth, models, common)
            if self.coefficients is not None and "weight" in values:
                factors = [self.coefficients.factor(model, name) for model, _, _ in models]
                values["weight"] = tuple(map(mul, values["weight"], factors))
            inputs = tuple(i for _, _, i in held)
            if self._can_merge(len(held), origin, partial):
                self._check_values(name, values, partial)
                wrappers = tuple(
                    (wrapper, values_for(wrapper, site, depth, [], (own,)))
                    for wrapper, own in self.wrappers
                )
                output = Output(name, self.method, inputs, origin, values, wrappers, site, partial)
            else:
                output = self._average(name, inputs, values.get("weight"), site, True)
        self._check_shapes(output)
        return output

    def _can_merge(self, count: int, origin: Input | None, partial: bool) -> bool:
        if count < self.method.least:
            return False
        if self._needs_origin and self.recipe.base_model is not None:
            return origin is not None
        return not partial

    def _check_values(self, name: str, values: Mapping[str, Any], partial: bool) -> None:
        wrong = self.method.check(values) if self.method.check else None
        if wrong:
            raise RecipeError(wrong, where=f"tensor {name!r}")
        if partial and values.get("expert", -1) >= 0:
            raise RecipeError(
                "'expert' names a model by its number, and some models lack this tensor.",
                where=f"tensor {name!r}",
            )

    def _average(
        self,
        name: str,
        inputs: tuple[Input, ...],
        weights: Sequence[float] | None,
        site: Site,
        partial: bool,
    ) -> Output:
        given = tuple(weights or ())
        even = len(given) != len(inputs) or sum(given) <= 0
        values = {"weight": (1.0,) * len(inputs) if even else given, "normalize": True}
        return Output(name, METHODS.get("linear"), inputs, None, values, (), site, partial)

    @property
    def _needs_origin(self) -> bool:
        return self.method.base in (Base.ORIGIN, Base.OPTIONAL)

    def _origin(self, name: str, found: Mapping[str, str]) -> Input | None:
        base = self.recipe.base_model
        if base is None or not self._needs_origin:
            return None
        if self.pieces[0].ranges is not None and found and base not in found:
            name = next(iter(found.values()))  # a layer goes by its number in the first source
        tensor = found.get(base) or self._by_name(name, base)
        return None if tensor is None else Input(base, tensor)

    def _tensor(self, name: str, model: str, found: Mapping[str, str]) -> str | None:
        if model in found:
            return found[model]
        # A model that is no source of its own (the base of slerp) is found by name.
        return self._by_name(name, model) if is_output_head(name) or not found else None

    def _by_name(self, name: str, model: str) -> str | None:
        tensors = self.models[model].tensors
        if name in tensors:
            return name
        # A tied head is the embedding.
        if is_output_head(name) and not any(map(is_output_head, tensors)):
            return input_embedding(tensors)
        return None

    def _site(self, name: str, piece: Piece, sizes: StackSizes) -> Site:
        place = self.layout.place_of(name)
        if place.index is None or place.stack is None:
            return Site(name, None, 0, depth_of(place, sizes), place.role)
        local = replace(place, index=place.index - piece.start)
        return Site(
            name, place.index, sizes.get(place.stack, 0), depth_of(local, sizes), place.role
        )

    def _gradient_depth(self, name: str, piece: Piece, sizes: StackSizes) -> float:
        # Embeddings, final norm and head take a gradient's first value, as in mergekit.
        place = self.layout.place_of(name)
        if place.index is None or place.stack is None:
            return 0.0
        length = sizes.get(place.stack, 0)
        return (place.index - piece.start) / (length - 1) if length > 1 else 1.0

    def _check_shapes(self, output: Output) -> None:
        shapes = [(i.model, self._shape(i)) for i in output.named]
        first_model, first = shapes[0]
        for model, shape in shapes[1:]:
            if shape != first:
                vocabulary = output.site.role in ("embedding", "head")
                raise IncompatibleModelsError(
                    f"tensor {output.name!r} has shape {first} in {first_model} and "
                    f"{shape} in {model}"
                    + ("; their vocabularies differ in size." if vocabulary else "."),
                    fix="Give 'tokenizer: {source: union}' (or 'base') to match rows by token."
                    if vocabulary
                    else "The models must have the same architecture.",
                )


def _called(name: str, source: Input) -> str:
    # What filters call a tensor of one model: in slices, by the number of the model's own layer.
    return name if is_output_head(name) else source.tensor


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
