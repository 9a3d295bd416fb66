"""How the lexica are written: words between spaces, the forms of one between slashes."""

from __future__ import annotations


def words(text: str) -> tuple[str, ...]:
    """Return the words of *text*."""
    return tuple(text.split())


def forms(text: str) -> tuple[tuple[str, ...], ...]:
    """Return, for each word of *text*, its forms."""
    return tuple(tuple(word.split("/")) for word in text.split())
