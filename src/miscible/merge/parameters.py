"""Parameter values for one tensor: precedence, filters, gradients."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from miscible.errors import RecipeError, UnknownNameError, did_you_mean
from miscible.merge.contract import REQUIRED, MergeMethod, Parameter, Site, Wrapper
from miscible.models.roles import ROLES

_MISSING = object()


def check_names(method: MergeMethod | Wrapper, *levels: Mapping[str, Any]) -> None:
    """Refuse parameters that the method or wrapper does not know.

    Raises:
        UnknownNameError: with a suggestion.
    """
    ignored = method.ignored if isinstance(method, MergeMethod) else frozenset()
    known = set(method.parameters) | ignored
    for level in levels:
        for name in level:
            if name not in known:
                raise UnknownNameError(
                    f"{method.name} has no parameter {name!r}.", fix=did_you_mean(name, known)
                )


def values_for(
    method: MergeMethod | Wrapper,
    site: Site,
    depth: float,
    models: Sequence[tuple[str, str, Sequence[Mapping[str, Any]]]],
    shared_levels: Sequence[Mapping[str, Any]],
) -> dict[str, Any]:
    """Return every parameter of *method* for one tensor.

    Args:
        method: the method.
        site: where the tensor stands, for filters by name, role and layer.
        depth: place of its layer within the slice, 0 for the first, 1 for the last; tensors
            outside the layers take 0.
        models: name of each input, that of its tensor, which filters for its values see, and its
            levels of parameters, innermost first.
        shared_levels: levels for parameters that all models share, innermost first.

    Raises:
        RecipeError: if a required parameter is missing or a value is not allowed.
    """
    values: dict[str, Any] = {}
    for parameter in method.parameters.values():
        if parameter.per_model:
            values[parameter.name] = tuple(
                _value(method, parameter, replace(site, tensor=tensor), depth, levels, model)
                for model, tensor, levels in models
            )
        else:
            values[parameter.name] = _value(method, parameter, site, depth, shared_levels, None)
    return values


def _value(
    method: MergeMethod | Wrapper,
    parameter: Parameter,
    site: Site,
    depth: float,
    levels: Sequence[Mapping[str, Any]],
    owner: str | None,
) -> Any:
    for level in levels:
        if parameter.name in level:
            found = _resolve(level[parameter.name], site, depth)
            if found is not _MISSING:
                return parameter.check(found, method.name)
    if parameter.default is REQUIRED:
        raise RecipeError(
            f"{method.name} needs the parameter {parameter.name!r}"
            f"{f' for {owner}' if owner else ''} (tensor {site.tensor!r}).",
            fix="Give it under 'parameters' of the model or of the recipe.",
        )
    return parameter.check(parameter.default, method.name)


def _resolve(setting: Any, site: Site, depth: float) -> Any:
    if isinstance(setting, Mapping):
        setting = [setting]
    if not isinstance(setting, list):
        return setting
    if not setting:
        raise RecipeError("an empty list is not a parameter value.")
    if not any(isinstance(entry, Mapping) for entry in setting):
        return _interpolate(setting, depth)
    for entry in setting:
        wanted, value = _filtered(entry)
        if wanted is None or _matches(wanted, site):
            return _resolve(value, site, depth)
    return _MISSING


def _matches(wanted: str, site: Site) -> bool:
    # No tensor's name has a colon, so filters by role and layer are told from filters by name.
    if wanted.startswith("role:"):
        role = wanted.removeprefix("role:")
        if role not in ROLES:
            raise RecipeError(
                f"there is no role {role!r} to filter by.", fix=did_you_mean(role, ROLES)
            )
        return site.role == role
    if wanted.startswith("layer:"):
        first, _, last = wanted.removeprefix("layer:").partition("-")
        if not first.isdigit() or not (last or first).isdigit():
            raise RecipeError(
                f"{wanted!r} is not a filter by layer.", fix="Write 'layer:3' or 'layer:0-5'."
            )
        return site.layer is not None and int(first) <= site.layer <= int(last or first)
    return wanted == "*" or wanted in site.tensor


def _filtered(entry: Any) -> tuple[str | None, Any]:
    if isinstance(entry, Mapping):
        unknown = set(entry) - {"filter", "value"}
        if "value" not in entry or unknown:
            raise RecipeError(
                f"a filtered value has the keys 'filter' and 'value', got {sorted(entry)}."
            )
        name = entry.get("filter")
        return (None if name is None else str(name)), entry["value"]
    return None, entry


def _interpolate(points: Sequence[Any], depth: float) -> Any:
    # A gradient: values at equal distances over the layers of the slice.
    try:
        numbers = [float(point) for point in points]
    except (TypeError, ValueError, OverflowError) as error:
        raise RecipeError(f"a gradient is a list of numbers, got {list(points)!r}.") from error
    position = depth * (len(numbers) - 1)
    left = min(int(position), len(numbers) - 1)
    right = min(left + 1, len(numbers) - 1)
    share = position - left
    return (1.0 - share) * numbers[left] + share * numbers[right]
