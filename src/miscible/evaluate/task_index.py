"""Names of lm-eval's own tasks, without the seconds that reading its 14,000 YAML files takes."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from functools import lru_cache
from importlib import metadata
from pathlib import Path
from typing import Any

import lm_eval.tasks
from lm_eval.tasks import TaskManager
from lm_eval.tasks._index import Entry, Kind

from miscible.models.cache import cache_root


def build_manager(include: Sequence[Path], *, official: bool) -> Any:
    """Return lm-eval's task manager over some folders and, if asked for, its own tasks.

    The index of lm-eval's own tasks is kept in the cache folder under the version of lm-eval.
    """
    manager = TaskManager(include_path=[str(path) for path in include], include_defaults=False)
    if official:
        own = dict(manager.task_index)
        manager.task_index.clear()
        manager.task_index.update(_official_entries(cache_root()) | own)
    return manager


@lru_cache(maxsize=1)
def _official_entries(cache: Path) -> dict[str, Any]:
    root = Path(lm_eval.tasks.__file__).parent
    cached = cache / "lm_eval" / f"tasks-{metadata.version('lm_eval')}.json"
    try:
        table = json.loads(cached.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        table = _read_index(root)
        _write(cached, table)
    return {
        name: Entry(
            name=name,
            kind=Kind[kind],
            yaml_path=root / path if path else None,
            tags=set(tags),
        )
        for name, (kind, path, tags) in table.items()
    }


def _read_index(root: Path) -> dict[str, list[Any]]:
    return {
        name: [
            entry.kind.name,
            entry.yaml_path.relative_to(root).as_posix() if entry.yaml_path else None,
            sorted(entry.tags),
        ]
        for name, entry in TaskManager().task_index.items()
    }


def _write(path: Path, table: dict[str, list[Any]]) -> None:
    scratch = path.with_suffix(f".{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        scratch.write_text(json.dumps(table), encoding="utf-8")
        scratch.replace(path)
    except OSError:
        scratch.unlink(missing_ok=True)  # a cache that cannot be written costs only time
