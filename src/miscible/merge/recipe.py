"""Recipes: the YAML of a merge, in mergekit's dialect."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import BeforeValidator, Field, model_validator

from miscible.errors import RecipeError
from miscible.spec import Document, Strict, parse_yaml, read_yaml

Dtype: TypeAlias = Literal["float32", "float16", "bfloat16", "float64"]


def _reference(value: Any) -> Any:
    # Recipes that a program wrote spell a reference out: {model: {path, revision}, lora: the same}.
    if not isinstance(value, dict) or not {"model"} <= value.keys() <= {"model", "lora"}:
        return value
    model, adapter = _path(value["model"]), _path(value.get("lora"))
    if model is None or (adapter is None and value.get("lora") is not None):
        return value
    return model if adapter is None else f"{model}+{adapter}"


def _path(part: Any) -> str | None:
    if isinstance(part, str):
        return part
    if not isinstance(part, dict) or not {"path"} <= part.keys() <= {"path", "revision"}:
        return None
    named = [part["path"], *([part["revision"]] if part.get("revision") is not None else [])]
    return "@".join(named) if all(isinstance(text, str) for text in named) else None


Parameters: TypeAlias = Annotated[dict[str, Any], BeforeValidator(lambda v: {} if v is None else v)]
Reference: TypeAlias = Annotated[str, Field(min_length=1), BeforeValidator(_reference)]
LayerRange: TypeAlias = tuple[Annotated[int, Field(ge=0)], Annotated[int, Field(ge=0)]]

_FILE_KEYS = ("statistics", "coefficients")
_REFERENCE_KEYS = ("model", "base_model", "tokenizer_source", "source")


class Source(Strict):
    """A model of a recipe, or the part of it that a slice takes."""

    model: Reference
    parameters: Parameters = {}
    layer_range: LayerRange | None = None
    statistics: str | None = None
    """Statistics file of the model, for methods that need one."""
    align: Literal["git_rebasin"] | None = None
    """How the model's neurons are permuted to match the base (or first model) beforehand."""


class Slice(Strict):
    """Layers of the output, made from one range of layers of each source."""

    sources: list[Source] = Field(min_length=1)
    parameters: Parameters = {}


class Module(Strict):
    """A part of a model of several (a vision tower, a text decoder), merged on its own."""

    models: list[Source] | None = None
    slices: list[Slice] | None = None
    parameters: Parameters = {}

    @model_validator(mode="after")
    def _one_way_to_name_models(self) -> Module:
        _check_one_way(self, ("models", "slices"))
        return self


class LayoutOverride(Strict):
    """What a recipe says about an architecture whose names do not follow the rules."""

    layers: str | list[str] = []
    roles: dict[str, str] = {}


class Tokenizer(Strict):
    """What tokenizer the output gets."""

    source: Reference = "union"
    pad_to_multiple_of: int | None = None
    tokens: dict[str, Any] | None = None


class Recipe(Strict):
    """A merge: a method, its models, and its parameters.

    Parameters of a source take precedence over those of its slice, and those over the recipe's.
    """

    merge_method: str
    models: list[Source] | None = None
    slices: list[Slice] | None = None
    modules: dict[str, Module] | None = None
    base_model: Reference | None = None
    parameters: Parameters = {}
    dtype: Dtype | None = None
    out_dtype: Dtype | None = None
    tokenizer_source: Reference | None = None
    tokenizer: Tokenizer | None = None
    chat_template: str | None = None
    wrap: list[str | dict[str, Parameters | None]] = []
    """Wrappers around the method, the outermost first: names, or a name with its parameters."""
    coefficients: str | None = None
    """File of factors on the models' weights, by layer or tensor."""
    layout: LayoutOverride | None = None

    @model_validator(mode="after")
    def _one_way_to_name_models(self) -> Recipe:
        _check_one_way(self, ("models", "slices", "modules"))
        return self

    def wrappers(self) -> list[tuple[str, Parameters]]:
        """Return name and parameters of every wrapper, the outermost first.

        Raises:
            RecipeError: if an entry names more than one.
        """
        found: list[tuple[str, Parameters]] = []
        for entry in self.wrap:
            if isinstance(entry, str):
                found.append((entry, {}))
                continue
            if len(entry) != 1:
                raise RecipeError(
                    f"an entry of 'wrap' names one wrapper, this one {sorted(entry)}.",
                    fix="Begin a list item for each.",
                )
            ((name, parameters),) = entry.items()
            found.append((name, parameters or {}))
        return found

    def sources(self) -> list[Source]:
        """Return every source of the recipe, in order."""
        parts: list[Recipe | Module] = [self, *(self.modules or {}).values()]
        return [
            source
            for part in parts
            for source in [*(part.models or []), *(s for p in part.slices or [] for s in p.sources)]
        ]

    def references(self) -> list[str]:
        """Return every model reference once: the base, then the others in order."""
        named = [self.base_model] if self.base_model else []
        return list(dict.fromkeys([*named, *(source.model for source in self.sources())]))

    def renamed(self, names: Mapping[str, str]) -> Recipe:
        """Return the recipe with other model references."""

        def rename(value: Any) -> Any:
            if isinstance(value, dict):
                return {
                    key: names.get(item, item)
                    if key in _REFERENCE_KEYS and isinstance(item, str)
                    else rename(item)
                    for key, item in value.items()
                }
            return [rename(item) for item in value] if isinstance(value, list) else value

        return Recipe.model_validate(rename(self.model_dump()))

    def with_file_names(self) -> Recipe:
        """Return the recipe with statistics and coefficient files called by their last names."""
        plain = self.model_dump()

        def shorten(value: Any) -> Any:
            if isinstance(value, dict):
                return {
                    key: Path(item).name
                    if key in _FILE_KEYS and isinstance(item, str)
                    else shorten(item)
                    for key, item in value.items()
                }
            return [shorten(item) for item in value] if isinstance(value, list) else value

        return Recipe.model_validate(shorten(plain))

    def to_yaml(self) -> str:
        """Return the recipe as YAML that mergekit reads too."""
        import yaml

        plain = self.model_dump(exclude_none=True, exclude_defaults=True)
        return yaml.safe_dump(plain, sort_keys=False, allow_unicode=True)


def read_recipe(path: Path) -> Recipe:
    """Read a recipe file.

    Raises:
        RecipeError: with file and line.
    """
    return _validated(read_yaml(path))


def parse_recipe(text: str, source: str = "<recipe>") -> Recipe:
    """Parse a recipe; see `read_recipe`."""
    return _validated(parse_yaml(text, source))


def _check_one_way(part: Recipe | Module, keys: tuple[str, ...]) -> None:
    given = [key for key in keys if getattr(part, key) is not None]
    if len(given) != 1:
        wanted = f"{', '.join(map(repr, keys[:-1]))} and {keys[-1]!r}"
        raise ValueError(f"exactly one of {wanted} is needed, got {given or 'none'}")
    if not getattr(part, given[0]):
        raise ValueError(f"{given[0]!r} is empty")
    if part.models is not None and any(source.layer_range for source in part.models):
        raise ValueError("'layer_range' belongs into 'slices'")


def _validated(document: Document) -> Recipe:
    if not isinstance(document.value, dict):
        raise RecipeError("a recipe is a mapping of keys to values.", where=document.source)
    return document.validate(Recipe, RecipeError)
