"""Where results live: one Parquet file a finished step, and DuckDB to look at all of them.

The folder *is* the state. A step's file bears the step's content key as its name and appears by
renaming a complete, synced file, so it is either whole or absent, whatever kills the process.
All kinds of row share one table; the column ``kind`` tells them apart, and columns that a kind
does not have are null.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from miscible.errors import StoreError
from miscible.records import KINDS, Provenance, Row

if TYPE_CHECKING:
    import duckdb
    import pandas as pd
    import pyarrow as pa

_TYPES = {"str": "string", "float": "double", "int": "int64", "int | None": "int64",
          "bool": "bool", "Domain": "string"}  # fmt: skip
_NAME_OF_KIND = {row_type: kind for kind, row_type in KINDS.items()}


class Store:
    """The results of one study.

    Args:
        folder: made when the store is locked for writing.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.steps = folder / "steps"
        self.failures = folder / "failures"

    def has(self, key: str) -> bool:
        """Return whether the step of that key is finished."""
        return self._path(key).is_file()

    def write(self, provenance: Provenance, rows: Iterable[Row], about: Mapping[str, Any]) -> None:
        """Store a finished step, whole or not at all.

        Args:
            provenance: of all rows; its key names the step.
            rows: of any kinds.
            about: plain data that describes the step to people.

        Raises:
            StoreError: if the disk is full or the folder cannot be written.
        """
        import pyarrow as pa
        import pyarrow.parquet as pq

        origin = asdict(provenance)
        records = [{"kind": _NAME_OF_KIND[type(row)], **asdict(row), **origin} for row in rows]
        table = pa.Table.from_pylist(records, schema=_schema())
        described = {**about, "wall_seconds": provenance.wall_seconds}
        table = table.replace_schema_metadata({"miscible": json.dumps(described)})
        with self._appearing(self._path(provenance.key)) as path:
            pq.write_table(table, path, compression="zstd")
        self._failure(provenance.key).unlink(missing_ok=True)

    def about(self, key: str) -> dict[str, Any] | None:
        """Return the description that was stored with a step, None if it is not finished."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        if not self.has(key):
            return None
        try:
            metadata = pq.read_metadata(self._path(key)).metadata or {}
            held: dict[str, Any] = json.loads(metadata.get(b"miscible", b"{}"))
        except (pa.ArrowException, OSError, ValueError) as error:
            raise _damaged(self._path(key)) from error
        return held

    def seconds(self, key: str) -> float | None:
        """Return the wall time of a finished step."""
        about = self.about(key)
        return None if about is None else float(about.get("wall_seconds", 0.0))

    def read(self, keys: Sequence[str]) -> pd.DataFrame:
        """Return the rows of those steps that are finished, in the order of *keys*.

        Raises:
            StoreError: if a file is damaged; names it.
        """
        import pandas as pd
        import pyarrow as pa
        import pyarrow.parquet as pq

        tables = []
        for key in keys:
            path = self._path(key)
            if not path.is_file():
                continue
            try:
                tables.append(_completed(pq.ParquetFile(path).read()))
            except (pa.ArrowException, OSError, ValueError) as error:
                raise _damaged(path) from error
        if not tables:
            return pd.DataFrame(columns=_schema().names)
        frame: pd.DataFrame = pa.concat_tables(tables).to_pandas()
        return frame

    def record_failure(self, key: str, model: str, step: str, error: str) -> None:
        """Remember that a step failed; a later success forgets it."""
        with self._appearing(self._failure(key)) as path:
            path.write_text(json.dumps({"model": model, "step": step, "error": error}))

    def failure(self, key: str) -> dict[str, str] | None:
        """Return the failure of a step, None if it did not fail."""
        try:
            held: dict[str, str] = json.loads(self._failure(key).read_text())
        except (OSError, ValueError):
            return None
        return held

    def connect(self) -> duckdb.DuckDBPyConnection:
        """Return a DuckDB connection with the views rows, scores, items, doses and failures.

        The views read every finished step in the folder, also of merges that the study file no
        longer names; `miscible.study.Study.rows` reads those of the study as it is.
        """
        import duckdb

        connection = duckdb.connect()
        pattern = str(self.steps / "*.parquet").replace("'", "''")
        empty = not next(self.steps.glob("*.parquet"), None)
        names = ", ".join(f'NULL AS "{name}"' for name in _schema().names)
        source = f"(SELECT {names} LIMIT 0)" if empty else f"read_parquet('{pattern}')"
        connection.execute(f"CREATE VIEW rows AS SELECT * FROM {source}")  # noqa: S608
        for kind in KINDS:
            connection.execute(
                f"CREATE VIEW {kind}s AS SELECT {_quoted(columns_of(kind))} "  # noqa: S608
                f"FROM rows WHERE kind = '{kind}'"
            )
        return connection

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Make the folder and hold it for writing; a second run of the study is refused.

        Raises:
            StoreError: if another process holds it, or the folder cannot be made.
        """
        try:
            for path in (self.steps, self.failures):
                path.mkdir(parents=True, exist_ok=True)
            file = (self.folder / ".lock").open("w")
        except OSError as error:
            raise StoreError(
                f"cannot be made: {error.strerror}.", where=str(self.folder)
            ) from error
        with file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                raise StoreError(
                    "another process is running this study.", where=str(self.folder)
                ) from error
            yield

    def _path(self, key: str) -> Path:
        return self.steps / f"{key}.parquet"

    def _failure(self, key: str) -> Path:
        return self.failures / f"{key}.json"

    @contextmanager
    def _appearing(self, path: Path) -> Iterator[Path]:
        partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
        try:
            yield partial
            with partial.open("rb") as file:
                os.fsync(file.fileno())
            partial.replace(path)
        except OSError as error:
            full = error.errno in (errno.ENOSPC, errno.EDQUOT)
            raise StoreError(
                "the disk is full." if full else f"cannot be written: {error.strerror}.",
                where=str(path.parent),
                fix="Finished steps are safe; run the same command again.",
            ) from error
        finally:
            partial.unlink(missing_ok=True)


def _quoted(names: Iterable[str]) -> str:
    return ", ".join(f'"{name}"' for name in names)


def columns_of(kind: str) -> list[str]:
    """Return the columns of a kind of row, provenance included."""
    return [field.name for field in (*fields(KINDS[kind]), *fields(Provenance))]


def _completed(table: pa.Table) -> pa.Table:
    """Return a stored table with the columns of kinds of row that it was written before."""
    import pyarrow as pa

    schema = _schema()
    if set(table.column_names) <= set(schema.names):
        for name in schema.names:
            if name not in table.column_names:
                nulls = pa.nulls(table.num_rows, schema.field(name).type)
                table = table.append_column(name, nulls)
        table = table.select(schema.names)
    return table.cast(schema)


def _damaged(path: Path) -> StoreError:
    return StoreError(
        "the result file is damaged.", where=str(path), fix="Delete it and run again."
    )


def _schema() -> pa.Schema:
    import pyarrow as pa

    columns: dict[str, str] = {"kind": "string"}
    for row_type in (*KINDS.values(), Provenance):
        for field in fields(row_type):
            columns[field.name] = _TYPES[str(field.type)]
    return pa.schema([pa.field(n, pa.type_for_alias(alias)) for n, alias in columns.items()])
