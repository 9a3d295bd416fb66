"""Configuration keys that put a task on the data at hand, and nothing else about it changed."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from miscible.errors import DatasetError
from miscible.evaluate.data import LocalData, to_dataset
from miscible.evaluate.options import DataSource

SPLIT_KEYS = ("training_split", "validation_split", "test_split")


def on_local_data(
    name: str, config: Mapping[str, Any], source: DataSource, local: LocalData
) -> dict[str, Any]:
    """Return the keys that make a task read its documents from *source*.

    Splits that the source does not have are taken from the task; lm-eval would look them up.

    Raises:
        DatasetError: if the task cannot take other data, or the source cannot be read.
    """
    if "class" in config:
        raise DatasetError(f"task {name!r} is a Python class: it cannot take other data.")
    few_shot = config.get("fewshot_config") or {}
    own = {key: config.get(key) for key in SPLIT_KEYS}
    evaluated = own["test_split"] or own["validation_split"]
    if evaluated is None:
        raise DatasetError(f"task {name!r} names no test or validation split.")
    known = {*own.values(), config.get("fewshot_split"), few_shot.get("split")} - {None}
    found = local.splits(
        source,
        task=name,
        subset=config.get("dataset_name"),
        evaluated=evaluated,
        others={str(split) for split in known} - {evaluated},
    )
    tables = {split: to_dataset(rows, where=str(source)) for split, rows in found.items()}

    def present(split: str | None) -> str | None:
        return split if split in found else None

    changes: dict[str, Any] = {
        "custom_dataset": lambda **_: tables,
        "dataset_kwargs": None,
        "fewshot_split": present(config.get("fewshot_split")),
        **{key: present(split) for key, split in own.items()},
    }
    if "split" in few_shot:
        changes["fewshot_config"] = {**few_shot, "split": present(few_shot["split"])}
    return changes


def beside_its_yaml(
    name: str, config: Mapping[str, Any], folder: Path, cache: Path
) -> dict[str, Any]:
    """Return the keys that make a task with ``data_files`` read them afresh, beside its YAML.

    Relative names are looked up in the working folder, as lm-eval does, and then in *folder*.

    Raises:
        DatasetError: if a file does not exist.
    """
    kwargs = config.get("dataset_kwargs") or {}
    if kwargs.get("data_files") is None:
        return {}

    def locate(named: Any) -> Any:
        if isinstance(named, dict):
            return {key: locate(value) for key, value in named.items()}
        if isinstance(named, list):
            return [locate(each) for each in named]
        if "://" in named or any(mark in named for mark in "*?["):
            return named
        for path in (Path(named).expanduser(), folder / named):
            if path.is_file():
                return str(path.resolve())
        raise DatasetError(f"the data file of task {name!r} does not exist.", where=str(named))

    files = locate(kwargs["data_files"])
    return {"dataset_kwargs": {**kwargs, "data_files": files, "cache_dir": str(cache)}}


def set_few_shot(name: str, task: Any, asked: int | None, *, on_local: bool) -> None:
    """Set the number of examples of a loaded task by lm-eval's own rule: a declared 0 stays 0.

    Raises:
        DatasetError: if local data have no split to take examples from. lm-eval would take them
            from the evaluated documents, the question itself among them.
    """
    declared = task.get_config("num_fewshot")
    shots = (declared if asked is None or declared == 0 else asked) or 0
    task.set_config("num_fewshot", shots)
    if not shots or not on_local:
        return
    given = task.fewshot_cfg
    source = given.samples or given.split or task.config.training_split
    if task.config.test_split is not None:
        source = source or task.config.validation_split
    if not source:
        raise DatasetError(
            f"task {name!r} takes {shots} few-shot examples, but its data has no split to take "
            "them from.",
            fix="Give that split as well, or set num_fewshot to 0.",
        )
