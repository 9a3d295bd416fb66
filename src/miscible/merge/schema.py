"""The JSON Schema of recipes, for editors: ``python -m miscible.merge.schema`` prints it.

It is made from what reads recipes (`miscible.merge.recipe`) and from what methods and wrappers
declare, so it knows every parameter of every method. Draft 7, which editors support best. What only
the models can tell (how many layers, which tensors), it leaves open.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Mapping
from typing import Any, TypeAlias

from miscible.merge.chat_templates import PRESETS
from miscible.merge.contract import METHODS, REQUIRED, WRAPPERS, Base, MergeMethod, Parameter
from miscible.merge.recipe import Recipe
from miscible.models.roles import ROLES

Schema: TypeAlias = dict[str, Any]
DRAFT = "http://json-schema.org/draft-07/schema#"
NUMBER_AS_TEXT = r"^[-+]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][-+]?[0-9]+)?$"
"""YAML 1.1 reads 1e-5 as text."""
FILTER = rf"^(?!role:|layer:)|^role:({'|'.join(ROLES)})$|^layer:[0-9]+(-[0-9]+)?$"
LAYER_RANGE = {
    "type": ["array", "null"], "items": {"type": "integer", "minimum": 0},
    "minItems": 2, "maxItems": 2,
}  # fmt: skip

DESCRIPTIONS: Mapping[str, Mapping[str, str]] = {
    "Recipe": {
        "merge_method": "How tensors are merged ('miscible methods' lists all).",
        "models": "The models, merged over all layers.",
        "slices": "Ranges of layers, stacked in order.",
        "modules": "Parts of a model by a part of their tensors' names; 'default' is all the rest.",
        "base_model": "The model from which task vectors are counted, or as the method says.",
        "parameters": "Of the method, for all models.",
        "dtype": "To which inputs are rounded first; also that of the output, without 'out_dtype'.",
        "out_dtype": "Of the output.",
        "tokenizer_source": "Whose vocabulary the output gets: base, union, or a model.",
        "tokenizer": "The output's vocabulary, and the rows of single tokens.",
        "chat_template": "auto, the name of a template, or a Jinja template.",
        "wrap": "Wrappers around the method, the outermost first.",
        "coefficients": "File of factors on the models' weights, by layer or tensor.",
        "layout": "How the layers and parts of an unusual architecture are named.",
    },
    "Source": {
        "model": "Folder, file.safetensors, org/name, org/name@revision, demo:NAME, or "
        "BASE+ADAPTER.",
        "parameters": "Of the method, for this model.",
        "layer_range": "First layer, and the one behind the last; in slices only.",
        "statistics": "File that 'miscible statistics' made of this model.",
        "align": "Permutes the model's units to match the base, or the first model, beforehand.",
    },
    "Slice": {
        "sources": "The same number of layers of each model.",
        "parameters": "Of the method, for these layers.",
    },
    "Module": {
        "models": "The models, merged over all layers.",
        "slices": "Ranges of layers, stacked in order.",
        "parameters": "Of the method, for this part.",
    },
    "Tokenizer": {
        "source": "base, union, or a model as the recipe writes it.",
        "pad_to_multiple_of": "The number of rows is rounded up to a multiple of this.",
        "tokens": "By token: whose row models get that lack it.",
    },
    "LayoutOverride": {
        "layers": "Templates of names around a layer's number, as 'blocks.{layer}.'.",
        "roles": "Role by a part of the name.",
    },
}
"""What editors show of a key."""


def recipe_schema() -> Schema:
    """Return the JSON Schema of recipes of all registered methods and wrappers."""
    schema = Recipe.model_json_schema(ref_template="#/definitions/{model}")
    definitions: Schema = schema.pop("$defs")
    for name, part in {"Recipe": schema, **definitions}.items():
        part.pop("title")
        part["description"] = part["description"].partition("\n")[0]
        for key, held in part["properties"].items():
            _plain(held)
            held["description"] = DESCRIPTIONS[name][key]
    definitions["Source"]["properties"]["layer_range"] |= {**LAYER_RANGE}
    definitions["Source"]["properties"]["layer_range"].pop("anyOf")
    for part in (schema, definitions["Source"]):  # what is written empty is read as empty
        part["properties"]["parameters"]["type"] = ["object", "null"]
    definitions["LayoutOverride"]["properties"]["roles"]["additionalProperties"] = {
        "enum": list(ROLES)
    }
    properties = schema["properties"]
    properties["merge_method"] |= {
        "enum": METHODS.names(), "enumDescriptions": [method.summary for method in METHODS]
    }  # fmt: skip
    properties["chat_template"]["examples"] = ["auto", *sorted(PRESETS)]
    properties["wrap"]["items"] = _wrapper(definitions)
    definitions["Tokenizer"]["properties"]["tokens"]["anyOf"][0] = _tokens()
    schema |= _one_of("models", "slices", "modules")
    definitions["Module"] |= _one_of("models", "slices")
    schema["allOf"] = [_of_method(method, definitions) for method in METHODS]
    return {
        "$schema": DRAFT, "title": "miscible recipe", **schema,
        "definitions": dict(sorted(definitions.items())),
    }  # fmt: skip


def as_text(schema: Schema) -> str:
    """Return a schema as it is kept in a file."""
    return json.dumps(schema, indent=1) + "\n"


def _of_method(method: MergeMethod, definitions: Schema) -> Schema:
    # What of a recipe depends on its method.
    name = f"{method.name}-parameters"
    definitions[name] = _parameters(method.parameters.values(), definitions)
    definitions[name]["properties"] |= {
        ignored: {"description": f"Read, and of no effect in {method.name}."}
        for ignored in sorted(method.ignored)
    }
    own = {"parameters": {"$ref": f"#/definitions/{name}"}}
    source: Schema = {"properties": own}
    if method.needs is not None:
        source["required"] = ["statistics"]
    models = {"items": source}
    slices = {"items": {"properties": {**own, "sources": {"items": source}}}}
    parts = {**own, "models": models, "slices": slices}
    then: Schema = {
        "properties": {**parts, "modules": {"additionalProperties": {"properties": parts}}}
    }
    if method.base in (Base.ORIGIN, Base.FIRST):
        then["required"] = ["base_model"]
        then["properties"]["base_model"] = {"type": "string"}
    named = {"properties": {"merge_method": {"const": method.name}}, "required": ["merge_method"]}
    return {"if": named, "then": then}


def _wrapper(definitions: Schema) -> Schema:
    held: Schema = {}
    for wrapper in WRAPPERS:
        required = [p.name for p in wrapper.parameters.values() if p.default is REQUIRED]
        held[wrapper.name] = _parameters(wrapper.parameters.values(), definitions)
        held[wrapper.name]["description"] = wrapper.summary
        if required:
            held[wrapper.name] |= {"type": "object", "required": required}
    plain = [
        w.name for w in WRAPPERS if all(p.default is not REQUIRED for p in w.parameters.values())
    ]
    named = {
        "type": "object", "properties": held, "additionalProperties": False,
        "minProperties": 1, "maxProperties": 1,
    }  # fmt: skip
    return {"anyOf": [{"enum": plain}, named]}


def _parameters(parameters: Iterable[Parameter], definitions: Schema) -> Schema:
    return {
        "type": ["object", "null"],
        "properties": {
            p.name: {"description": _described(p), "allOf": [_value(p, definitions)]}
            for p in parameters
        },
        "additionalProperties": False,
    }


def _described(parameter: Parameter) -> str:
    owner = "one for each model" if parameter.per_model else "one for all models"
    if parameter.default is REQUIRED:
        return f"{parameter}; {owner}; required."
    return f"{parameter}; {owner}; default {json.dumps(parameter.default)}."


def _value(parameter: Parameter, definitions: Schema) -> Schema:
    # A value, a gradient over layers, or values by filter.
    name = "-".join(re.findall(r"\w[\w.]*", str(parameter)))
    here = {"$ref": f"#/definitions/{name}"}
    if name not in definitions:
        scalar = _scalar(parameter)
        filtered = {
            "type": "object",
            "properties": {
                "filter": {
                    "type": ["string", "null"], "pattern": FILTER,
                    "description": "Part of the tensor's name, *, role:ROLE, layer:3 or layer:0-5.",
                },
                "value": here,
            },
            "required": ["value"],
            "additionalProperties": False,
        }  # fmt: skip
        several = {"type": "array", "items": {"anyOf": [filtered, here]}, "contains": filtered}
        held = [scalar, filtered, several]
        if parameter.kind in (int, float):
            held.append({"type": "array", "items": scalar, "minItems": 1})
        definitions[name] = {"anyOf": held}
    return here


def _scalar(parameter: Parameter) -> Schema:
    if parameter.kind is bool:
        return {"type": "boolean"}
    if parameter.kind is str:
        return {"enum": list(parameter.choices)}
    number: Schema = {"type": "integer" if parameter.kind is int else "number"}
    if math.isfinite(parameter.low):
        number["minimum"] = parameter.low
    if math.isfinite(parameter.high):
        number["maximum"] = parameter.high
    return {"anyOf": [number, {"type": "string", "pattern": NUMBER_AS_TEXT}]}


def _tokens() -> Schema:
    kinds: list[Schema] = [
        {"type": "object", "properties": {"kind": {"const": "zero"}}, "required": ["kind"],
         "additionalProperties": False},
        {"type": "object",
         "properties": {"kind": {"const": "model_token"}, "model": {"type": "string"},
                        "token": {"type": "string"},
                        "token_id": {"type": "integer", "minimum": 0}},
         "required": ["kind", "model"],
         "oneOf": [{"required": ["token"]}, {"required": ["token_id"]}],
         "additionalProperties": False},
    ]  # fmt: skip
    source = {"description": "A model, or where else the row comes from.",
              "anyOf": [{"type": ["string", "null"]}, *kinds]}  # fmt: skip
    force = {"type": "boolean", "description": "Whether models that have the token get it, too."}
    entry = {"type": ["object", "null"], "properties": {"source": source, "force": force},
             "additionalProperties": False}  # fmt: skip
    return {"type": "object", "additionalProperties": entry}


def _one_of(*keys: str) -> Schema:
    return {
        "oneOf": [
            {"required": [key], "properties": {key: {"type": ["array", "object"]}}} for key in keys
        ]
    }


def _plain(schema: Schema) -> None:
    # Titles say a key's name again, defaults of null say nothing.
    schema.pop("title", None)
    if schema.get("default", 0) is None:
        schema.pop("default")


if __name__ == "__main__":
    print(as_text(recipe_schema()), end="")
