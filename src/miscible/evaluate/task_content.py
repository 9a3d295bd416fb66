"""What tasks that come as YAML of ours or the user's depend on, as plain data for content keys.

The content of a task is its YAML with everything that this includes, with the digests of the
Python files and the local data that it names in place of their paths: moving the folder changes
nothing, changing a file that the task uses does, changing any other file does not. Of a task that
could read anything at all (a Python class, a data set made by a function) the whole folder counts.
"""

from __future__ import annotations

import glob
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any, TypeAlias

import yaml

from miscible.errors import DatasetError
from miscible.keys import file_digest

OWN_TASKS = Path(__file__).parent / "tasks"

Config: TypeAlias = dict[str, Any]

PACKAGED = frozenset({"json", "csv", "text", "parquet", "arrow", "pandas", "xml", "webdataset"})
"""Names of ``dataset_path`` that are kinds of files, even where a folder bears the name."""

_IGNORED = {"__pycache__", ".ipynb_checkpoints"}
_UNBOUNDED = ("class", "custom_dataset")
_DATA = (*_UNBOUNDED, "dataset_kwargs", "dataset_path")


def task_contents(tasks: Sequence[str], include: Sequence[str]) -> dict[str, object]:
    """Return what each of *tasks* consists of; lm-eval's own tasks are absent.

    Args:
        tasks: names of tasks, groups or tags.
        include: folders with task YAML.

    Raises:
        DatasetError: if a folder does not exist or its YAML cannot be read.
    """
    index = _Index(include)
    found = {name: index.content(name) for name in tasks}
    return {name: content for name, content in found.items() if content is not None}


def path_digest(reference: str | Path) -> object:
    """Return the digest of a file, or those of all files in a folder by their names in it.

    Raises:
        DatasetError: if there is no such file or folder.
    """
    path = Path(reference).expanduser()
    if path.is_file():
        return file_digest(path)
    if path.is_dir():
        files = (file for file in path.rglob("*") if file.is_file() and file.suffix != ".pyc")
        return {file.relative_to(path).as_posix(): file_digest(file) for file in files}
    raise DatasetError("there is no such file or folder.", where=str(reference))


@dataclass(frozen=True)
class _Definition:
    config: Config
    path: Path
    root: Path


class _Index:
    """Names to definitions or, for tags, names; found as lm-eval finds them."""

    def __init__(self, include: Sequence[str]) -> None:
        self._definitions: dict[str, _Definition] = {}
        self._tags: dict[str, list[str]] = {}
        self._has_include = bool(include)
        for root in (OWN_TASKS, *(Path(folder).expanduser() for folder in include)):
            if not root.is_dir():
                raise DatasetError("there is no such folder of tasks.", where=str(root))
            self._add(root)

    def _add(self, root: Path) -> None:
        # Within a folder the first definition of a name counts, and of folders the last.
        definitions: dict[str, _Definition] = {}
        tags: dict[str, list[str]] = {}
        for path in sorted(root.glob("**/*.yaml"), key=lambda path: path.as_posix()):
            if _IGNORED & set(path.parts):
                continue
            config = _load(path)
            is_group = "group" in config and "class" not in config
            name = config.get("group" if is_group else "task")
            if not isinstance(name, str) or name in definitions:
                continue
            definitions[name] = _Definition(config, path, root)
            for tag in () if is_group else _strings(config.get("tag")):
                tags.setdefault(tag, []).append(name)
        for name in tags:
            self._definitions.pop(name, None)
        self._definitions |= definitions
        self._tags |= tags

    def content(self, name: str, above: tuple[str, ...] = ()) -> object:
        """Return all that *name* stands for, None if nothing of it comes from these folders."""
        if name in above:
            return None
        if name in self._definitions:
            return self._of_definition(name, self._definitions[name], above)
        members = self._tags.get(name)
        if members is None:
            members = self._official_members(name) if self._has_include else []
        return self._of_names(members, (*above, name)) or None

    def _of_names(self, names: Sequence[str], above: tuple[str, ...]) -> dict[str, object]:
        found = {name: self.content(name, above) for name in sorted(set(names))}
        return {name: content for name, content in found.items() if content is not None}

    def _of_definition(
        self, name: str, held: _Definition, above: tuple[str, ...]
    ) -> dict[str, object]:
        content: dict[str, object] = {"yaml": _with_data(held.config, held.path.parent)}
        content["below"] = self._of_names(list(_mentioned(held.config)), (*above, name))
        # Where a group overrides the data of its tasks, only they know where the files lie.
        if _names_any(held.config, _DATA if "group" in held.config else _UNBOUNDED):
            content["folder"] = path_digest(held.root)
        return content

    def _official_members(self, name: str) -> list[str]:
        # A folder may redefine a task that a group or tag of lm-eval's contains.
        entry = self._official.get(name)
        if entry is None:
            return []
        if entry.kind.name == "TAG":
            return list(entry.tags)
        is_group = entry.kind.name == "GROUP" and entry.yaml_path
        return list(_mentioned(_load(entry.yaml_path))) if is_group else []

    @cached_property
    def _official(self) -> Mapping[str, Any]:
        from miscible.evaluate.task_index import build_manager

        entries: Mapping[str, Any] = build_manager([], official=True).task_index
        return entries


