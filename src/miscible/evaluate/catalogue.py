"""Task names become lm-eval tasks: official ones, ours, and the user's own, on data at hand."""

from __future__ import annotations

from collections.abc import Iterator
from copy import deepcopy
from dataclasses import fields
from pathlib import Path
from typing import Any

from lm_eval.api.group import Group
from lm_eval.config.group import GroupConfig
from lm_eval.tasks._index import Kind
from lm_eval.tasks._yaml_loader import load_yaml

from miscible.errors import DatasetError, MiscibleError, UnknownNameError, did_you_mean
from miscible.evaluate.data import LocalData
from miscible.evaluate.options import DataSource, EvaluationOptions
from miscible.evaluate.task_changes import beside_its_yaml, on_local_data, set_few_shot
from miscible.evaluate.task_content import OWN_TASKS
from miscible.evaluate.task_index import build_manager

_GROUP_FIELDS = {item.name for item in fields(GroupConfig)}


class Catalogue:
    """Loads the tasks that some options ask for.

    Args:
        options: tasks, data and included folders.
        scratch: empty folder for caches of data files; it must live as long as the tasks.
    """

    def __init__(self, options: EvaluationOptions, scratch: Path) -> None:
        self.options = options
        self._scratch = scratch / "datasets"
        self._local = LocalData()
        self._manager = self._open_manager()
        self._data = dict(self._data_of_leaves())

    def load(self) -> dict[str, Any]:
        """Return ``{"tasks": ..., "groups": ...}`` as lm-eval's `evaluate` takes it.

        Raises:
            DatasetError: if a task's YAML or its data cannot be read.
            MiscibleError: if a task is asked for twice.
        """
        built = [each for name in self.options.tasks for each in self._build(name, {})]
        try:
            loaded: dict[str, Any] = self._manager.load(built)
        except ValueError as error:  # lm-eval refuses tasks that two of the names contain
            raise MiscibleError(f"{error}.", fix="Name each task once.") from error
        for name, task in loaded["tasks"].items():
            set_few_shot(name, task, self.options.num_fewshot, on_local=name in self._data)
            if getattr(task, "UNSAFE_CODE", False) and not self.options.allow_code:
                raise MiscibleError(
                    f"task {name!r} runs code that the model writes.",
                    fix="Allow it with the option allow_code.",
                )
        return loaded

    def _open_manager(self) -> Any:
        folders = [Path(folder).expanduser() for folder in self.options.include]
        for folder in folders:
            _check_yaml(folder)
        manager = build_manager([OWN_TASKS, *folders], official=False)
        wanted = [*self.options.tasks, *self.options.data]
        if any(name not in manager.task_index for name in wanted):
            manager = build_manager([OWN_TASKS, *folders], official=True)
        for name in wanted:
            if name not in manager.task_index:
                raise UnknownNameError(
                    f"there is no task, group or tag named {name!r}.",
                    fix=_suggest(name, manager.task_index),
                )
        return manager

    def _config(self, name: str) -> dict[str, Any]:
        entry = self._manager.task_index[name]
        if entry.yaml_path is None:
            return dict(entry.cfg or {})
        return dict(load_yaml(entry.yaml_path, resolve_func=False))

    def _members(self, name: str) -> list[str | dict[str, Any]]:
        entry = self._manager.task_index[name]
        if entry.kind is Kind.TAG:
            return sorted(entry.tags)
        named = self._config(name).get("task") or []
        return [named] if isinstance(named, str) else list(named)

    def _leaves(self, member: str | dict[str, Any]) -> Iterator[str]:
        """Yield the names of the tasks in a task, a group, a tag, or a member of a group."""
        if isinstance(member, dict) and isinstance(member.get("task"), list):
            members = member["task"]
        else:
            name = member if isinstance(member, str) else member.get("group", member.get("task"))
            entry = self._manager.task_index.get(name)
            if entry is None or entry.kind not in (Kind.GROUP, Kind.TAG):
                yield str(name)
                return
            members = self._members(str(name))
        for each in members:
            yield from self._leaves(each)

    def _data_of_leaves(self) -> Iterator[tuple[str, DataSource]]:
        # What is said of a task itself comes last, and so overrides what is said of its group.
        kinds = {name: self._manager.task_index[name].kind for name in self.options.data}
        for name in sorted(kinds, key=lambda name: kinds[name] in (Kind.TASK, Kind.PY_TASK)):
            for leaf in self._leaves(name):
                yield leaf, self.options.data[name]

    def _build(self, member: str | dict[str, Any], shared: dict[str, Any]) -> list[Any]:
        """Build what a name or a member of a group stands for: a task, a group, a tag's tasks.

        Args:
            member: as it stands in a group's YAML: a name, or keys that override some.
            shared: keys that override those of every task below.
        """
        index = self._manager.task_index
        if isinstance(member, dict) and "group" in member:
            held = self._config(member["group"]) if member["group"] in index else {}
            return [self._build_group({**held, **shared, **member})]
        if isinstance(member, dict):
            return [self._build_task(member["task"], {**shared, **member})]
        kind = index[member].kind if member in index else Kind.TASK
        if kind is Kind.TAG:
            return [task for name in self._members(member) for task in self._build(name, shared)]
        if kind is Kind.GROUP:
            return [self._build_group({**self._config(member), **shared})]
        return [self._build_task(member, shared)]

    def _build_group(self, config: dict[str, Any]) -> Any:
        config = deepcopy(config)
        # Whatever else stands in a group's YAML overrides its tasks'.
        aside = _GROUP_FIELDS | {"include", "tag"}
        shared = {key: value for key, value in config.items() if key not in aside}
        group = Group.from_config({k: v for k, v in config.items() if k in _GROUP_FIELDS})
        members = config.get("task") or []
        for member in [members] if isinstance(members, str) else members:
            for child in self._build(member, shared):
                group.add(child)
        return group

    def _build_task(self, name: str, overrides: dict[str, Any]) -> Any:
        entry = self._manager.task_index.get(name)
        where = str(entry.yaml_path) if entry is not None and entry.yaml_path else name
        try:
            config = {**(self._config(name) if entry is not None else {}), **overrides}
            if name in self._data:
                changes = on_local_data(name, config, self._data[name], self._local)
            else:
                folder = entry.yaml_path.parent if entry and entry.yaml_path else Path()
                changes = beside_its_yaml(name, config, folder, self._scratch)
            # An anonymous group is how lm-eval takes overrides of a registered task.
            member = {**overrides, "task": name, **changes}
            loaded = self._manager.load([{"group": "miscible", "task": [member]}])
            (task,) = loaded["tasks"].values()
        except MiscibleError:
            raise
        except Exception as error:  # a task is code and data of others: anything may come
            raise _explain(name, where, error) from error
        return task


