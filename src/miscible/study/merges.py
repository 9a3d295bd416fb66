"""From the `merges` of a study file to recipes."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from miscible.errors import SpecError
from miscible.merge.contract import METHODS, Base, MergeMethod
from miscible.merge.recipe import Recipe, Source, read_recipe
from miscible.study.spec import MergeEntry, StudySpec

TRIMMED_DENSITY = 0.5
"""Density of methods that sparsify where a study gives none; their own default trims nothing."""


@dataclass(frozen=True, slots=True)
class PlannedMerge:
    """A merge of a study.

    Attributes:
        name: unique within the study.
        recipe: what to merge; lambda still 1 where it is to be matched.
        family: all doses of one method with the same parameters.
        method: name of the method.
        dose: requested share of the second parent, NaN if the recipe is the user's own.
        matched: whether lambda is to be chosen so that the effective doses add up to 1.
        recipe_file: whether the recipe is the user's own.
    """

    name: str
    recipe: Recipe
    family: str
    method: str
    dose: float
    matched: bool
    recipe_file: bool = False


def plan_merges(spec: StudySpec, folder: Path) -> list[PlannedMerge]:
    """Return the merges of a study, in its order.

    Raises:
        SpecError: if two merges bear one name, or a method cannot be used with these parents.
        UnknownNameError: for an unknown method.
        RecipeError: for a recipe file that cannot be read.
    """
    planned: list[PlannedMerge] = []
    for entry in spec.merges:
        if entry.recipe is not None:
            planned.append(_from_file(entry, folder / entry.recipe))
        for name in entry.method:
            method = METHODS.get(name)
            for dose in entry.dose or [math.nan]:
                planned.append(_from_method(spec, entry, method, dose))
    names = ["base", *spec.parents]
    for merge in planned:
        if merge.name in names:
            raise SpecError(
                f"two models of the study are called {merge.name!r}.",
                where="merges",
                fix="Give one of them a 'name'.",
            )
        names.append(merge.name)
    return planned


def _from_file(entry: MergeEntry, path: Path) -> PlannedMerge:
    recipe = read_recipe(path)
    name = entry.name or path.stem
    return PlannedMerge(name, recipe, name, recipe.merge_method, math.nan, matched=False,
                        recipe_file=True)  # fmt: skip


def _from_method(
    spec: StudySpec, entry: MergeEntry, method: MergeMethod, dose: float
) -> PlannedMerge:
    references = list(spec.parents.values())
    _check_parents(method, len(references), dose)
    count = len(references)
    shares = [1.0 / count] * count if math.isnan(dose) else [1.0 - dose, dose]
    parameters: dict[str, Any] = {}
    if "density" in method.parameters:
        parameters["density"] = TRIMMED_DENSITY
    on_deltas = method.base in (Base.ORIGIN, Base.OPTIONAL)
    if on_deltas and "normalize" in method.parameters:
        parameters["normalize"] = False  # so that the weights are the doses
    on_the_way = method.base is Base.FIRST and "t" in method.parameters
    if on_the_way:
        parameters["t"] = shares[1]
    parameters |= entry.parameters
    weighted = "weight" in method.parameters
    sources = [
        Source(model=reference, parameters={"weight": share} if weighted else {})
        for reference, share in zip(references, shares, strict=True)
    ]
    base = references[0] if method.base is Base.FIRST else spec.base if on_deltas else None
    recipe = Recipe(
        merge_method=method.name, models=sources, base_model=base, parameters=parameters
    )
    suffix = "" if math.isnan(dose) else f" {dose:g}"
    extra = _described(entry.parameters)
    return PlannedMerge(
        name=entry.name or f"{method.name}{extra}{suffix}",
        recipe=recipe,
        family=f"{method.name}{extra}",
        method=method.name,
        dose=dose if not math.isnan(dose) else (shares[1] if count == 2 else math.nan),
        matched=entry.match and method.linear_in_lambda and "lambda" not in entry.parameters,
    )


def _check_parents(method: MergeMethod, count: int, dose: float) -> None:
    if not math.isnan(dose) and count != 2:
        raise SpecError(f"'dose' needs two parents, the study has {count}.", where="merges")
    if method.base is Base.FIRST and count != 2:
        raise SpecError(f"{method.name} merges two models, the study has {count} parents.",
                        where="merges")  # fmt: skip
    on_the_way = method.base is Base.FIRST and "t" in method.parameters
    if not math.isnan(dose) and not on_the_way and "weight" not in method.parameters:
        raise SpecError(
            f"{method.name} has no weights, and so no dose.",
            where="merges",
            fix="Leave out 'dose'.",
        )
    if method.needs is not None:
        raise SpecError(
            f"{method.name} needs {method.needs} statistics of its models.",
            where="merges",
            fix="Write a recipe that names their files, and give it as 'recipe'.",
        )


def _described(parameters: Mapping[str, Any]) -> str:
    parts = [f"{key} {value}" for key, value in parameters.items()]
    return f" ({', '.join(parts)})" if parts else ""
