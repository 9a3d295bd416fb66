"""One safetensors file, written by position from many threads, hashed as it is written."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Any

import xxhash

from miscible.errors import CheckpointError
from miscible.models.formats.safetensors import SafetensorsFile, TensorInfo


@dataclass(frozen=True, slots=True)
class ShardRecord:
    """What a finished shard contains.

    Attributes:
        digest: XXH3-128 over header and tensors, in hexadecimal. It finds damage; it is no proof
            against forgery.
        pieces: by tensor, the length of the pieces of bytes whose digests it is made of.
        note: what whoever computed the tensors wants to know of them later, as plain data.
    """

    digest: str
    pieces: Mapping[str, int]
    note: Any = None


class ShardWriter:
    """A safetensors file with room for all its tensors.

    Raises:
        OSError: if there is no room, or the file cannot be written.
    """

    def __init__(self, path: Path, infos: Mapping[str, TensorInfo]) -> None:
        self._header, self._offsets = _header(infos)
        self._infos = infos
        self._pieces: dict[str, dict[int, tuple[int, bytes]]] = {name: {} for name in infos}
        self._lock = Lock()
        flags = os.O_CREAT | os.O_EXCL | os.O_WRONLY
        self._descriptor = os.open(path, flags, 0o666)
        size = len(self._header) + sum(info.nbytes for info in infos.values())
        try:
            _reserve(self._descriptor, size)
            _write_at(self._descriptor, memoryview(self._header), 0)
        except BaseException:
            os.close(self._descriptor)
            raise

    def write(self, name: str, start: int, data: memoryview) -> None:
        """Write bytes of a tensor from byte *start* on."""
        data = data.cast("B") if data.format != "B" or data.ndim != 1 else data
        if not len(data):
            return
        digest = xxhash.xxh3_128_digest(data)
        _write_at(self._descriptor, data, self._offsets[name] + start)
        with self._lock:
            self._pieces[name][start] = (len(data), digest)

    def check_complete(self, name: str) -> None:
        """Raise `CheckpointError` unless every byte of a tensor was written."""
        position = 0
        for start, (length, _) in sorted(self._pieces[name].items()):
            if start != position:
                break
            position += length
        if position != self._infos[name].nbytes:
            raise CheckpointError(f"tensor {name!r} was not written whole.")

    def close(self) -> ShardRecord:
        """Make the file durable and return its record."""
        os.fsync(self._descriptor)
        pieces = {
            name: next((length for _, (length, _) in sorted(held.items())), 0)
            for name, held in self._pieces.items()
        }
        digests = {
            name: [digest for _, (_, digest) in sorted(held.items())]
            for name, held in self._pieces.items()
        }
        return ShardRecord(_combined(self._header, digests), pieces)

    def __enter__(self) -> ShardWriter:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._descriptor)


def holds(path: Path, record: ShardRecord) -> bool:
    """Return whether a file is the shard that its record describes; reads it once."""
    try:
        file = SafetensorsFile(path)
    except CheckpointError:
        return False
    if list(file.extents) != list(record.pieces):
        return False
    digests: dict[str, list[bytes]] = {}
    with path.open("rb") as stream:
        start = min((extent.offset for extent in file.extents.values()), default=None)
        header = stream.read(path.stat().st_size if start is None else start)
        for name, extent in file.extents.items():
            piece, left = record.pieces[name], extent.info.nbytes
            digests[name] = []
            stream.seek(extent.offset)
            while left > 0 and piece > 0:
                data = stream.read(min(piece, left))
                if not data:
                    return False
                digests[name].append(xxhash.xxh3_128_digest(data))
                left -= len(data)
    return _combined(header, digests) == record.digest


def _combined(header: bytes, digests: Mapping[str, list[bytes]]) -> str:
    whole = xxhash.xxh3_128(header)
    for pieces in digests.values():
        whole.update(b"".join(pieces))
    return whole.hexdigest()


def _header(infos: Mapping[str, TensorInfo]) -> tuple[bytes, dict[str, int]]:
    header: dict[str, object] = {"__metadata__": {"format": "pt"}}
    offsets: dict[str, int] = {}
    position = 0
    for name, info in infos.items():
        end = position + info.nbytes
        header[name] = {
            "dtype": info.dtype, "shape": list(info.shape), "data_offsets": [position, end],
        }  # fmt: skip
        offsets[name] = position
        position = end
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # tensors start aligned
    head = len(text).to_bytes(8, "little") + text
    return head, {name: len(head) + offset for name, offset in offsets.items()}


def _reserve(descriptor: int, size: int) -> None:
    try:
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(descriptor, 0, size)
    except OSError as error:
        if error.errno not in (errno.EOPNOTSUPP, errno.EINVAL):  # not every file system can
            raise


def _write_at(descriptor: int, data: memoryview, place: int) -> None:
    written = 0
    while written < len(data):
        written += os.pwrite(descriptor, data[written:], place + written)
