"""Recipes for any method: the plainest that has something to do, read by mergekit as well."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from miscible.merge.contract import METHODS, Base

_SHARED = {"t": 0.4, "density": 0.5}
_OWN: dict[str, dict[str, float]] = {"nearswap": {"t": 1e-3}, "pcb": {"density": 0.2}}
"""Values by parameter, and where a method needs others; all else is left at its default."""


def recipe_of(method: str, base: Path, tuned: Sequence[Path]) -> dict[str, Any]:
    """Return a recipe for a method as a mapping; what it cannot take of the models is left out."""
    declared = METHODS.get(method)
    models = list(tuned)[: declared.most]
    values = {**_SHARED, **_OWN.get(method, {}), "weight": 1.0 / len(models)}
    if "epsilon" in declared.parameters and "density" in declared.parameters:
        values["epsilon"] = 0.15
    given = {name: values[name] for name in declared.parameters if name in values}
    each = {name: value for name, value in given.items() if declared.parameters[name].per_model}
    recipe: dict[str, Any] = {
        "merge_method": method,
        "models": [
            {"model": str(model)} | ({"parameters": each} if each else {}) for model in models
        ],
        "parameters": {name: value for name, value in given.items() if name not in each},
        "dtype": "bfloat16",
    }
    if declared.base is Base.ORIGIN:
        recipe["base_model"] = str(base)
    elif declared.base is Base.FIRST:
        recipe["base_model"] = str(models[0])
    return recipe


def inputs_of(recipe: dict[str, Any]) -> list[Path]:
    """Return the folders that a recipe reads, each once."""
    named = [entry["model"] for entry in recipe["models"]]
    return list(dict.fromkeys(map(Path, [*named, *filter(None, [recipe.get("base_model")])])))


def write_recipe(path: Path, recipe: dict[str, Any]) -> Path:
    """Write a recipe's YAML file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump(recipe, sort_keys=False))
    return path