def _suggest(name: str, index: dict[str, Any]) -> str:
    advice = did_you_mean(name, index)
    return advice if len(advice) < 200 else "Are its YAML and data in an included folder?"


def _check_yaml(folder: Path) -> None:
    """Find out about unreadable YAML, which lm-eval would skip without a word."""
    if not folder.is_dir():
        raise DatasetError("there is no such folder of tasks.", where=str(folder))
    for path in sorted(folder.rglob("*.yaml")):
        try:
            load_yaml(path, resolve_func=False)
        except Exception as error:  # PyYAML's and lm-eval's errors have no common root
            reason = " ".join(str(error).split())
            raise DatasetError(f"it is not a task: {reason}.", where=str(path)) from error


def _explain(name: str, where: str, error: Exception) -> DatasetError:
    reason = " ".join(str(error).split()).rstrip(".") or type(error).__name__
    unreachable = isinstance(error, (OSError, ConnectionError)) or "DatasetNotFound" in str(
        type(error)
    )
    if unreachable:
        return DatasetError(
            f"what task {name!r} needs cannot be had: {reason}.",
            where=where,
            fix="Give the task local data, or allow the network.",
        )
    return DatasetError(
        f"task {name!r} cannot be built: {type(error).__name__}: {reason}.", where=where
    )
