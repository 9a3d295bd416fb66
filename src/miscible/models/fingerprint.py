"""Content digests of weight files, computed once per file and remembered.

A digest is remembered by path, size, modification time and inode: whoever changes a file changes
one of them. Files that were touched within the last seconds are hashed again, because file
systems tell times apart only so well.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import time
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from miscible.errors import CheckpointError
from miscible.keys import content_key, file_digest
from miscible.models.cache import cache_root

if TYPE_CHECKING:
    from miscible.models.checkpoint import Checkpoint

SAMPLES = 64
SAMPLE_BYTES = 4096
SETTLED_SECONDS = 2.0
_HUB_BLOB = re.compile(r"[0-9a-f]{64}")


def digest_of(path: Path) -> str:
    """Return the SHA-256 of a file, from memory if the file has not changed since.

    A file of the Hub's cache is a link to a blob whose name *is* its SHA-256.

    Raises:
        OSError: if the file cannot be read.
    """
    known = known_digest(path)
    if known is not None:
        return known
    real = path.resolve()
    stat = real.stat()
    signature = [stat.st_size, stat.st_mtime_ns, stat.st_ino]
    digest = file_digest(real)
    if time.time() - stat.st_mtime > SETTLED_SECONDS:
        _remember(_memory(real), {"signature": signature, "sha256": digest})
    return digest


def known_digest(path: Path) -> str | None:
    """Return the SHA-256 of a file if it is known without reading it, else None."""
    real = path.resolve()
    if real.parent.name == "blobs" and _HUB_BLOB.fullmatch(real.name):
        return real.name
    stat = real.stat()
    remembered = _recall(_memory(real))
    if remembered and remembered.get("signature") == [stat.st_size, stat.st_mtime_ns, stat.st_ino]:
        return str(remembered["sha256"])
    return None


def quick_digest(path: Path) -> str:
    """Return the SHA-256 of a file's size, its first 64 KiB and 64 blocks spread over the rest.

    It tells models apart that were trained apart, in milliseconds; it does not prove that a file
    is unchanged.

    Raises:
        OSError: if the file cannot be read.
    """
    digest = hashlib.sha256()
    with path.open("rb", buffering=0) as file:
        size = os.fstat(file.fileno()).st_size
        digest.update(size.to_bytes(8, "little") + os.pread(file.fileno(), 1 << 16, 0))
        for number in range(SAMPLES):
            digest.update(os.pread(file.fileno(), SAMPLE_BYTES, size * number // SAMPLES))
    return digest.hexdigest()


def quick_key(checkpoint: Checkpoint) -> str:
    """Return a content key by samples (`quick_digest`) of all files that a checkpoint reads.

    A checkpoint that lies in no file gives its fingerprint.

    Raises:
        CheckpointError: if a file cannot be read.
    """
    if not checkpoint.files:
        return checkpoint.fingerprint
    try:
        files = list(checkpoint.files.items())  # in an order of the content, not of its place
        return content_key(quick=[_quick_digest(path, state) for path, state in files])
    except OSError as error:
        raise CheckpointError(
            f"cannot be read: {error.strerror}.", where=checkpoint.name
        ) from error


@lru_cache(maxsize=256)
def _quick_digest(path: Path, state: object) -> str:
    return quick_digest(path)


def _memory(real: Path) -> Path:
    return cache_root() / "digests" / f"{content_key(path=str(real))}.json"


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
