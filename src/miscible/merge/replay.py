"""Computing tensors of a merge again and comparing them with those that were written."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from threading import Lock
from typing import Any

import numpy as np

from miscible.errors import CheckpointError
from miscible.merge.engine.passes import Pool
from miscible.merge.engine.sources import OpenFiles
from miscible.merge.engine.write import available_threads
from miscible.merge.virtual import VirtualCheckpoint
from miscible.models.checkpoint import Checkpoint
from miscible.models.formats.safetensors import TensorInfo
from miscible.models.writer import LARGE_BYTES
from miscible.progress import task

STEP = {"BF16": 2.0**-7, "F16": 2.0**-10, "F32": 2.0**-23, "F64": 2.0**-52}
"""Distance of neighbouring numbers of a dtype, relative to them, at most."""
BLOCK_BYTES = 1 << 22
SLACK = 1e-5
"""Differences up to this share of a tensor's largest number pass for rounding of sums."""


@dataclass(frozen=True, slots=True)
class Replayed:
    """What came of computing a tensor again.

    Attributes:
        name: its name.
        size: number of elements.
        differing: number of elements whose bytes differ.
        largest: largest absolute difference, NaN if there is a NaN or no number.
        rounding: whether all differences are so small that other hardware explains them.
    """

    name: str
    size: int
    differing: int
    largest: float
    rounding: bool

    @property
    def identical(self) -> bool:
        return not self.differing


def replay(
    merge: VirtualCheckpoint,
    written: Checkpoint,
    names: Sequence[str],
    *,
    threads: int | None = None,
) -> list[Replayed]:
    """Compute tensors again, chunk by chunk, and compare them with those in a folder.

    Args:
        merge: the merge.
        written: where it was written to; has all the tensors in the same dtypes and shapes.
        names: of the tensors.
        threads: that compute; as many as there are processors if None.

    Raises:
        MiscibleError: if a tensor cannot be computed or read.
    """
    threads = threads or available_threads()
    total = sum(merge.tensors[name].nbytes for name in names)
    large = [name for name in names if merge.tensors[name].nbytes >= LARGE_BYTES]
    small = [name for name in names if merge.tensors[name].nbytes < LARGE_BYTES]
    found: dict[str, Replayed] = {}
    with OpenFiles() as files, task("compare tensors", total) as advance:

        def one(name: str, pool: Pool | None = None) -> None:
            comparison = _Comparison(written, name, files)
            merge.stream(name, comparison.see, files, pool=pool)
            found[name] = comparison.result()
            advance(merge.tensors[name].nbytes)

        with ThreadPoolExecutor(threads) as pool:
            try:
                for name in large:
                    one(name, pool if threads > 1 else None)
                for _ in pool.map(one, small) if threads > 1 else map(one, small):
                    pass
            except BaseException:
                pool.shutdown(cancel_futures=True)
                raise
    return [found[name] for name in names]


class _Comparison:
    """Compares one tensor, in chunks that come from any thread in any order."""

    def __init__(self, written: Checkpoint, name: str, files: OpenFiles) -> None:
        place = written.extent(name)
        assert place is not None
        self._name, self._path, self._offset = name, place[0], place[1].offset
        self._info: TensorInfo = place[1].info
        self._width = self._info.nbytes // max(self._info.size, 1)
        self._descriptor = files.descriptor(self._path)
        self._seen = self._differing = 0
        self._largest = self._excess = self._peak = 0.0
        self._lock = Lock()

    def see(self, start: int, data: memoryview) -> None:
        """Compare the bytes from element *start* on."""
        for begin in range(0, len(data), BLOCK_BYTES):
            self._see_block(start * self._width + begin, data[begin : begin + BLOCK_BYTES])

    def _see_block(self, place: int, data: memoryview) -> None:
        computed = np.frombuffer(data, np.uint8)
        held = np.frombuffer(self._read(place, len(computed)), np.uint8)
        if np.array_equal(computed, held):
            with self._lock:
                self._seen += len(computed)
            return
        unequal = computed.reshape(-1, self._width) != held.reshape(-1, self._width)
        one, other = (_values(data, self._info.dtype) for data in (computed, held))
        size = np.maximum(np.abs(one), np.abs(other))
        with np.errstate(invalid="ignore"):
            distance = np.abs(one - other)
            excess = distance - STEP.get(self._info.dtype, 0.0) * size
        with self._lock:
            self._seen += len(computed)
            self._differing += int(unequal.any(axis=1).sum())
            self._peak = _larger(self._peak, float(size.max()))
            self._largest = _larger(self._largest, float(distance.max()))
            self._excess = _larger(self._excess, float(excess.max()))

    def result(self) -> Replayed:
        """Return what was found when all chunks were seen."""
        info = self._info
        if self._seen != info.nbytes:
            raise CheckpointError(f"tensor {self._name!r} was not computed whole.")
        number = info.dtype in STEP
        rounding = number and self._excess <= SLACK * self._peak
        largest = self._largest if number or not self._differing else math.nan
        return Replayed(self._name, info.size, self._differing, largest, rounding)

    def _read(self, start: int, size: int) -> bytes:
        parts = []
        while size > 0:
            try:
                part = os.pread(self._descriptor, size, self._offset + start)
            except OSError as error:
                raise CheckpointError(
                    f"cannot be read: {error.strerror}.", where=str(self._path)
                ) from error
            if not part:
                raise CheckpointError("the file has become shorter.", where=str(self._path))
            parts.append(part)
            start, size = start + len(part), size - len(part)
        return parts[0] if len(parts) == 1 else b"".join(parts)


def _values(data: np.ndarray[Any, Any], dtype: str) -> np.ndarray[Any, Any]:
    """Return stored bytes as float64; of what takes no part in arithmetic, the bytes."""
    if dtype == "BF16":
        return (data.view("<u2").astype(np.uint32) << 16).view(np.float32).astype(np.float64)
    kind = {"F16": "<f2", "F32": "<f4", "F64": "<f8"}.get(dtype, "u1")
    return data.view(kind).astype(np.float64)


def _larger(one: float, other: float) -> float:
    # NaN stays.
    return other if other > one or other != other else one
