"""Passes over one tensor of every model: compiled programs run chunk by chunk.

The grid of chunks depends on the tensors alone, partial sums are kept by chunk and added up in
order, so results do not depend on the number of threads.
"""

from __future__ import annotations

import ctypes
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from threading import local
from typing import Any, Protocol, TypeAlias, TypeVar

import numpy as np

from miscible.errors import MiscibleError
from miscible.merge.engine.sources import Source, width_of
from miscible.merge.kernels.constants import BLOCK, LANES
from miscible.merge.kernels.native import program

T = TypeVar("T")
Array = np.ndarray[Any, Any]
Run: TypeAlias = Callable[[int, int, int, int], T]
CHUNK_BYTES = 1 << 21
"""Bytes of all inputs of a chunk, about: they stay in the second and third level caches."""
LARGEST_CHUNK = 1 << 18
HELD_BYTES = 1 << 25
"""Tensors up to this size, over all models, stay in memory between passes."""
_thread = local()


Write: TypeAlias = Callable[[int, memoryview], None]
"""Takes the bytes of the output from an element on."""


class Seen(Protocol):
    """Sees a chunk of the output beside its inputs."""

    def __call__(
        self, passes: Passes, start: int, size: int, address: int, out: memoryview
    ) -> None: ...


class Pool(Protocol):
    """Runs a function over items, in threads or not, and returns the results in order."""

    def map(self, function: Callable[[int], T], items: Iterable[int]) -> Iterable[T]: ...


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
        size = min(LARGEST_CHUNK, CHUNK_BYTES // (max(self._widths) * self.models))
        self._lay_grid(max(BLOCK, size // BLOCK * BLOCK))

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
        self.stride = self.chunk * max(self._widths)
        self.chunks = -(-self.count // self.chunk) if self.count else 0
        whole = self.chunks * self.models * self.stride
        # What is read more than once stays in memory where it is small enough.
        self._held = whole <= HELD_BYTES and self._pool is None
        self._filled: set[int] = set()

    def last(self) -> None:
        """Say that one pass is left: where it is the only one, chunks share one small buffer."""
        self._held = self._held and bool(self._filled)

    def over_chunks(self, run: Run[T], *, share: int = 1) -> list[T]:
        """Return ``run(number, start, size, address of the inputs)`` of every chunk, in order.

        With *share* only that share of every chunk, from its beginning, is read.
        """
        numbers = range(self.chunks)
        if self._pool is None or self.chunks == 1:
            return [self.one_chunk(number, run, share=share) for number in numbers]
        return list(
            self._pool.map(lambda number: self.one_chunk(number, run, share=share), numbers)
        )

    def one_chunk(self, number: int, run: Run[T], *, share: int = 1) -> T:
        """Run a function on one chunk."""
        start = number * self.chunk
        size = min(self.chunk, self.count - start)
        return run(number, start, size, self._load(number, start, size, share))

    def check(self, status: int, out: str = "") -> None:
        """Raise the error that a program's status stands for.

        Raises:
            MiscibleError: naming model and tensor.
        """
        if status > 0:
            source = self.sources[status - 1]
            raise MiscibleError(
                f"tensor {source.tensor!r} holds NaN or infinity.",
                where=source.model,
                fix="Its training or conversion failed; a merge would spread it.",
            )
        if status < 0:
            raise MiscibleError(
                f"the merged tensor {self.tensor!r} does not fit into {out}.",
                fix="Give a wider 'out_dtype' (bfloat16 or float32), or smaller weights.",
            )

    def arguments(self, address: int) -> tuple[int, int, int, int]:
        """Return the arguments with which every program begins."""
        return address, self.stride, self.codes.ctypes.data, self.models

    def gram(self) -> Array:
        """Return the inner products of the inputs, or of the differences, float64."""

        def run(number: int, start: int, size: int, address: int) -> Array:
            total = np.zeros((self.models, self.models))
            self.check(
                program("gram")(
                    *self.arguments(address), int(self.origin), size, self.rounding,
                    scratch(self.models).ctypes.data, total.ctypes.data,
                )
            )  # fmt: skip
            return total

        total = sum(self.over_chunks(run), np.zeros((self.models, self.models)))
        return total[1:, 1:] if self.origin else total

    def values(self, address: int, size: int) -> Array:
        """Return *size* elements of every input in float32: the base and differences, or all."""
        held = np.empty((self.models, size), np.float32)
        status = program("values_of")(
            *self.arguments(address), int(self.origin), size, self.rounding,
            scratch(self.models).ctypes.data, held.ctypes.data,
        )  # fmt: skip
        self.check(status)
        return held

    def written(self, start: int, size: int, address: int, out: memoryview, write: Write) -> None:
        """Hand a chunk of the output on."""
        if self._seen is not None:
            self._seen(self, start, size, address, out)
        write(start, out)

    def bytes_at(self, address: int) -> Array:
        """Return the inputs of a chunk at its address, as bytes."""
        size = self.models * self.stride
        return np.frombuffer(memoryview((ctypes.c_uint8 * size).from_address(address)), np.uint8)

    def output(self, code: int, size: int) -> Array:
        """Return this thread's room for *size* elements of the output in the dtype *code*."""
        return _buffer("output", self.chunk * 4)[: size * width_of(code)]

    def _load(self, number: int, start: int, size: int, share: int) -> int:
        block = self.models * self.stride
        if self._held:
            data, offset = _buffer("inputs", self.chunks * block), number * block
            if number in self._filled:
                return int(data.ctypes.data) + offset
        else:
            data, offset, size = _buffer("inputs", block), 0, -(-size // share)
        view = memoryview(data)  # type: ignore[arg-type]
        with _nested():
            for model, (source, width) in enumerate(zip(self.sources, self._widths, strict=True)):
                begin = offset + model * self.stride
                source.fill(start, view[begin : begin + size * width])
        self._filled.add(number)
        return int(data.ctypes.data) + offset


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
        held = np.empty(size, np.uint8)
        setattr(_thread, key, held)
    return held
