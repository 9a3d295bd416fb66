"""What a check before a merge finds."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any


class Severity(StrEnum):
    """How much a finding matters."""

    ERROR = "error"
    """The merge is refused, or its result is broken, until it is mended."""
    WARNING = "warning"
    """The merge goes through; whoever makes it should know this."""
    INFO = "info"
    """A fact that speaks for the merge, or changes nothing."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that a check found.

    Attributes:
        severity: how much it matters.
        check: what was looked at, in one word.
        models: whom it concerns, as the user wrote them.
        what: a sentence.
        fix: what to do about it, in a sentence; None where nothing need be done.
    """

    severity: Severity
    check: str
    models: tuple[str, ...]
    what: str
    fix: str | None = None


def sorted_findings(findings: Iterable[Finding]) -> list[Finding]:
    """Return findings, each once, the gravest first."""
    order = list(Severity)
    return sorted(dict.fromkeys(findings), key=lambda finding: order.index(finding.severity))


def by_value(values: Sequence[tuple[str, Any]]) -> str:
    """Return which models have which value: ``10000 in a; 1000000 in b, c``.

    Args:
        values: label and value of each model.
    """
    groups: dict[str, list[str]] = {}
    for label, value in values:
        groups.setdefault(shown(value), []).append(label)
    return "; ".join(f"{value} in {some(labels)}" for value, labels in groups.items())


def shown(value: Any, longest: int = 60) -> str:
    """Return a stranger's value as one short line."""
    text = "none" if value is None else str(value)
    if isinstance(value, float):
        text = f"{value:.0f}" if value.is_integer() and abs(value) < 1e15 else f"{value:g}"
    text = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    return text if len(text) <= longest else f"{text[: longest - 1]}…"


def some(names: Sequence[str], most: int = 3) -> str:
    """Return the first names, and how many more there are."""
    listed = ", ".join(shown(name, 80) for name in names[:most])
    return listed if len(names) <= most else f"{listed} and {len(names) - most} more"
