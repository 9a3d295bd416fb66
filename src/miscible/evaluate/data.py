"""Local documents for official tasks.

Wherever a task is given local data, its prompts, filters and metrics stay the official ones; only
where its documents come from changes. The data of a task may be

* a file: the documents of the split that the task is evaluated on;
* one file for each split, by name: ``{"train": ..., "test": ...}``;
* a folder or zip with a file ``SUBSET.jsonl`` for each configuration of a benchmark (BLiMP), or a
  file ``SPLIT.jsonl`` for each split, or folders ``SUBSET`` with files ``SPLIT.jsonl``.

Files are JSON Lines, JSON (a list) or Parquet; the first two also gzipped. A file that serves
several configurations (MMLU) tells them apart by a field ``subset`` or ``subject``. What is read is
bounded (see `miscible.files`), so that no decompression bomb does harm.
"""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, TypeAlias

from miscible import files
from miscible.errors import DatasetError
from miscible.evaluate.options import DataSource
from miscible.files import open_archive, read_file, read_member

Document: TypeAlias = dict[str, Any]
Documents: TypeAlias = list[Document]

SUFFIXES = (".jsonl", ".jsonl.gz", ".json", ".json.gz", ".parquet")
SUBSET_FIELDS = ("subset", "subject")


class LocalData:
    """Reads data sources; every file is read once, however many tasks draw on it."""

    def __init__(self) -> None:
        self._read: dict[tuple[Path, str], Documents] = {}
        self._bytes = 0

    def splits(
        self, source: DataSource, *, task: str, subset: str | None, evaluated: str, others: set[str]
    ) -> dict[str, Documents]:
        """Return the documents of each split that *source* holds.

        Args:
            source: see the module.
            task: name for messages.
            subset: configuration of the data set that the task uses, if it names one.
            evaluated: split that the task is evaluated on.
            others: further splits that it can make use of.

        Raises:
            DatasetError: if a file is missing, damaged or empty, or the evaluated split absent.
        """
        found: dict[str, Documents]
        if isinstance(source, Mapping):
            unknown = set(source) - {evaluated} - others
            if unknown:
                raise DatasetError(
                    f"task {task!r} has no split {sorted(unknown)[0]!r}.",
                    fix=f"It has {', '.join(sorted({evaluated} | others))}.",
                )
            found = {split: self._file(Path(path), subset) for split, path in source.items()}
            shown = str(source)
        else:
            path = Path(source).expanduser()
            shown = str(path)
            members = _members(path)
            if members is None:
                found = {evaluated: self._file(path, subset)}
            else:
                chosen = _choose(members, subset, evaluated, others)
                found = {s: self._file(path, subset, member) for s, member in chosen.items()}
        if evaluated not in found:
            expected = f"{evaluated}.jsonl" + (f" or {subset}.jsonl" if subset else "")
            raise DatasetError(
                f"it has no data for task {task!r}.", where=shown, fix=f"Expected {expected}."
            )
        return found

    def _file(self, path: Path, subset: str | None, member: str = "") -> Documents:
        path = path.expanduser()
        if (path, member) not in self._read:
            self._read[path, member], size = _read_documents(path, member)
            self._bytes += size
            if self._bytes > files.MAX_TOTAL_BYTES:
                limit = files.MAX_TOTAL_BYTES // 2**20
                raise DatasetError(f"the local data exceed {limit} MiB together.", where=str(path))
        documents = self._read[path, member]
        if subset is None:
            return documents
        for field in SUBSET_FIELDS:
            own = [each for each in documents if each.get(field) == subset]
            if own:
                return own
        return documents


def to_dataset(documents: Sequence[Document], *, where: str) -> Any:
    """Return documents as an in-memory ``datasets.Dataset``: nothing is cached, nothing stale.

    Raises:
        DatasetError: if a field holds values of different kinds.
    """
    import pyarrow
    from datasets import Dataset

    fields = dict.fromkeys(field for document in documents for field in document)
    try:
        return Dataset.from_dict({f: [document.get(f) for document in documents] for f in fields})
    except (pyarrow.ArrowInvalid, pyarrow.ArrowTypeError) as error:
        raise DatasetError(f"the documents do not have one form: {error}.", where=where) from error


def _members(path: Path) -> list[str] | None:
    """List the data files in a folder or zip; None for a plain file."""
    if path.is_dir():
        names = [file.relative_to(path).as_posix() for file in path.rglob("*") if file.is_file()]
    elif path.suffix == ".zip" and path.is_file():
        with open_archive(path) as archive:
            names = archive.namelist()
    else:
        return None
    return sorted(name for name in names if name.endswith(SUFFIXES))


def _choose(
    members: list[str], subset: str | None, evaluated: str, others: set[str]
) -> dict[str, str]:
    chosen: dict[str, str] = {}
    for member in members:
        path = PurePosixPath(member)
        stem = path.name.split(".", 1)[0]
        if subset is not None and stem == subset:
            chosen[evaluated] = member
        elif stem in {evaluated} | others and (subset == path.parent.name or stem not in chosen):
            chosen[stem] = member
    return chosen


def _read_documents(path: Path, member: str) -> tuple[Documents, int]:
    """Return the documents of a file and its decompressed size."""
    shown = f"{path}:{member}" if member else str(path)
    name = member or path.name
    if not name.endswith(SUFFIXES):
        raise DatasetError(
            "its kind of file is not known.", where=shown, fix=f"Use one of {', '.join(SUFFIXES)}."
        )
    content = _read_bytes(path, member)
    try:
        documents = _parse(name, content)
    except (ValueError, RecursionError) as error:
        raise DatasetError(f"it cannot be read: {error}.", where=shown) from error
    if not documents or not all(isinstance(each, dict) for each in documents):
        what = "holds something else than objects" if documents else "is empty"
        raise DatasetError(f"it {what}.", where=shown)
    return documents, len(content)


def _read_bytes(path: Path, member: str) -> bytes:
    if member and path.suffix == ".zip":
        with open_archive(path) as archive:
            return read_member(archive, member)
    return read_file(path / member if member else path)


def _parse(name: str, content: bytes) -> Documents:
    if name.endswith(".parquet"):
        return _parse_parquet(content)
    text = content.decode("utf-8-sig")
    if ".jsonl" in name:
        # Not splitlines(): a JSON string may contain other line separators of Unicode.
        return [json.loads(line) for line in text.split("\n") if line.strip()]
    listed = json.loads(text)
    return listed if isinstance(listed, list) else [listed]


def _parse_parquet(content: bytes) -> Documents:
    import pyarrow.parquet

    rows: Documents = []
    size = 0
    # Few rows at a time: a dictionary lets a small file hold the same long text a million times.
    for batch in pyarrow.parquet.ParquetFile(io.BytesIO(content)).iter_batches(batch_size=256):
        size += batch.nbytes
        if size > files.MAX_BYTES:
            raise ValueError(f"it holds more than {files.MAX_BYTES // 2**20} MiB")
        rows += batch.to_pylist()
    return rows
