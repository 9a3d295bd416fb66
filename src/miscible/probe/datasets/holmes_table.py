"""The table of a Holmes data set, ``samples.csv``, row by row."""

from __future__ import annotations

import csv
import io
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

from miscible.errors import DatasetError
from miscible.files import read_file
from miscible.probe.dataset import Role

MAX_ROWS = 1_000_000
"""Most rows of one table."""

COLUMNS = ("id", "inputs", "context", "label")
"""Columns that every table has, next to ``set-0``, ``set-1``, ..."""

NOTHING = frozenset(("", "nan", "-nan", "na", "#na", "n/a", "#n/a", "<na>", "none", "null"))
"""What stands for an empty cell, in lower case."""

_ROLES: dict[str, Role] = {"train": "train", "dev": "dev", "test": "test"}
_SPLIT = re.compile(r"set-([0-9]{1,4})")


class Cells(NamedTuple):
    """One row.

    Attributes:
        where: file and line.
        id, inputs, context, label: the cells.
        roles: in each split; those that nobody has a role in count too.
    """

    where: str
    id: str
    inputs: str
    context: str
    label: str
    roles: tuple[Role, ...]


@dataclass(frozen=True)
class SampleTable:
    """A table that was read, but not yet parsed.

    Attributes:
        path: the file.
        content: its bytes.
    """

    path: Path
    content: bytes

    @classmethod
    def read(cls, path: Path) -> SampleTable:
        """Read a file; raises `DatasetError` if it is missing or too large."""
        return cls(path, read_file(path))

    def rows(self) -> Iterator[Cells]:
        """Yield the rows.

        Raises:
            DatasetError: the file is not CSV, not UTF-8 or too long, a column is missing or stands
                twice, a row has more or fewer fields than the header, or an unknown role.
        """
        records = self._records()
        try:
            where, header = next(records)
        except StopIteration:
            raise DatasetError("the file is empty.", where=str(self.path)) from None
        columns, splits = _columns(header, where)
        for number, (where, fields) in enumerate(records):
            if number == MAX_ROWS:
                raise DatasetError(f"there are more than {MAX_ROWS} rows.", where=where)
            if len(fields) != len(header):
                raise DatasetError(
                    f"the row has {len(fields)} fields, the header {len(header)}.", where=where
                )
            roles = tuple(_role(fields[place], header[place], where) for place in splits)
            identity, inputs, context, label = (fields[place] for place in columns)
            yield Cells(where, identity.strip(), inputs, context, label.strip(), roles)

    def _records(self) -> Iterator[tuple[str, list[str]]]:
        stream = io.TextIOWrapper(io.BytesIO(self.content), encoding="utf-8-sig", newline="")
        reader = csv.reader(stream, strict=True)
        line = 1
        try:
            for fields in reader:
                if fields:
                    yield f"{self.path}:{line}", fields
                line = reader.line_num + 1
        except csv.Error as error:
            raise DatasetError(
                f"the row is not CSV: {error}.", where=f"{self.path}:{line}"
            ) from error
        except UnicodeDecodeError as error:
            raise DatasetError(
                f"the line is not UTF-8 ({error.reason}).",
                where=f"{self.path}:{self._undecodable_line}",
                fix="Convert the file to UTF-8.",
            ) from None

    @cached_property
    def _undecodable_line(self) -> int:
        for number, line in enumerate(self.content.split(b"\n"), 1):
            try:
                line.decode()
            except UnicodeDecodeError:
                return number
        return 1


def is_nothing(cell: str) -> bool:
    """Whether a cell is empty, or says so in the words of pandas."""
    return cell.strip().lower() in NOTHING


def _columns(header: list[str], where: str) -> tuple[list[int], list[int]]:
    """Return where the columns are, and where the splits are, in order of their number."""
    matches = ((_SPLIT.fullmatch(name), place) for place, name in enumerate(header))
    splits = sorted((int(match[1]), place) for match, place in matches if match)
    for name in COLUMNS:
        if name not in header:
            known = ", ".join((*COLUMNS, "set-0"))
            raise DatasetError(
                f"there is no column {name!r}.", where=where, fix=f"A table has {known}."
            )
    if not splits:
        raise DatasetError("there is no column 'set-0'.", where=where)
    numbers = [f"set-{number}" for number, _ in splits]
    for name, count in Counter([name for name in header if name in COLUMNS] + numbers).items():
        if count > 1:
            raise DatasetError(f"the column {name!r} stands twice.", where=where)
    return [header.index(name) for name in COLUMNS], [place for _, place in splits]


def _role(cell: str, column: str, where: str) -> Role:
    word = cell.strip()
    if word in _ROLES:
        return _ROLES[word]
    if is_nothing(word):
        return ""
    raise DatasetError(
        f"{column!r} must be train, dev, test or empty. Got {word[:40]!r} instead.", where=where
    )
