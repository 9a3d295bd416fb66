"""Content digests of weight files, computed once per file and remembered.

A digest is remembered by path, size, modification time and inode: whoever changes a file changes
one of them. Files that were touched within the last seconds are hashed again, because file
systems tell times apart only so well.
"""

from __future__ import annotations

import json
import os
import re
import time
from pathlib import Path

from miscible.keys import content_key, file_digest
from miscible.models.cache import cache_root

SETTLED_SECONDS = 2.0
_HUB_BLOB = re.compile(r"[0-9a-f]{64}")


def digest_of(path: Path) -> str:
    """Return the SHA-256 of a file, from memory if the file has not changed since.

    A file of the Hub's cache is a link to a blob whose name *is* its SHA-256.

    Raises:
        OSError: if the file cannot be read.
    """
    real = path.resolve()
    if real.parent.name == "blobs" and _HUB_BLOB.fullmatch(real.name):
        return real.name
    stat = real.stat()
    signature = [stat.st_size, stat.st_mtime_ns, stat.st_ino]
    memory = cache_root() / "digests" / f"{content_key(path=str(real))}.json"
    remembered = _recall(memory)
    if remembered and remembered.get("signature") == signature:
        return str(remembered["sha256"])
    digest = file_digest(real)
    if time.time() - stat.st_mtime > SETTLED_SECONDS:
        _remember(memory, {"signature": signature, "sha256": digest})
    return digest


def _recall(memory: Path) -> dict[str, object] | None:
    try:
        value = json.loads(memory.read_text())
    except (OSError, ValueError):
        return None
    return value if isinstance(value, dict) and isinstance(value.get("sha256"), str) else None


def _remember(memory: Path, value: dict[str, object]) -> None:
    # A cache that cannot be written costs time, not correctness.
    try:
        memory.parent.mkdir(parents=True, exist_ok=True)
        fresh = memory.with_suffix(f".{os.getpid()}.tmp")
        fresh.write_text(json.dumps(value))
        fresh.replace(memory)
    except OSError:
        return
