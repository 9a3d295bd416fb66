"""Where the chunks of an input come from: a file, an array, or something computed."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np

from miscible.errors import CheckpointError
from miscible.merge.kernels.constants import BF16, DELTA, EXACT, F16, F32

if TYPE_CHECKING:
    from miscible.models.delta import LowRank

CODES: Mapping[str, int] = {"F32": F32, "BF16": BF16, "F16": F16}
"""Dtypes that programs read and write, by their safetensors names."""


class Source(Protocol):
    """One tensor of one model, read in chunks from any thread.

    Attributes:
        model: how messages call the model.
        tensor: its name there.
        code: dtype of the bytes, with `DELTA` added for differences and `EXACT` for what was
            computed.
    """

    model: str
    tensor: str
    code: int

    def fill(self, start: int, buffer: memoryview) -> None:
        """Fill *buffer* with the bytes from element *start* on."""
        ...


@runtime_checkable
class InFile(Source, Protocol):
    """A source whose bytes programs can read from a file themselves."""

    def place(self) -> tuple[int, int]:
        """Return the file's descriptor and the place of the first element, in bytes."""
        ...


class OpenFiles:
    """Files kept open for reading by position; safe from any thread."""

    def __init__(self) -> None:
        self._descriptors: dict[Path, int] = {}
        self._lock = Lock()

    def descriptor(self, path: Path) -> int:
        """Return the descriptor of a file, opened at the first call."""
        with self._lock:
            if path not in self._descriptors:
                try:
                    self._descriptors[path] = os.open(path, os.O_RDONLY)
                except OSError as error:
                    raise CheckpointError(
                        f"cannot be read: {error.strerror}.", where=str(path)
                    ) from error
            return self._descriptors[path]

    def close(self) -> None:
        """Close all files."""
        with self._lock:
            for descriptor in self._descriptors.values():
                os.close(descriptor)
            self._descriptors.clear()

    def __enter__(self) -> OpenFiles:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class FileSource:
    """A tensor as it lies in a file."""

    def __init__(
        self, model: str, tensor: str, code: int, files: OpenFiles, path: Path, offset: int
    ) -> None:
        self.model, self.tensor, self.code = model, tensor, code
        self._files, self._path, self._offset = files, path, offset
        self._width = width_of(code)

    def place(self) -> tuple[int, int]:
        """See `InFile.place`.

        Raises:
            CheckpointError: if the file cannot be opened.
        """
        return self._files.descriptor(self._path), self._offset

    def fill(self, start: int, buffer: memoryview) -> None:
        """See `Source.fill`.

        Raises:
            CheckpointError: if the file ends too early or cannot be read.
        """
        descriptor = self._files.descriptor(self._path)
        place, filled = self._offset + start * self._width, 0
        while filled < len(buffer):
            try:
                count = os.preadv(descriptor, [buffer[filled:]], place + filled)
            except OSError as error:
                raise CheckpointError(
                    f"cannot be read: {error.strerror}.", where=str(self._path)
                ) from error
            if not count:
                raise CheckpointError(
                    f"the file ends inside tensor {self.tensor!r}.",
                    where=str(self._path),
                    fix="It was changed or cut off after it was opened.",
                )
            filled += count


class ArraySource:
    """A tensor in memory: its bytes as a flat uint8 array."""

    def __init__(self, model: str, tensor: str, code: int, data: np.ndarray[Any, Any]) -> None:
        self.model, self.tensor, self.code = model, tensor, code
        self._data, self._width = data, width_of(code)

    def fill(self, start: int, buffer: memoryview) -> None:
        """See `Source.fill`."""
        begin = start * self._width
        buffer[:] = self._data[begin : begin + len(buffer)].data

    @classmethod
    def of(cls, model: str, tensor: str, values: np.ndarray[Any, Any]) -> ArraySource:
        """Return a source of a float32 array that was computed."""
        return cls(model, tensor, F32 | EXACT, values.reshape(-1).view(np.uint8))

    @classmethod
    def of_delta(cls, model: str, tensor: str, values: np.ndarray[Any, Any]) -> ArraySource:
        """Return a source of a float32 array that is a difference from the base."""
        return cls(model, tensor, F32 | DELTA, values.reshape(-1).view(np.uint8))


class ZeroSource:
    """The difference of what is not changed."""

    def __init__(self, model: str, tensor: str) -> None:
        self.model, self.tensor, self.code = model, tensor, F32 | DELTA

    def fill(self, start: int, buffer: memoryview) -> None:
        """See `Source.fill`."""
        np.frombuffer(buffer, np.uint8)[:] = 0


class ComputedSource:
    """A tensor whose rows are computed as float32 when they are read.

    Args:
        row: elements of a row.
        rows: returns rows [first, last).
    """

    def __init__(
        self, model: str, tensor: str, row: int, rows: Callable[[int, int], np.ndarray[Any, Any]]
    ) -> None:
        self.model, self.tensor, self.code = model, tensor, F32 | EXACT
        self.row, self.rows = row, rows

    def fill(self, start: int, buffer: memoryview) -> None:
        """See `Source.fill`."""
        out = np.frombuffer(buffer, np.float32)
        first, last = start // self.row, (start + len(out) - 1) // self.row + 1
        values = self.rows(first, last).reshape(-1)
        out[:] = values[start - first * self.row :][: len(out)]


class LowRankSource(ComputedSource):
    """An exact low-rank difference, multiplied out row by row as it is read."""

    def __init__(self, model: str, tensor: str, factors: LowRank) -> None:
        outputs, inputs = factors.b.shape[0], factors.a.shape[1]
        super().__init__(model, tensor, outputs if factors.transposed else inputs, self._product)
        self.code, self._factors = F32 | DELTA, factors

    def _product(self, first: int, last: int) -> np.ndarray[Any, Any]:
        import torch

        held = self._factors
        a, b = held.a.to(torch.float32), held.b.to(torch.float32)
        rows = (b @ a[:, first:last]).T if held.transposed else b[first:last] @ a
        return rows.mul_(held.scale).contiguous().numpy()


def width_of(code: int) -> int:
    """Return the bytes of an element."""
    return 4 if code & 7 == F32 else 2
