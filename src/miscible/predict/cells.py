"""Tables of others: CSV or Parquet as columns of text and numbers, each row with its place."""

from __future__ import annotations

import csv
import io
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from miscible.errors import DatasetError, MiscibleError
from miscible.files import read_file
from miscible.predict.pairs import Floats

MISSING = frozenset({"", "nan", "na", "n/a", "null", "none", "inf", "-inf", "+inf"})
"""What a cell without a number may say, in any case. Infinities count as missing."""
LARGEST = 3.4e38
"""A number beyond what float32 holds is one that has overflown: missing too."""
DELIMITERS = (",", ";", "\t")
"""Of CSV. The first line tells which: where it has no comma it may be another one."""
DECIMAL_COMMA = re.compile(r"[+-]?\d+,\d+([eE][+-]?\d+)?")


@dataclass(frozen=True)
class Cells:
    """A table as text.

    Attributes:
        source: file it came from.
        columns: cells by column, stripped of spaces.
        places: where each row stands, for messages ("line 7").
    """

    source: str
    columns: dict[str, list[str]]
    places: list[str]

    def __len__(self) -> int:
        return len(self.places)

    def where(self, row: int) -> str:
        """Return the place of a row."""
        return f"{self.source}, {self.places[row]}"

    def one_of(self, *choices: Sequence[str]) -> Sequence[str] | None:
        """Return the first choice of columns that are all there."""
        return next((names for names in choices if all(n in self.columns for n in names)), None)

    def number(self, column: str, row: int) -> float:
        """Return a cell as a finite number, NaN if it is missing.

        Raises:
            DatasetError: if it is neither a number nor missing.
        """
        what = "Leave the cell empty if there is no value."
        text = self.columns[column][row]
        if text.lower() in MISSING:
            return math.nan
        try:
            value = float(text)
        except ValueError:
            raise DatasetError(
                f"the column {column!r} has {text!r}, which is no number.",
                where=self.where(row),
                fix="Write a decimal point." if DECIMAL_COMMA.fullmatch(text) else what,
            ) from None
        return value if abs(value) <= LARGEST else math.nan

    def numbers(self, column: str) -> list[float]:
        """Return a column as numbers; see `number`."""
        return [self.number(column, row) for row in range(len(self))]

    def is_text(self, column: str) -> bool:
        """Whether a column has something in it, and nowhere a number."""
        cells = [cell for cell in self.columns[column] if cell.lower() not in MISSING]
        return bool(cells) and not any(
            _numeric(cell) or DECIMAL_COMMA.fullmatch(cell) for cell in cells
        )


def read_cells(path: Path) -> Cells:
    """Read a CSV file (first line: names of columns) or a Parquet file (by its ending).

    Columns of CSV are parted by commas, or by semicolons or tabs.

    Raises:
        DatasetError: if it cannot be read, has no rows, two columns of one name, or a row of
            another length than the first line.
    """
    if path.suffix.lower() in (".parquet", ".pq"):
        return _read_parquet(path)
    try:
        text = read_file(path).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DatasetError(
            "the file is not UTF-8 text.", where=str(path), fix="Save it as CSV in UTF-8."
        ) from error
    if "\0" in text:
        raise DatasetError("the file is not text.", where=str(path), fix="Give CSV or Parquet.")
    names, rows, places = _parsed(str(path), text, DELIMITERS[0])
    other = next((mark for mark in DELIMITERS[1:] if len(names) == 1 and mark in names[0]), None)
    if other is not None:
        names, rows, places = _parsed(str(path), text, other)
    wrong = next((n for n, row in enumerate(rows) if len(row) != len(names)), None)
    if wrong is not None:
        raise DatasetError(
            f"the row has {len(rows[wrong])} cells and the first line {len(names)}.",
            where=f"{path}, {places[wrong]}",
            fix="Give every row a cell for each column, empty where there is no value.",
        )
    return _checked(str(path), names, rows, places)


def _parsed(source: str, text: str, delimiter: str) -> tuple[list[str], list[list[str]], list[str]]:
    """Return the cells of the first line, of the others, and where these stand."""
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    rows: list[list[str]] = []
    places: list[str] = []
    try:
        for row in reader:
            cells = [cell.strip() for cell in row]
            if any(cells):
                rows.append(cells)
                places.append(f"line {reader.line_num}")
    except csv.Error as error:
        raise DatasetError(
            f"it is not valid CSV: {error}.", where=f"{source}, line {reader.line_num}"
        ) from error
    return (rows[0] if rows else []), rows[1:], places[1:]


def _read_parquet(path: Path) -> Cells:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(path)
    except FileNotFoundError as error:
        raise DatasetError("there is no such file.", where=str(path)) from error
    except (OSError, pa.ArrowException) as error:
        raise DatasetError(
            "it is not a readable Parquet file.", where=str(path), fix="Write it again, or as CSV."
        ) from error
    columns = [[_text(cell) for cell in column.to_pylist()] for column in table.columns]
    rows = [list(row) for row in zip(*columns, strict=True)]
    places = [f"row {number + 1}" for number in range(len(rows))]
    return _checked(str(path), [str(name) for name in table.column_names], rows, places)


def _checked(source: str, names: list[str], rows: list[list[str]], places: list[str]) -> Cells:
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise DatasetError(
            f"two columns are named {twice!r}.", where=source, fix="Rename or drop one of them."
        )
    if not rows:
        raise DatasetError(
            "the table has no rows.",
            where=source,
            fix="Give a line of column names, and below it a row a pair or model.",
        )
    columns = {name: [row[n] for row in rows] for n, name in enumerate(names)}
    return Cells(source, columns, places)


def _numeric(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


def _text(value: object) -> str:
    if value is None:
        return ""
    return repr(value) if isinstance(value, float) else str(value).strip()


def same(a: Sequence[float] | Floats, b: Sequence[float] | Floats) -> bool:
    """Whether two rows say the same: equal numbers, or both missing."""
    return all(x == y or (math.isnan(x) and math.isnan(y)) for x, y in zip(a, b, strict=True))


def required(cells: Cells, names: Sequence[str], what: str) -> None:
    """Raise a `MiscibleError` that says which columns a table needs.

    Raises:
        MiscibleError: always where a column is missing.
    """
    missing = [name for name in names if name not in cells.columns]
    if missing:
        raise MiscibleError(
            f"{what} needs the column {missing[0]!r}.",
            where=cells.source,
            fix=f"It has: {', '.join(cells.columns)}.",
        )
