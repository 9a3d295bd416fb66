"""Where miscible keeps what it can always make again."""

from __future__ import annotations

import os
from pathlib import Path


def cache_root() -> Path:
    """Return the cache folder: ``MISCIBLE_CACHE``, else ``miscible`` in the user's cache folder."""
    if chosen := os.environ.get("MISCIBLE_CACHE"):
        return Path(chosen).expanduser()
    base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(base).expanduser() / "miscible"
