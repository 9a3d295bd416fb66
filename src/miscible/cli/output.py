"""How verbs speak: tables and bars for people, JSON for programs, errors on one line."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from miscible.progress import Advance, shown_by

if TYPE_CHECKING:
    from rich.console import Console


class Format(StrEnum):
    """What a verb prints."""

    HUMAN = "human"
    JSON = "json"
    QUIET = "quiet"


def console() -> Console:
    """Return the console for results (standard output)."""
    from rich.console import Console

    return Console()


def fail(message: str) -> None:
    """Print an error on standard error."""
    from rich.console import Console

    Console(stderr=True).print("[bold red]error:[/]", message, highlight=False, soft_wrap=True)


def print_json(value: Any) -> None:
    """Print plain data as JSON; numbers that JSON does not have become null."""
    sys.stdout.write(json.dumps(plain(value), indent=2, allow_nan=False) + "\n")


def plain(value: Any) -> Any:
    """Return *value* with NaN and infinities replaced by None."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [plain(item) for item in value]
    return value


def print_table(
    title: str, columns: Sequence[str], rows: Sequence[Sequence[str]], *, text: int = 1
) -> None:
    """Print a table: the first *text* columns are words and stand left, the others are figures."""
    from rich import box
    from rich.table import Table

    table = Table(title=title, box=box.SIMPLE_HEAD, title_justify="left", pad_edge=False)
    for number, column in enumerate(columns):
        if number < text:
            table.add_column(column, no_wrap=number == 0, overflow="ellipsis")
        else:  # where the terminal is narrow it is the words that give way, never a figure
            width = max([len(column), *(len(row[number]) for row in rows)])
            table.add_column(column, justify="right", no_wrap=True, min_width=width)
    for row in rows:
        table.add_row(*row)
    console().print(table)


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
