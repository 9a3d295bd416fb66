"""Passes over one tensor of every model: compiled programs run chunk by chunk.

The grid of chunks depends on the tensors alone, partial sums are kept by chunk and added up in
order, so results do not depend on the number of threads.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from threading import local
from typing import Any, NamedTuple, Protocol, TypeAlias, TypeVar

import numpy as np

from miscible.errors import CheckpointError, MiscibleError
from miscible.merge.engine.sources import InFile, Source, width_of
from miscible.merge.kernels.constants import BLOCK, FETCH, LANES
from miscible.merge.kernels.native import program

T = TypeVar("T")
Array = np.ndarray[Any, Any]
CHUNK = 1 << 19
"""Elements of a chunk, at most: its output stays in the third-level cache."""
CHUNK_BYTES = 1 << 24
"""Bytes of all inputs of a chunk in float32, about: chunks are shorter where models are many."""
HELD_BYTES = 1 << 25
"""Tensors up to this size, over all models, stay in memory between passes."""
ALIGNED = 64
"""Bytes of a line of the caches: vectors that straddle two are slower to load."""
IN_MEMORY, UNREADABLE = -1, -2
_thread = local()


Write: TypeAlias = Callable[[int, memoryview], None]
"""Takes the bytes of the output from an element on."""


class Seen(Protocol):
    """Sees a chunk of the output beside its inputs."""

    def __call__(
        self, passes: Passes, start: int, size: int, inputs: ChunkInputs, out: memoryview
    ) -> None: ...


class ChunkInputs(NamedTuple):
    """A chunk of every input, for programs.

    Attributes:
        address: of the first model's room.
        stride: bytes from one model's room to the next.
        files: address of what `miscible.merge.kernels.reading.fetch` reads from.
    """

    address: int
    stride: int
    files: int


class Pool(Protocol):
    """Runs a function over items, in threads or not, and returns the results in order."""

    def map(self, function: Callable[[int], T], items: Iterable[int]) -> Iterable[T]: ...


Run: TypeAlias = Callable[[int, int, int, ChunkInputs], T]


class Passes:
    """Runs programs over the chunks of one tensor.

    Args:
        tensor: name of the output tensor, for messages.
        sources: one a model, of equal size; with *origin* the first is the base.
        shape: of every source.
        origin: whether programs work on differences from the first source.
        rounding: code of the dtype to which stored inputs are rounded first, 0 for none.
        pool: runs chunks at the same time; None for one after the other.
        seen: is shown every chunk as it is written.
    """

    def __init__(
        self,
        tensor: str,
        sources: Sequence[Source],
        shape: Sequence[int],
        *,
        origin: bool,
        rounding: int = 0,
        pool: Pool | None = None,
        seen: Seen | None = None,
    ) -> None:
        self.tensor, self.sources, self.shape = tensor, tuple(sources), tuple(shape)
        self.count = math.prod(shape)
        self.models, self.origin, self.rounding = len(self.sources), origin, rounding
        self.codes = np.array([source.code for source in self.sources], np.int64)
        self._pool, self._seen = pool, seen
        self._widths = [width_of(source.code) for source in self.sources]
        self._in_files = hasattr(os, "pread") and all(isinstance(s, InFile) for s in self.sources)
        self._lay_grid(min(CHUNK, max(1, CHUNK_BYTES // (4 * FETCH * self.models)) * FETCH))

    def by_rows(self) -> None:
        """Let every chunk hold whole rows, and begin at a multiple of `LANES` elements."""
        step = LANES * self.row
        self._lay_grid(max(1, self.chunk // step) * step)

    @property
    def row(self) -> int:
        """Length of the last dimension; a tensor of fewer than two dimensions is one row."""
        return self.shape[-1] if len(self.shape) > 1 else self.count

    def _lay_grid(self, chunk: int) -> None:
        self.chunk = min(chunk, -(-self.count // BLOCK) * BLOCK)
        self.chunks = -(-self.count // self.chunk) if self.count else 0
        whole = self.chunks * self.models * self.chunk * max(self._widths)
        # What is read more than once stays in memory where it is small enough.
        self._held = whole <= HELD_BYTES and self._pool is None
        self._filled: set[int] = set()

    def last(self) -> None:
        """Say that one pass is left: where it is the only one, chunks share one small buffer."""
        self._held = self._held and bool(self._filled)

    def over_chunks(self, run: Run[T], *, share: int = 1, whole: bool = False) -> list[T]:
        """Return ``run(number, start, size, inputs)`` of every chunk, in order.

        Programs may read only that *share* of every chunk, from its beginning. What needs the
        chunk as a *whole* gets it in memory.
        """
        numbers = range(self.chunks)
        if self._pool is None or self.chunks == 1:
            return [self.one_chunk(number, run, share=share, whole=whole) for number in numbers]
        return list(
            self._pool.map(lambda n: self.one_chunk(n, run, share=share, whole=whole), numbers)
        )

    def one_chunk(self, number: int, run: Run[T], *, share: int = 1, whole: bool = False) -> T:
        """Run a function on one chunk."""
        start = number * self.chunk
        size = min(self.chunk, self.count - start)
        return run(number, start, size, self._inputs(number, start, size, share, whole))

    def check(self, status: int, out: str = "") -> None:
        """Raise the error that a program's status stands for.

        Raises:
            MiscibleError: naming model and tensor.
            CheckpointError: if a file could not be read.
        """
        if status > 0:
            source = self.sources[status - 1]
            raise MiscibleError(
                f"tensor {source.tensor!r} holds NaN or infinity.",
                where=source.model,
                fix="Its training or conversion failed; a merge would spread it.",
            )
        if status <= UNREADABLE:
            source = self.sources[UNREADABLE - status]
            last = memoryview(bytearray(width_of(source.code)))
            source.fill(self.count - 1, last)  # says it better where the file was cut off
            raise CheckpointError(
                f"tensor {source.tensor!r} could not be read.",
                where=source.model,
                fix="The file was changed while it was read, or its disk fails.",
            )
        if status < 0:
            raise MiscibleError(
                f"the merged tensor {self.tensor!r} does not fit into {out}.",
                fix="Give a wider 'out_dtype' (bfloat16 or float32), or smaller weights.",
            )

    def arguments(self, inputs: ChunkInputs) -> tuple[int, int, int, int, int]:
        """Return the arguments with which every program begins."""
        return *inputs, self.codes.ctypes.data, self.models

    def gram(self) -> Array:
        """Return the inner products of the inputs, or of the differences, float64."""

        def run(number: int, start: int, size: int, inputs: ChunkInputs) -> Array:
            total = np.zeros((self.models, self.models))
            self.check(
                program("gram")(
                    *self.arguments(inputs), int(self.origin), size, self.rounding,
                    scratch(self.models).ctypes.data, total.ctypes.data,
                )
            )  # fmt: skip
            return total

        total = sum(self.over_chunks(run), np.zeros((self.models, self.models)))
        return total[1:, 1:] if self.origin else total

    def values(self, inputs: ChunkInputs, size: int) -> Array:
        """Return *size* elements of every input in float32: the base and differences, or all."""
        held = np.empty((self.models, size), np.float32)
        self.check(self._values(inputs, held, origin=self.origin, rounding=self.rounding))
        return held

    def stored(self, inputs: ChunkInputs, size: int) -> Array | None:
        """Return *size* elements of every input as they are stored, in float32.

        None if one is NaN or infinite.
        """
        held = np.empty((self.models, size), np.float32)
        return None if self._values(inputs, held, origin=False, rounding=0) else held

    def _values(self, inputs: ChunkInputs, out: Array, *, origin: bool, rounding: int) -> int:
        return program("values_of")(
            *self.arguments(inputs), int(origin), out.shape[1], rounding,
            scratch(self.models).ctypes.data, out.ctypes.data,
        )  # fmt: skip

    def written(
        self, start: int, size: int, inputs: ChunkInputs, out: memoryview, write: Write
    ) -> None:
        """Hand a chunk of the output on."""
        if self._seen is not None:
            self._seen(self, start, size, inputs, out)
        write(start, out)

    def output(self, code: int, size: int) -> Array:
        """Return this thread's room for *size* elements of the output in the dtype *code*."""
        return _buffer("output", self.chunk * 4)[: size * width_of(code)]

    def _inputs(self, number: int, start: int, size: int, share: int, whole: bool) -> ChunkInputs:
        # Programs read what lies in files themselves, into room that is used again after `FETCH`
        # elements, or into room for the whole tensor where that stays in memory.
        reads = self._in_files and not whole
        room = FETCH if reads and not self._held else self.chunk
        stride = min(room, self.chunk) * max(self._widths)
        block = self.models * stride
        data = _buffer("inputs", block * (self.chunks if self._held else 1))
        address = int(data.ctypes.data) + (number * block if self._held else 0)
        files = _buffer("files", 8 * (1 + 2 * self.models)).view(np.int64)
        files[0], files[1:] = room, IN_MEMORY
        inputs = ChunkInputs(address, stride, int(files.ctypes.data))
        if self._held and number in self._filled:
            return inputs
        if reads:
            for model, (source, width) in enumerate(zip(self.sources, self._widths, strict=True)):
                assert isinstance(source, InFile)
                descriptor, place = source.place()
                files[1 + 2 * model : 3 + 2 * model] = descriptor, place + start * width
        else:
            held = size if self._held else -(-size // share)
            first = address - int(data.ctypes.data)
            self._fill(memoryview(data)[first:], start, held, stride)  # type: ignore[arg-type]
        if share == 1 or not reads:
            self._filled.add(number)
        return inputs

    def _fill(self, room: memoryview, start: int, size: int, stride: int) -> None:
        with _nested():
            for model, (source, width) in enumerate(zip(self.sources, self._widths, strict=True)):
                source.fill(start, room[model * stride : model * stride + size * width])


def scratch(models: int) -> Array:
    """Return this thread's room for a program's rows."""
    return _buffer("scratch", (models + 4) * BLOCK * 4)


@contextmanager
def _nested() -> Iterator[None]:
    # A source may itself be a merge, whose passes need buffers of their own.
    _thread.depth = getattr(_thread, "depth", 0) + 1
    try:
        yield
    finally:
        _thread.depth -= 1


def _buffer(name: str, size: int) -> Array:
    key = f"{name}{getattr(_thread, 'depth', 0)}"
    held: Array | None = getattr(_thread, key, None)
    if held is None or held.size < size:
        room = np.empty(size + ALIGNED, np.uint8)
        held = room[-room.ctypes.data % ALIGNED :][:size]
        setattr(_thread, key, held)
    return held
