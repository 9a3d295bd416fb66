"""Files of others, read without harm: nothing is unpacked to disk, nothing is read without end."""

from __future__ import annotations

import gzip
import lzma
import zipfile
import zlib
from pathlib import Path, PurePosixPath
from typing import IO

from miscible.errors import DatasetError

MAX_BYTES = 256 * 2**20
"""Most bytes of one decompressed file."""

_DAMAGE = (
    zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, NotImplementedError, OSError,
    UnicodeDecodeError,
)  # fmt: skip
"""What reading a damaged archive raises."""

MAX_TOTAL_BYTES = 4 * MAX_BYTES
"""Most decompressed bytes of one corpus, or of all local data of an evaluation."""


def read_file(path: Path) -> bytes:
    """Return the bytes of a file, decompressed if its name ends in ``.gz``.

    Raises:
        DatasetError: if it does not exist, cannot be read, is damaged or too large.
    """
    try:
        with path.open("rb") as stream:
            return _read(stream, path.name, str(path))
    except FileNotFoundError as error:
        raise DatasetError("there is no such file.", where=str(path)) from error
    except OSError as error:
        raise DatasetError(f"it cannot be read: {error.strerror}.", where=str(path)) from error


def open_archive(path: Path) -> zipfile.ZipFile:
    """Open a zip.

    Raises:
        DatasetError: if it is damaged or none at all.
    """
    try:
        with path.open("rb") as stream:
            stream.read(1)
    except OSError as error:
        raise DatasetError(f"it cannot be read: {error.strerror}.", where=str(path)) from error
    try:
        return zipfile.ZipFile(path)
    except _DAMAGE as error:
        raise DatasetError(f"the archive is damaged: {error}.", where=str(path)) from error


def read_member(archive: zipfile.ZipFile, member: str) -> bytes:
    """Return the bytes of a file in a zip, decompressed if its name ends in ``.gz``.

    Raises:
        DatasetError: if its path leads outside, or it is encrypted, damaged or too large.
    """
    info, path = archive.getinfo(member), PurePosixPath(member)
    where = f"{archive.filename}/{path}"
    if path.is_absolute() or ".." in path.parts or "\\" in member:
        raise DatasetError("the archive's path leads outside of it.", where=where)
    if info.flag_bits & 0x1:
        raise DatasetError("the file is encrypted.", where=where)
    try:
        with archive.open(info) as stream:
            return _read(stream, path.name, where)
    except _DAMAGE as error:
        message = f"the archive is damaged: {error}."
        raise DatasetError(message, where=str(archive.filename)) from error


def _read(stream: IO[bytes], name: str, where: str) -> bytes:
    try:
        if name.endswith(".gz"):
            with gzip.open(stream) as unzipped:
                content = unzipped.read(MAX_BYTES + 1)
        else:
            content = stream.read(MAX_BYTES + 1)
    except (gzip.BadGzipFile, zlib.error, EOFError) as error:
        raise DatasetError(f"the file is damaged: {error}.", where=where) from error
    if len(content) > MAX_BYTES:
        raise DatasetError(f"the file is larger than {MAX_BYTES // 2**20} MiB.", where=where)
    return content
