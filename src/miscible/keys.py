"""Content keys: the one way in which miscible turns *what a result depends on* into a name."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence, Set
from dataclasses import asdict, is_dataclass
from pathlib import Path
from typing import Any

KEY_LENGTH = 20
"""Hex digits kept of a SHA-256: 80 bits, no collision in any imaginable study."""


def content_key(**parts: object) -> str:
    """Return a name that changes exactly when one of *parts* changes.

    Mappings are order-free, sequences are ordered, sets are sorted. Floats are written by
    ``repr``, so 0.1 and 0.1 + 1e-17 differ only if they differ as float64. Integers and equal
    floats (1 and 1.0) are the same value in a YAML file, and have the same key.

    Raises:
        TypeError: for an object without a canonical form (a tensor, a function, a path: paths
            are not content).
    """
    text = json.dumps(_canonical(parts), sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()[:KEY_LENGTH]


def file_digest(path: Path) -> str:
    """Return the SHA-256 of a file's bytes as hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _canonical(value: Any) -> Any:
    if value is None or isinstance(value, (bool, str)):
        return value
    if isinstance(value, (int, float)):
        if isinstance(value, float) and not math.isfinite(value):
            return {"float": repr(value)}
        return int(value) if value == int(value) and abs(value) < 2**53 else repr(value)
    if is_dataclass(value) and not isinstance(value, type):
        return {"type": type(value).__name__, "fields": _canonical(asdict(value))}
    if isinstance(value, Mapping):
        return {str(key): _canonical(item) for key, item in value.items()}
    if isinstance(value, Set):
        return sorted((_canonical(item) for item in value), key=repr)
    if isinstance(value, Sequence):
        return [_canonical(item) for item in value]
    raise TypeError(f"{type(value).__name__} has no content key: {value!r}")
