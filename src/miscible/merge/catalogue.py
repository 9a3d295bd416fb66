"""Methods and wrappers as data: for the command line, the documents, and the recipes' schema."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, TypeAlias

import yaml

from miscible.errors import UnknownNameError, did_you_mean
from miscible.merge.contract import (
    METHODS,
    REQUIRED,
    WRAPPERS,
    Base,
    Deltas,
    MergeMethod,
    Parameter,
    Wrapper,
)

Whether: TypeAlias = Literal["always", "never", "depends"]
"""Whether something holds of a method, or depends on its parameters."""

_WEIGHTS = "On weights"
_STREAMED = "On task vectors"
_RANDOM = "On task vectors, with random numbers"
_WHOLE = "On task vectors, whole tensors at a time"
_STATISTICS = "From statistics of calibration texts"
_COLUMNS = ("parameters", "paper", "what it does")
FAMILIES = (_WEIGHTS, _STREAMED, _RANDOM, _WHOLE, _STATISTICS)


def family(method: MergeMethod) -> str:
    """Return which of `FAMILIES` a method belongs to, told from what it needs."""
    if method.needs is not None:
        return _STATISTICS
    if method.space is not Deltas:
        return _WEIGHTS
    if method.random:
        return _RANDOM
    return _WHOLE if method.streams is False and method.elementwise is False else _STREAMED


def find(name: str) -> MergeMethod | Wrapper:
    """Return the method or wrapper of that name.

    Raises:
        UnknownNameError: with a suggestion.
    """
    if name in METHODS:
        return METHODS.get(name)
    if name in WRAPPERS:
        return WRAPPERS.get(name)
    known = [*METHODS.names(), *WRAPPERS.names()]
    raise UnknownNameError(
        f"there is no merge method or wrapper named {name!r}.", fix=did_you_mean(name, known)
    )


def described(entry: MergeMethod | Wrapper) -> dict[str, Any]:
    """Return everything that is declared of a method or wrapper, as plain data."""
    parameters = {p.name: _parameter(p) for p in entry.parameters.values()}
    if isinstance(entry, Wrapper):
        return {
            "kind": "wrapper", "name": entry.name, "summary": entry.summary, "paper": entry.paper,
            "streams": whether(entry.streams), "parameters": parameters,
        }  # fmt: skip
    return {
        "kind": "method", "name": entry.name, "summary": entry.summary, "paper": entry.paper,
        "family": family(entry), "base": entry.base.name.lower(), "base_model": entry.base.value,
        "least": entry.least, "most": entry.most, "random": entry.random, "needs": entry.needs,
        "streams": whether(entry.streams), "elementwise": whether(entry.elementwise),
        "exempt": sorted(law.value for law in entry.exempt), "parameters": parameters,
        "ignored": sorted(entry.ignored),
    }  # fmt: skip


def inputs(method: MergeMethod) -> str:
    """Return which models a method takes, in a word or two."""
    least, most = method.least, method.most
    if method.base is Base.FIRST:
        return "base + 1"
    count = str(least) if least == most else f"{least}+" if most is None else f"{least}-{most}"
    return {
        Base.ORIGIN: f"base + {count}",
        Base.OPTIONAL: f"[base +] {count}",
        Base.INPUT: count,
    }[method.base]


def details(entry: MergeMethod | Wrapper) -> str:
    """Return what the documentation of a method says behind its summary, for people."""
    text = inspect.cleandoc(entry.function.__doc__ or "").partition("\n")[2]
    return text.partition("\nRaises:")[0].strip().replace("``", "`")


def example(entry: MergeMethod | Wrapper) -> str:
    """Return a recipe that uses a method or wrapper, with all that it requires."""
    wraps = isinstance(entry, Wrapper)
    method = METHODS.get("task_arithmetic") if isinstance(entry, Wrapper) else entry
    based = method.base in (Base.ORIGIN, Base.FIRST)
    count = max(method.least, 1 if method.most == 1 else 2)
    names = ["org/one", "org/two"] if count <= 2 else [f"org/model-{n}" for n in range(count)]
    recipe: dict[str, Any] = {"merge_method": method.name}
    if based:
        recipe["base_model"] = names[0] if method.base is Base.FIRST else "org/base"
    recipe["models"] = [_source(method, name) for name in names[:count]]
    common = _required(method.parameters, per_model=False)
    if common:
        recipe["parameters"] = common
    if wraps:
        recipe["wrap"] = [
            {entry.name: _required(entry.parameters)} if entry.parameters else entry.name
        ]
    return yaml.safe_dump(recipe, sort_keys=False, default_flow_style=None, width=90)


def markdown() -> str:
    """Return tables of all methods and wrappers, as the documents show them."""
    parts = []
    for title in FAMILIES:
        rows = [
            [f"`{m.name}`", inputs(m), _signature(m), _linked(m.paper), m.summary]
            for m in METHODS
            if family(m) == title
        ]
        parts.append(_table(title, ["method", "models", *_COLUMNS], rows))
    rows = [[f"`{w.name}`", _signature(w), _linked(w.paper), w.summary] for w in WRAPPERS]
    parts.append(_table("Wrappers around methods on task vectors", ["wrapper", *_COLUMNS], rows))
    return "\n\n".join(parts) + "\n"


def _table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    held = [columns, ["---"] * len(columns), *rows]
    lines = ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in held]
    return "\n".join([f"### {title}", "", *lines])


def _signature(entry: MergeMethod | Wrapper) -> str:
    def written(parameter: Parameter) -> str:
        if parameter.default is REQUIRED:
            return f"**`{parameter.name}`**"
        value = parameter.default
        text = str(value).lower() if isinstance(value, bool) else str(value)
        text = f"{value:g}" if isinstance(value, float) else text
        return f"`{parameter.name}` {text}"

    return ", ".join(map(written, entry.parameters.values()))


def _linked(paper: str) -> str:
    number = paper.replace(".", "", 1)
    if number.isdigit() and number != paper:
        return f"[{paper}](https://arxiv.org/abs/{paper})"
    host = paper.partition("//")[2].partition("/")[0].removeprefix("www.")
    return f"[{host}]({paper})" if host else paper


def whether(condition: bool | Callable[[Mapping[str, Any]], bool]) -> Whether:
    """Return whether a condition on a method's parameters holds."""
    if isinstance(condition, bool):
        return "always" if condition else "never"
    return "depends"


def _source(method: MergeMethod, name: str) -> dict[str, Any]:
    source: dict[str, Any] = {"model": name}
    parameters = _required(method.parameters, per_model=True)
    if parameters:
        source["parameters"] = parameters
    if method.needs is not None:
        source["statistics"] = f"{name.rpartition('/')[2]}-{method.needs}.safetensors"
    return source


def _required(
    parameters: Mapping[str, Parameter], *, per_model: bool | None = None
) -> dict[str, Any]:
    return {
        p.name: p.choices[0] if p.choices else min(max(0.5, p.low), p.high)
        for p in parameters.values()
        if p.default is REQUIRED and per_model in (None, p.per_model)
    }


def _parameter(parameter: Parameter) -> dict[str, Any]:
    required = parameter.default is REQUIRED
    return {
        "kind": parameter.kind.__name__, "required": required,
        "default": None if required else parameter.default, "per_model": parameter.per_model,
        "low": parameter.low if math.isfinite(parameter.low) else None,
        "high": parameter.high if math.isfinite(parameter.high) else None,
        "choices": list(parameter.choices), "allowed": str(parameter),
    }  # fmt: skip


if __name__ == "__main__":
    print(markdown(), end="")
