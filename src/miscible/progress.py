"""The one progress stream: code reports steps here, whoever runs it decides how they look.

Library code calls `task`; nothing is shown unless a sink was installed with `shown_by`, which the
command line does with Rich bars.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar
from typing import TypeAlias

Advance: TypeAlias = Callable[[float], None]
"""Called with the amount of work just done, in the unit of the task's total."""

Sink: TypeAlias = Callable[[str, float | None], AbstractContextManager[Advance]]
"""Opens a display for a task (description, total amount or None if unknown)."""


@contextmanager
def _silent(description: str, total: float | None) -> Iterator[Advance]:
    yield lambda amount: None


_sink: ContextVar[Sink] = ContextVar("progress sink", default=_silent)


def task(description: str, total: float | None = None) -> AbstractContextManager[Advance]:
    """Open a task: ``with task("encode", total=n) as advance: ... advance(1)``."""
    return _sink.get()(description, total)


@contextmanager
def shown_by(sink: Sink) -> Iterator[None]:
    """Show the tasks opened inside this block with *sink*."""
    token = _sink.set(sink)
    try:
        yield
    finally:
        _sink.reset(token)
