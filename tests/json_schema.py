"""JSON Schema, as much of draft 7 as our schemas use; another keyword is an error."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

ANNOTATIONS = {
    "$schema", "title", "description", "default", "examples", "enumDescriptions", "definitions",
}  # fmt: skip
TYPES: Mapping[str, tuple[type, ...]] = {
    "object": (dict,), "array": (list,), "string": (str,), "boolean": (bool,),
    "null": (type(None),), "number": (int, float), "integer": (int, float),
}  # fmt: skip


def errors(value: Any, schema: Any, root: Mapping[str, Any], where: str = "") -> Iterator[str]:
    """Yield what is wrong with a value."""
    if schema is False:
        yield f"{where}: nothing is allowed"
    if isinstance(schema, bool):
        return
    if "$ref" in schema:
        yield from errors(value, _resolved(schema["$ref"], root), root, where)
        return
    for keyword, wanted in schema.items():
        if keyword not in ANNOTATIONS and keyword != "then":
            yield from _errors(keyword, value, wanted, schema, root, where)


def _errors(
    keyword: str, value: Any, wanted: Any, schema: Mapping[str, Any], root: Any, where: str
) -> Iterator[str]:
    def fits(part: Any, item: Any = value) -> bool:
        return next(errors(item, part, root), None) is None

    wrong = False
    if keyword == "type":
        kinds = [wanted] if isinstance(wanted, str) else wanted
        wrong = not any(_is(value, kind) for kind in kinds)
    elif keyword in ("enum", "const"):
        allowed = wanted if keyword == "enum" else [wanted]
        wrong = not any(type(value) is type(item) and value == item for item in allowed)
    elif keyword == "anyOf":
        wrong = not any(map(fits, wanted))
    elif keyword == "oneOf":
        wrong = sum(map(fits, wanted)) != 1
    elif keyword == "allOf":
        for part in wanted:
            yield from errors(value, part, root, where)
    elif keyword == "if":
        if fits(wanted):
            yield from errors(value, schema["then"], root, where)
    elif keyword in ("minimum", "maximum"):
        if _is(value, "number"):
            wrong = value < wanted if keyword == "minimum" else value > wanted
    elif keyword == "pattern":
        wrong = isinstance(value, str) and re.search(wanted, value) is None
    elif keyword in ("properties", "additionalProperties", "required") or "Properties" in keyword:
        if isinstance(value, dict):
            yield from _object_errors(keyword, value, wanted, schema, root, where)
    elif keyword in ("items", "contains", "minItems", "maxItems"):
        if isinstance(value, list):
            wrong = (
                (keyword == "minItems" and len(value) < wanted)
                or (keyword == "maxItems" and len(value) > wanted)
                or (keyword == "contains" and not any(fits(wanted, item) for item in value))
            )
            for number, item in enumerate(value if keyword == "items" else ()):
                yield from errors(item, wanted, root, f"{where}[{number}]")
    elif keyword == "minLength":
        if isinstance(value, str) and len(value) < wanted:
            yield f"{where}: shorter than {wanted}"
    else:
        raise AssertionError(f"the schema uses {keyword!r}")
    if wrong:
        yield f"{where}: {value!r} breaks {keyword} {wanted!r}"


def _object_errors(
    keyword: str, value: dict[str, Any], wanted: Any, schema: Mapping[str, Any], root: Any,
    where: str,
) -> Iterator[str]:  # fmt: skip
    if keyword == "required":
        yield from (f"{where}: {key!r} is missing" for key in wanted if key not in value)
    elif keyword == "minProperties":
        if len(value) < wanted:
            yield f"{where}: too few keys"
    elif keyword == "maxProperties":
        if len(value) > wanted:
            yield f"{where}: too many keys"
    else:
        known = schema.get("properties", {})
        for key, item in value.items():
            if keyword == "properties" and key in wanted:
                yield from errors(item, wanted[key], root, f"{where}.{key}")
            elif keyword == "additionalProperties" and key not in known:
                yield from errors(item, wanted, root, f"{where}.{key}")


def _is(value: Any, kind: str) -> bool:
    if isinstance(value, bool):
        return kind == "boolean"
    whole = kind != "integer" or value == int(value) if isinstance(value, (int, float)) else True
    return isinstance(value, TYPES[kind]) and whole


def _resolved(reference: str, root: Any) -> Any:
    assert reference.startswith("#/"), reference
    for part in reference[2:].split("/"):
        root = root[part]
    return root
