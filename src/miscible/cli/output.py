"""How verbs speak: tables and bars for people, JSON for programs, errors on one line."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import Any

import typer

from miscible.documents import json_text, write_text
from miscible.progress import Advance, shown_by

SHORTEST_NAME = 24
"""Characters of a name that a table shows at least."""
SHORT = 12
"""Characters of a column of words that never give way."""


class Format(StrEnum):
    """What a verb prints."""

    HUMAN = "human"
    JSON = "json"
    QUIET = "quiet"


def parse_format(said: str) -> Format:
    """Return the format that is called so; ``table`` is another word for ``human``."""
    names = {str(held.value): held for held in Format} | {"table": Format.HUMAN}
    if said not in names:
        raise typer.BadParameter(f"{said!r} is not one of {', '.join(names)}.")
    return names[said]


FORMAT: Any = typer.Option(
    Format.HUMAN.value,
    parser=parse_format,
    metavar="[human|table|json|quiet]",
    help="What to print; 'table' is 'human'.",
)
"""The option ``--format`` of every verb."""


def say(message: str, *, failed: bool = False) -> None:
    """Print a line on standard output; nothing in it is read as markup."""
    _print(message, "failed: " if failed else "", to_stderr=False)


def fail(message: str) -> None:
    """Print an error on standard error; nothing in it is read as markup."""
    _print(message, "error: ", to_stderr=True)


def write_json(path: Path, value: Any) -> None:
    """Write plain data as a JSON file, whole or not at all.

    Raises:
        MiscibleError: if it cannot be written.
    """
    write_text(path, json_text(value))


def print_json(value: Any) -> None:
    """Print plain data as JSON; numbers that JSON does not have become null."""
    sys.stdout.write(json_text(value))


def print_table(
    title: str, columns: Sequence[str], rows: Sequence[Sequence[str]], *, text: int = 1
) -> None:
    """Print a table: the first *text* columns are words and stand left, the others are figures."""
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console()
    widths = [
        max([len(column), *(len(row[number]) for row in rows)])
        for number, column in enumerate(columns)
    ]
    left = console.width - sum(widths[text:]) - 3 * len(columns) + 1
    # Where the terminal is narrow it is the words that give way, never a figure: one name is cut,
    # several go on in the next line.
    shares = [min(widths[0], left)] if text == 1 else _shares(widths[:text], left)
    crowded = sum(widths[:text]) > left and (text > 1 or left >= SHORTEST_NAME)
    table = Table(title=Text(title), box=box.SIMPLE_HEAD, title_justify="left", pad_edge=False)
    for number, column in enumerate(columns):
        if number >= text:
            table.add_column(column, justify="right", no_wrap=True, min_width=widths[number])
        elif crowded:
            table.add_column(
                column, width=shares[number], no_wrap=text == 1,
                overflow="ellipsis" if text == 1 else "fold",
            )  # fmt: skip
        else:
            table.add_column(column, no_wrap=True)
    for row in rows:
        cells = [Text(cell) for cell in row]
        if crowded and text > 1:
            cells[:text] = [
                Text(_broken(cell, share)) for cell, share in zip(row[:text], shares, strict=True)
            ]
        table.add_row(*cells)
    console.print(table)


def terminal_width() -> int:
    """Return how many characters a line has."""
    from rich.console import Console

    return Console().width


def _broken(name: str, width: int) -> str:
    """Return a name in lines of *width*, broken after a mark between its words where it has one."""
    lines = []
    while len(name) > width:
        end = 1 + max(name.rfind(mark, 0, width) for mark in "-_/. ")
        lines.append(name[: end or width].rstrip())
        name = name[end or width :]
    return "\n".join([*lines, name])


def _shares(widths: Sequence[int], left: int) -> list[int]:
    """Return how wide columns of words become: the widest give way first, to `SHORT` at least."""
    shares = list(widths)
    while sum(shares) > left and max(shares) > SHORT:
        shares[shares.index(max(shares))] -= 1
    return shares


def duration(seconds: float) -> str:
    """Return a time for people."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"


@contextmanager
def progress(format: Format) -> Iterator[None]:
    """Show the progress of what runs inside as bars on standard error, for people only."""
    if format is not Format.HUMAN:
        yield
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        Progress,
        TaskProgressColumn,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    bars = Progress(
        TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(),
        TimeElapsedColumn(), TextColumn("left"), TimeRemainingColumn(),
        console=Console(stderr=True), transient=True,
    )  # fmt: skip

    @contextmanager
    def bar(description: str, total: float | None) -> Iterator[Advance]:
        held = bars.add_task(description, total=total)
        try:
            yield lambda amount: bars.advance(held, amount)
        finally:
            bars.remove_task(held)

    with bars, shown_by(bar):
        yield


def _print(message: str, mark: str, *, to_stderr: bool) -> None:
    from rich.console import Console
    from rich.text import Text

    text = Text.assemble((mark, "bold red"), message)
    Console(stderr=to_stderr).print(text, highlight=False, soft_wrap=True)
