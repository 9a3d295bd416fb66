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
"""Characters of a word beside a name (a method) that never give way to it."""


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
    figures = [
        max([len(column), *(len(row[number]) for row in rows)])
        for number, column in enumerate(columns)
        if number >= text
    ]
    words = [
        max([len(column), *(len(row[number]) for row in rows)])
        for number, column in enumerate(columns[:text])
    ][1:]
    left = console.width - sum(figures) - 2 * len(columns)
    table = Table(title=Text(title), box=box.SIMPLE_HEAD, title_justify="left", pad_edge=False)
    for number, column in enumerate(columns):
        if number < text:
            # A name that is too long leaves room for the figures, where there is room for both.
            only = left if text == 1 and left >= SHORTEST_NAME else None
            wraps = number > 0 or (bool(words) and max(words) <= SHORT)
            table.add_column(
                column, no_wrap=not wraps, overflow="ellipsis" if not number else "fold",
                max_width=only, min_width=min(words[number - 1], SHORT) if number else None,
            )  # fmt: skip
        else:  # where the terminal is narrow it is the words that give way, never a figure
            width = max([len(column), *(len(row[number]) for row in rows)])
            table.add_column(column, justify="right", no_wrap=True, min_width=width)
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))
    console.print(table)


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
