"""A table as the page shows it: text in cells, with marks that colour only repeats."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class TableCell:
    """One cell.

    Attributes:
        text: what it says.
        note: a second, smaller line.
        mark: class for its colour (above, between, below, unresolved); what it means is also in
            *sign*.
        sign: a character before the text, with *meaning* as its text for screen readers.
        meaning: the sign in words.
    """

    text: str
    note: str = ""
    mark: str = ""
    sign: str = ""
    meaning: str = ""


@dataclass(frozen=True)
class Column:
    """A column head with a smaller second line."""

    text: str
    note: str = ""


@dataclass(frozen=True)
class Table:
    """Rows of cells; the first cell of a row is its head.

    Attributes:
        caption: what the table holds.
        columns: heads, one a cell of a row.
        rows: cells.
    """

    caption: str
    columns: Sequence[Column]
    rows: Sequence[Sequence[TableCell]]


def plain(caption: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> Table:
    """Return a table of bare text."""
    return Table(
        caption=caption,
        columns=[Column(name) for name in columns],
        rows=[[TableCell(text) for text in row] for row in rows],
    )
