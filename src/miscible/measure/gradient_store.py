"""Gradients of many models on disk, and their inner products: never two in memory.

Vectors are the rows of one temporary file that has no name: whatever ends the process, the file is
gone. Its whole size is reserved beforehand, so a disk that is too small is found out before any
model has run.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, TypeAlias

import numpy as np
import numpy.typing as npt

from miscible.errors import StoreError
from miscible.models.cache import cache_root

Array: TypeAlias = npt.NDArray[np.float64]

BLOCK_BYTES = 32 * 2**20
"""Size of the block in float64 whose inner products are taken at once."""


class GradientStore:
    """Vectors that are made of the same pieces: rows of one file, of which Grams are taken.

    Args:
        rows: number of vectors.
        pieces: number of elements by name, in the order in which they lie in a row.
        dtype: in which elements are stored; products are accumulated in float64.
        folder: where the file lies; miscible's cache folder if None (``/tmp`` may be memory).

    Raises:
        StoreError: if the disk has too little room, or the folder cannot be written.
    """

    def __init__(
        self,
        rows: int,
        pieces: Mapping[str, int],
        *,
        dtype: npt.DTypeLike = np.float32,
        folder: Path | None = None,
    ) -> None:
        self.rows, self.pieces, self.dtype = rows, dict(pieces), np.dtype(dtype)
        self._starts: dict[str, int] = {}
        width = 0
        for name, size in self.pieces.items():
            self._starts[name] = width
            width += size
        self._width = width
        self._file = _reserved(rows * width * self.dtype.itemsize, temporary_folder(folder))

    def __enter__(self) -> GradientStore:
        return self

    def __exit__(self, *error: object) -> None:
        self._file.close()

    def write(self, row: int, name: str, values: npt.NDArray[np.floating], start: int = 0) -> None:
        """Store elements *start* and following of a piece of a row.

        Raises:
            ValueError: if they do not fit into the piece.
            StoreError: if the disk refuses them.
        """
        if start + values.size > self.pieces[name]:
            raise ValueError(f"{start} + {values.size} elements in {name!r}: {self.pieces[name]}")
        raw = np.ascontiguousarray(values, dtype=self.dtype).reshape(-1)
        try:
            self._file.seek(self._place(row, name, start))
            rest = raw.view(np.uint8).data
            while rest:  # one write takes 2 GiB at most
                rest = rest[self._file.write(rest) :]
        except OSError as error:
            raise StoreError(f"gradients cannot be stored: {error.strerror}.") from error

    def read(self, row: int, name: str, start: int, count: int) -> npt.NDArray[np.floating]:
        """Return elements of a piece of a row."""
        raw = np.empty(count, dtype=self.dtype)
        self._file.seek(self._place(row, name, start))
        if self._file.readinto(raw.view(np.uint8).data) != raw.nbytes:  # type: ignore[attr-defined]
            raise StoreError("the temporary file of gradients is shorter than it was.")
        return raw

    def gram(self, name: str, rows: Sequence[int]) -> Array:
        """Return the inner products of a piece of some rows, float64, exactly symmetric.

        Operations: ``rows² · elements``; memory: `BLOCK_BYTES`.
        """
        total = np.zeros((len(rows), len(rows)))
        if not rows:
            return total
        size = self.pieces[name]
        step = max(1, min(size, BLOCK_BYTES // (8 * len(rows))))
        block = np.empty((len(rows), step))
        for start in range(0, size, step):
            count = min(step, size - start)
            for place, row in enumerate(rows):
                block[place, :count] = self.read(row, name, start, count)
            held = block[:, :count]
            total += held @ held.T
        return (total + total.T) / 2

    def _place(self, row: int, name: str, start: int) -> int:
        return (row * self._width + self._starts[name] + start) * self.dtype.itemsize


def temporary_folder(folder: Path | None) -> Path:
    """Return the folder for temporary files; it is made if it does not exist.

    Raises:
        StoreError: if it cannot be.
    """
    found = folder if folder is not None else cache_root()
    try:
        found.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StoreError(
            f"no gradients can be stored here: {error.strerror}.", where=str(found)
        ) from error
    return found


def free_bytes(folder: Path | None) -> int:
    """Return how many bytes a temporary file may grow to."""
    return shutil.disk_usage(temporary_folder(folder)).free


def _reserved(size: int, folder: Path) -> IO[bytes]:
    free = free_bytes(folder)
    fix = "Give another 'folder', fewer models, or fewer parts of calibration data."
    if size > free:
        raise StoreError(
            f"gradients need {size / 1e9:.2f} GB on disk, and {free / 1e9:.2f} GB are free.",
            where=str(folder),
            fix=fix,
        )
    try:
        file = tempfile.TemporaryFile(dir=folder, prefix="miscible-gradients-", buffering=0)  # noqa: SIM115
        if size and hasattr(os, "posix_fallocate"):
            try:
                os.posix_fallocate(file.fileno(), 0, size)
            except OSError:
                file.close()
                raise
    except OSError as error:
        raise StoreError(
            f"{size / 1e9:.2f} GB for gradients cannot be had: {error.strerror}.",
            where=str(folder),
            fix=fix,
        ) from error
    return file
