"""The schema that editors get accepts what we read, and refuses what we refuse."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from json_schema import errors
from miscible.errors import MiscibleError
from miscible.merge.catalogue import example
from miscible.merge.contract import METHODS, WRAPPERS
from miscible.merge.planner import plan_merge
from miscible.merge.recipe import Recipe, parse_recipe
from miscible.merge.schema import as_text, recipe_schema
from miscible.models.ref import open_checkpoint

FILE = Path(__file__).parents[2] / "docs" / "recipe.schema.json"
SCHEMA = json.loads(FILE.read_text())


def wrong(recipe: Any) -> list[str]:
    return list(errors(recipe, SCHEMA, SCHEMA))


def test_the_published_schema_is_current() -> None:
    assert FILE.read_text() == as_text(recipe_schema()), (
        "python -m miscible.merge.schema > docs/recipe.schema.json"
    )


def test_golden_recipes_are_valid(shared_data: Path) -> None:
    configs = sorted((shared_data / "mergekit_golden" / "cases").glob("*/config.yml"))
    assert len(configs) > 70
    found = {path.parent.name: wrong(yaml.safe_load(path.read_text())) for path in configs}
    refused = {name for name, errors in found.items() if errors}
    assert refused == {"linear_unknown_parameter"}, found


@pytest.mark.parametrize("name", [*METHODS.names(), *WRAPPERS.names()])
def test_examples_are_valid(name: str) -> None:
    entry = METHODS.get(name) if name in METHODS else WRAPPERS.get(name)
    assert wrong(yaml.safe_load(example(entry))) == []


RECIPE: dict[str, Any] = {
    "merge_method": "ties",
    "base_model": "org/base",
    "models": [{"model": "org/one", "parameters": {"weight": 0.5}}],
}


@pytest.mark.parametrize(
    "keys",
    [
        {"parameters": None},
        {"parameters": {"density": [0.1, 0.9], "lambda": "1e-1", "int8_mask": True}},
        {"parameters": {"weight": [{"filter": "mlp", "value": [0.1, 0.2]}, 0.5]}},
        {"parameters": {"weight": [{"filter": "role:norm", "value": 1}, {"value": 0}]}},
        {"parameters": {"weight": {"filter": "layer:2-7", "value": 1}}},
        {"parameters": {"normalize": [{"filter": "*", "value": False}]}},
        {"wrap": ["knots", {"lines": {"alpha": 0.5, "beta": 1}}, {"subspace_boosting": None}]},
        {"tokenizer": {"source": "union", "tokens": {
            "<a>": {"source": {"kind": "zero"}}, "<b>": None,
            "<c>": {"source": {"kind": "model_token", "model": "org/one", "token_id": 3},
                    "force": True}}}},
        {"dtype": "bfloat16", "out_dtype": None, "chat_template": "chatml"},
        {"layout": {"layers": "blocks.{layer}.", "roles": {"router": "mlp"}}},
        {"merge_method": "passthrough", "models": None, "base_model": None,
         "parameters": {"scale": 2}, "slices": [
             {"sources": [{"model": "a", "layer_range": [0, 3]}]}]},
        {"models": None, "modules": {"vision": {"models": [{"model": "a"}]}}},
    ],
)  # fmt: skip
def test_what_we_read_is_valid(keys: dict[str, Any]) -> None:
    recipe = {**RECIPE, **keys}
    assert wrong(recipe) == []
    Recipe.model_validate(recipe)


@pytest.mark.parametrize(
    "keys",
    [
        {"merge_method": "tie"},
        {"merge_metod": "ties"},
        {"base_model": None},
        {"parameters": {"densty": 0.5}},
        {"parameters": {"density": 1.5}},
        {"parameters": {"density": [0.5, 1.5]}},
        {"parameters": {"density": []}},
        {"parameters": {"density": "half"}},
        {"parameters": {"normalize": 1}},
        {"parameters": {"normalize": "yes"}},
        {"parameters": {"lambda": [{"filter": "role:nurm", "value": 1}]}},
        {"parameters": {"lambda": [{"filter": "layer:x", "value": 1}]}},
        {"parameters": {"lambda": [{"filtr": "mlp", "value": 1}]}},
        {"models": [{"model": "a", "parameters": {"t": 0.5}}]},
        {"wrap": ["nots"]},
        {"wrap": ["lines"]},
        {"wrap": [{"lines": {"alpha": 1, "beta": 1, "gamma": 1}}]},
        {"wrap": [{"subspace_boosting": {"beta": 2}}]},
        {"merge_method": "composed", "parameters": {"consensus": "vote"}},
    ],
)
def test_what_we_refuse_without_the_models_is_invalid(
    keys: dict[str, Any], tiny_base: Path, tiny_children: list[Path]
) -> None:
    recipe = {**RECIPE, "parameters": {"weight": 0.5}, **keys}
    assert wrong(recipe)
    with pytest.raises(MiscibleError):
        parsed = parse_recipe(yaml.safe_dump(recipe))
        folders = [tiny_base, *tiny_children]
        models = {
            reference: open_checkpoint(str(folder))
            for reference, folder in zip(parsed.references(), folders, strict=False)
        }
        plan_merge(parsed, models)


@pytest.mark.parametrize(
    "keys",
    [
        {"models": None},
        {"slices": [{"sources": [{"model": "a"}]}]},
        {"models": [{"model": "a", "layer_range": [0]}]},
        {"models": [{"weight": 1}]},
        {"dtype": "float8"},
        {"tokenizer": {"source": "union", "pad_to_multiple": 8}},
    ],
)
def test_what_is_no_recipe_is_invalid(keys: dict[str, Any]) -> None:
    recipe = {**RECIPE, **keys}
    assert wrong(recipe)
    with pytest.raises(MiscibleError):
        parse_recipe(yaml.safe_dump(recipe))


def test_statistics_are_demanded_where_they_are_needed() -> None:
    recipe: dict[str, Any] = {"merge_method": "regmean", "models": [{"model": "a"}]}
    assert wrong(recipe)
    recipe["models"][0]["statistics"] = "a.safetensors"
    assert wrong(recipe) == []


def test_every_key_and_parameter_is_described() -> None:
    for name, part in {"Recipe": SCHEMA, **SCHEMA["definitions"]}.items():
        for key, held in part.get("properties", {}).items():
            assert held["description"], f"{name}.{key}"
    density = SCHEMA["definitions"]["ties-parameters"]["properties"]["density"]
    assert density["description"] == (
        "a number in the range [0, 1]; one for each model; default 1.0."
    )
