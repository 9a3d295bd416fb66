"""Coefficient maps: a factor on each model's `weight`, by layer or tensor, kept in a JSON file.

::

    {"kind": "coefficients", "version": 1,
     "models": {"org/math": {"*": 0.3, "model.layers.3.": 0.41, "model.norm.weight": 0.2}}}

They are learned (`miscible.merge.adamerging`) or written by hand.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any, Literal, NoReturn

from pydantic import Field, FiniteFloat

from miscible.errors import RecipeError
from miscible.models.layout import place_of
from miscible.spec import Document, Strict

MAX_BYTES = 16_000_000
EVERYTHING = "*"


class CoefficientMap(Strict):
    """Factors by model reference and key: a tensor's name, its layer's prefix, or ``*``.

    Attributes:
        models: as the recipe names them.
        provenance: how they were found, for people.
    """

    kind: Literal["coefficients"] = "coefficients"
    version: Literal[1] = 1
    models: Annotated[dict[str, dict[str, FiniteFloat]], Field(min_length=1)]
    provenance: dict[str, Any] = {}

    def factor(self, model_reference: str, tensor_name: str) -> float:
        """Return the factor under the tensor's name, else its layer's prefix, else ``*``, else 1.

        A model that the map does not name has the factor 1.
        """
        factors = self.models.get(model_reference, {})
        for key in keys_of(tensor_name):
            if key in factors:
                return factors[key]
        return 1.0

    def unused(self, tensor_names: Iterable[str]) -> list[str]:
        """Return the keys that concern none of these tensors: mistakes, or of another model."""
        known = {key for name in tensor_names for key in keys_of(name)}
        return sorted({key for factors in self.models.values() for key in factors} - known)


def keys_of(tensor_name: str) -> tuple[str, ...]:
    """Return the keys that concern a tensor, the closest first."""
    place = place_of(tensor_name)
    layer = () if place.stack is None else (f"{place.stack}{place.index}.",)
    return (tensor_name, *layer, EVERYTHING)


def read_coefficients(path: Path) -> CoefficientMap:
    """Read a coefficient map.

    Raises:
        RecipeError: if it cannot be read, is too large, or is no coefficient map.
    """
    try:
        if path.stat().st_size > MAX_BYTES:
            raise RecipeError(f"the file is larger than {MAX_BYTES} bytes.", where=str(path))
        value = json.loads(
            path.read_bytes(), object_pairs_hook=_without_duplicates, parse_constant=_refuse
        )
    except OSError as error:
        raise RecipeError(f"cannot be read: {error.strerror}.", where=str(path)) from error
    except (ValueError, RecursionError) as error:
        reason = str(error) if isinstance(error, _NotPlainError) else "it is not JSON"
        raise RecipeError(f"{reason}.", where=str(path)) from error
    if not isinstance(value, Mapping):
        raise RecipeError("a coefficient map is a JSON object.", where=str(path))
    return Document(value, str(path)).validate(CoefficientMap, RecipeError)


def write_coefficients(path: Path, coefficients: CoefficientMap) -> None:
    """Write a coefficient map, whole or not at all.

    Raises:
        RecipeError: if it cannot be written.
    """
    text = json.dumps(coefficients.model_dump(), indent=2, allow_nan=False) + "\n"
    partial = path.with_name(f".{path.name}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial.write_text(text, encoding="utf-8")
        partial.replace(path)
    except OSError as error:
        with suppress(OSError):
            partial.unlink()
        raise RecipeError(f"it cannot be written: {error.strerror}.", where=str(path)) from error


class _NotPlainError(ValueError):
    pass


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    held = dict(pairs)
    if len(held) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise _NotPlainError(f"the key {twice!r} stands twice")
    return held


def _refuse(constant: str) -> NoReturn:
    raise _NotPlainError(f"{constant} is no coefficient")
