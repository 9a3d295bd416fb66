"""Where the data sets of a Holmes folder lie, and what their configurations say."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from fnmatch import fnmatch
from itertools import takewhile
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory
from typing import Annotated, Literal, NamedTuple

from pydantic import Field

from miscible import files
from miscible.errors import DatasetError, MiscibleError, SpecError
from miscible.probe.datasets.holmes_inputs import TaskType
from miscible.spec import Strict, read_yaml

_FILES = ("config-*.yaml", "samples.csv")


class HolmesConfig(Strict):
    """The keys of a ``config-*.yaml`` that say what a data set is.

    ``probes_samples_path`` is not among them: the table always lies beside the file. Nor are those
    for the reference's probe (``hyperparameters``, ``num_probe_folds``, ...).

    Attributes:
        control_task_type: ``NONE``, or how the reference spoils data or model for a control.
        probe_task_type: what a probe sees of a row.
        num_labels: number of classes; 1 for a regression.
        probe_name: what the reference calls the task.
    """

    control_task_type: Literal["NONE", "PERMUTATION", "RANDOMIZATION", "RANDOM_WEIGHTS"]
    probe_task_type: TaskType
    num_labels: Annotated[int, Field(ge=1, strict=True)]
    probe_name: str = ""


class HolmesDataset(NamedTuple):
    """One data set, not yet read.

    Attributes:
        name: ``FOLDER/dataset``.
        title: the data set alone, without folders.
        config: its configuration.
        table: path of its ``samples.csv``.
    """

    name: str
    title: str
    config: HolmesConfig
    table: Path


def holmes_datasets(folder: Path) -> Iterator[HolmesDataset]:
    """Yield every data set below *folder*, or in it, in alphabetical order.

    That is every ``config-*.yaml`` whose control is ``NONE``: the reference's controls are passed
    over, for ours take their place. Of several in one folder (``config-bi-none.yaml``,
    ``config-cross-none.yaml``) the name tells which (``dataset-bi``). Folders that all data sets
    have in common are left out of the names, hidden ones are passed over.

    Raises:
        DatasetError: *folder* is none, or has no data set in it, or one has no table.
        SpecError: a configuration is malformed.
    """
    if not folder.is_dir():
        raise DatasetError("there is no such folder.", where=str(folder))
    files = [path for path in sorted(folder.rglob("config-*.yaml")) if _wanted(path, folder)]
    configs = [(path, config) for path in files if (config := _read(path)) is not None]
    if not configs:
        raise DatasetError(
            "there is no config-*.yaml with the control_task_type NONE.",
            where=str(folder),
            fix="Name the folder of a version of Holmes, or of one data set.",
        )
    shared = _shared([_folders(path, folder)[:-1] for path, _ in configs])
    alone = Counter(path.parent for path, _ in configs)
    for path, config in configs:
        table = path.parent / "samples.csv"
        if not table.is_file():
            raise DatasetError("there is no samples.csv beside it.", where=str(path))
        folders = _folders(path, folder)
        title = folders[-1] if folders else folder.resolve().name
        variant = _variant(path) if alone[path.parent] > 1 else ""
        title = "-".join(filter(None, (title, variant)))
        above = (folder.resolve().name, *folders[shared:-1]) if folders else ()
        yield HolmesDataset("/".join((*above, title)), title, config, table)


@contextmanager
def unpacked(archive: Path) -> Iterator[Path]:
    """Unpack the configurations and tables of a zip into a folder of its name, and remove it after.

    Errors that are raised meanwhile name the archive instead of the folder.

    Raises:
        DatasetError: the archive is damaged, encrypted or too large, or a path leads outside.
    """
    with TemporaryDirectory() as temporary, files.open_archive(archive) as opened:
        folder, total = Path(temporary) / archive.stem, 0
        folder.mkdir()
        for name in opened.namelist():
            if not any(fnmatch(PurePosixPath(name).name, each) for each in _FILES):
                continue
            content = files.read_member(opened, name)
            total += len(content)
            if total > files.MAX_TOTAL_BYTES:
                limit = files.MAX_TOTAL_BYTES // 2**20
                raise DatasetError(f"the files exceed {limit} MiB together.", where=str(archive))
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        try:
            yield folder
        except MiscibleError as error:
            if error.where:
                error.where = error.where.replace(str(folder), str(archive))
            raise


def _read(path: Path) -> HolmesConfig | None:
    """Return what a configuration says, None for that of a control."""
    document = read_yaml(path)
    if not isinstance(document.value, dict):
        raise SpecError("the file is not a mapping of keys.", where=str(path))
    known = {key: document.value[key] for key in HolmesConfig.model_fields if key in document.value}
    config = replace(document, value=known).validate(HolmesConfig)
    return config if config.control_task_type == "NONE" else None


def _wanted(path: Path, folder: Path) -> bool:
    parts = path.relative_to(folder).parts
    return path.is_file() and not any(part.startswith((".", "__MACOSX")) for part in parts)


def _folders(path: Path, folder: Path) -> tuple[str, ...]:
    return path.relative_to(folder).parts[:-1]


def _shared(paths: Sequence[tuple[str, ...]]) -> int:
    """Return how many leading folders all *paths* have in common."""
    levels = zip(*paths, strict=False)
    return sum(1 for _ in takewhile(lambda names: len(set(names)) == 1, levels))


def _variant(path: Path) -> str:
    return re.sub(r"-none$", "", path.stem.removeprefix("config-")) or path.stem
