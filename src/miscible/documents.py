"""Texts and JSON that are written for others: whole or not at all, and readable anywhere."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from miscible.errors import MiscibleError


def plain(value: Any) -> Any:
    """Return plain data with None for every number that JSON does not have."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [plain(item) for item in value]
    return value


def json_text(value: Any, indent: int = 2) -> str:
    """Return plain data as JSON, see `plain`, with a line end."""
    return json.dumps(plain(value), indent=indent, allow_nan=False) + "\n"


def write_text(path: Path, text: str) -> None:
    """Write a text file, whole or not at all.

    Raises:
        MiscibleError: if it cannot be written.
    """
    partial = path.with_name(f".{path.name}.partial")
    try:
        partial.write_text(text, encoding="utf-8")
        partial.replace(path)
    except OSError as error:
        with suppress(OSError):
            partial.unlink()
        raise MiscibleError(
            f"it cannot be written: {error.strerror}.",
            where=str(path),
            fix="Name a file in a folder that exists and can be written to.",
        ) from error