class _Loader(yaml.SafeLoader):
    """Leaves functions unresolved."""


_Loader.add_constructor("!function", lambda loader, node: {"!function": str(node.value)})


@lru_cache(maxsize=4096)
def _parse(text: bytes) -> object:
    return yaml.load(text, Loader=_Loader)  # noqa: S506  a safe loader


def _load(path: Path, seen: tuple[Path, ...] = ()) -> Config:
    """Return a YAML file with what it includes, and functions with the digests of their files."""
    path = path.resolve()
    try:
        parsed = _parse(path.read_bytes())
    except (OSError, yaml.YAMLError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise DatasetError(f"it is not a task: {reason}.", where=str(path)) from error
    if not isinstance(parsed, dict) or path in seen:
        what = "it includes itself" if path in seen else "it is no mapping"
        raise DatasetError(f"it is not a task: {what}.", where=str(path))
    own: Config = _plain(parsed, path.parent)
    merged: Config = {}
    for included in _strings(own.pop("include", None)):
        merged |= _load(path.parent / included, (*seen, path))
        merged.pop("task_list", None)
    return merged | own


def _plain(value: Any, folder: Path) -> Any:
    if isinstance(value, dict):
        if set(value) == {"!function"}:
            return {**value, "source": _source(str(value["!function"]), folder)}
        return {str(key): _plain(part, folder) for key, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(part, folder) for part in value]
    known = value is None or isinstance(value, (str, bool, int, float))
    return value if known else repr(value)  # a date


def _source(function: str, folder: Path) -> str | None:
    """Return the digest of the file that defines a function; ours and lm-eval's have versions."""
    module = function.rpartition(".")[0]
    beside = folder / f"{module.replace('.', '/')}.py"
    if beside.is_file():
        return file_digest(beside)
    if not module or module.split(".")[0] in ("miscible", "lm_eval"):
        return None
    try:
        found = find_spec(module)
    except Exception:  # it imports the packages around the module: anything may come
        return None
    origin = Path(found.origin) if found is not None and found.origin else None
    return file_digest(origin) if origin is not None and origin.is_file() else None


def _with_data(config: Config, folder: Path) -> Config:
    held = dict(config)
    where = held.get("dataset_path")
    if isinstance(where, str) and where not in PACKAGED and Path(where).exists():
        held["dataset_path"] = path_digest(where)
    kwargs = held.get("dataset_kwargs")
    if isinstance(kwargs, dict):
        held["dataset_kwargs"] = {
            key: _located(value, folder) if key in ("data_files", "data_dir") else value
            for key, value in kwargs.items()
        }
    return held


def _located(named: Any, folder: Path) -> Any:
    """Return the digest of what `task_changes.beside_its_yaml` would find under this name."""
    if isinstance(named, dict):
        return {key: _located(value, folder) for key, value in named.items()}
    if isinstance(named, list):
        return [_located(value, folder) for value in named]
    if not isinstance(named, str) or "://" in named:
        return named
    if any(mark in named for mark in "*?["):
        found = sorted(glob.glob(named, recursive=True))  # noqa: PTH207  it may be absolute
        return [path_digest(path) for path in found if Path(path).is_file()] or named
    for path in (Path(named).expanduser(), folder / named):
        if path.exists():
            return path_digest(path)
    return named


def _mentioned(member: Any) -> Iterator[str]:
    """Yield the names of tasks and groups in a group's YAML or in a member of it."""
    if isinstance(member, str):
        yield member
    elif isinstance(member, list):
        for each in member:
            yield from _mentioned(each)
    elif isinstance(member, dict):
        yield from _mentioned(member.get("group"))
        yield from _mentioned(member.get("task"))


def _names_any(value: Any, keys: Sequence[str]) -> bool:
    if isinstance(value, dict):
        return any(key in keys or _names_any(part, keys) for key, part in value.items())
    return isinstance(value, list) and any(_names_any(part, keys) for part in value)


def _strings(value: Any) -> list[str]:
    return [value] if isinstance(value, str) else [str(each) for each in value or ()]
