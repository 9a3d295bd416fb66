"""The one place where YAML becomes objects.

Documents come from strangers: size, depth and the number of nodes after expanding aliases are
bounded, tags are refused, duplicate keys are errors. Validation errors name the line, and unknown
keys get a suggestion.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError, model_validator
from pydantic_core import PydanticCustomError

from miscible.errors import SpecError, did_you_mean

MAX_BYTES = 1_000_000
MAX_NODES = 100_000
MAX_DEPTH = 50
_SCALARS = {f"tag:yaml.org,2002:{kind}" for kind in ("null", "bool", "int", "float", "str")}
_DATE = "tag:yaml.org,2002:timestamp"

M = TypeVar("M", bound="Strict")


class Strict(BaseModel):
    """Base of everything that is read from YAML: immutable, unknown keys are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)

    @model_validator(mode="before")
    @classmethod
    def _refuse_unknown_keys(cls, value: Any) -> Any:
        if isinstance(value, dict):
            known = {f.alias or name for name, f in cls.model_fields.items()}
            for key in value:
                if key not in known and key not in cls.model_fields:
                    raise PydanticCustomError(
                        "unknown_key",
                        "unknown key {key}. {advice}",
                        {"name": key, "key": repr(key), "advice": did_you_mean(str(key), known)},
                    )
        return value


@dataclass(frozen=True)
class Document:
    """A parsed YAML document.

    Attributes:
        value: plain dicts, lists and scalars.
        source: file name for messages.
        lines: line number of each node, by its path of keys and indices.
    """

    value: Any
    source: str
    lines: dict[tuple[str | int, ...], int] = field(default_factory=dict)

    def line_of(self, path: tuple[str | int, ...]) -> int | None:
        """Return the line of the innermost known node on *path*."""
        for length in range(len(path), -1, -1):
            if path[:length] in self.lines:
                return self.lines[path[:length]]
        return None

    def validate(self, model: type[M], error: type[SpecError] = SpecError) -> M:
        """Build *model* from the document.

        Raises:
            SpecError: with file and line, for the first thing that is wrong.
        """
        try:
            return model.model_validate(self.value)
        except ValidationError as failure:
            first = failure.errors()[0]
            path = tuple(first["loc"])
            unknown = (first["ctx"]["name"],) if first["type"] == "unknown_key" else ()
            line = self.line_of((*path, *unknown))
            key = ".".join(str(part) for part in path)
            message = str(first["msg"])
            raise error(
                f"{key}: {message}." if key and not message.endswith((".", "?")) else message,
                where=self.source if line is None else f"{self.source}, line {line}",
            ) from failure


def read_yaml(path: Path) -> Document:
    """Read a YAML file.

    Raises:
        SpecError: if it cannot be read or parsed, is not UTF-8, or is out of bounds.
    """
    try:
        if path.stat().st_size > MAX_BYTES:
            raise SpecError(f"the file is larger than {MAX_BYTES} bytes.", where=str(path))
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise SpecError(f"cannot be read: {error.strerror}.", where=str(path)) from error
    except UnicodeDecodeError as error:
        raise SpecError("the file is not UTF-8 text.", where=str(path)) from error
    return parse_yaml(text, source=str(path))


def parse_yaml(text: str, source: str = "<text>") -> Document:
    """Parse YAML text; see `read_yaml`."""
    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        place = f"{source}, line {mark.line + 1}" if mark else source
        problem = getattr(error, "problem", None) or str(error).splitlines()[0]
        raise SpecError(f"not valid YAML: {problem}.", where=place) from error
    except RecursionError as error:
        raise SpecError(f"nested more than {MAX_DEPTH} deep.", where=source) from error
    lines: dict[tuple[str | int, ...], int] = {}
    builder = _Builder(source, lines)
    return Document(None if root is None else builder.build(root, ()), source, lines)


class _Builder:
    def __init__(self, source: str, lines: dict[tuple[str | int, ...], int]) -> None:
        self.source, self.lines = source, lines
        self.scalars = yaml.SafeLoader("")
        self.count = 0

    def build(self, node: yaml.Node, path: tuple[str | int, ...]) -> Any:
        line = node.start_mark.line + 1
        self.count += 1
        if self.count > MAX_NODES:
            raise self._error(line, f"expands to more than {MAX_NODES} nodes")
        if len(path) > MAX_DEPTH:
            raise self._error(line, f"nested more than {MAX_DEPTH} deep")
        self.lines[path] = line
        if isinstance(node, yaml.ScalarNode):
            return self._scalar(node, line)
        if isinstance(node, yaml.SequenceNode):
            self._check_tag(node, "seq", line)
            return [self.build(item, (*path, i)) for i, item in enumerate(node.value)]
        if isinstance(node, yaml.MappingNode):
            self._check_tag(node, "map", line)
            return self._mapping(node, path)
        raise self._error(line, "an unknown kind of node")

    def _scalar(self, node: yaml.ScalarNode, line: int) -> Any:
        if node.tag == _DATE:
            return node.value
        if node.tag not in _SCALARS:
            raise self._error(line, f"the tag {node.tag!r} is not allowed")
        try:
            return self.scalars.construct_object(node)
        except (yaml.YAMLError, ValueError, LookupError) as error:
            raise self._error(line, f"{node.value!r} cannot be read as a value") from error

    def _mapping(self, node: yaml.MappingNode, path: tuple[str | int, ...]) -> dict[str, Any]:
        built: dict[str, Any] = {}
        for key_node, value_node in node.value:
            line = key_node.start_mark.line + 1
            if not isinstance(key_node, yaml.ScalarNode):
                raise self._error(line, "a key must be text")
            key = key_node.value
            if key in built:
                raise self._error(line, f"the key {key!r} stands twice")
            built[key] = self.build(value_node, (*path, key))
            self.lines[(*path, key)] = line
        return built

    def _check_tag(self, node: yaml.Node, kind: str, line: int) -> None:
        if node.tag != f"tag:yaml.org,2002:{kind}":
            raise self._error(line, f"the tag {node.tag!r} is not allowed")

    def _error(self, line: int, what: str) -> SpecError:
        return SpecError(f"{what}.", where=f"{self.source}, line {line}")
