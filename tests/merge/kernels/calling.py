"""Calls of the compiled programs on arrays, and what NumPy makes of the same."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from miscible.merge.kernels.constants import BF16, BINS, BLOCK, DELTA, F16, F32, SETTINGS
from miscible.merge.kernels.native import program

Array = np.ndarray[Any, Any]
SIZES = (1, 31, 32, 33, 1023, 1024, 1025, 4099)
"""Around a row of lanes, a block, and several blocks."""
MIXES = [(F32, F32, F32), (BF16, BF16, BF16), (F16, F16, F16), (BF16, F32, F16), (F16, BF16, F32)]
DELTA_MIXES = [(BF16, F32 | DELTA, BF16), (F16, F32 | DELTA, F32 | DELTA)]


def encoded(values: Array, code: int) -> Array:
    """Return float32 values as the bytes of a dtype, rounded by torch."""
    dtype = {F32: torch.float32, BF16: torch.bfloat16, F16: torch.float16}[code & 7]
    tensor = torch.from_numpy(np.ascontiguousarray(values, np.float32)).to(dtype)
    return tensor.view(torch.uint8).numpy() if tensor.numel() else np.zeros(0, np.uint8)


def decoded(data: Array, code: int) -> Array:
    """Return the bytes of a dtype as float32."""
    if code & 7 == BF16:
        return (data.view(np.uint16).astype(np.uint32) << 16).view(np.float32)
    return data.view(np.float16 if code & 7 == F16 else np.float32).astype(np.float32)


@dataclass
class Stored:
    """Tensors of several models as they lie in a chunk, and their values."""

    values: list[Array]
    codes: Array
    data: Array
    stride: int

    @classmethod
    def of(cls, arrays: Sequence[Array], codes: Sequence[int]) -> Stored:
        stride = 4 * max(len(arrays[0]), 1) + 12
        data = np.zeros(stride * len(arrays), np.uint8)
        values = []
        for number, (array, code) in enumerate(zip(arrays, codes, strict=True)):
            held = encoded(array, code)
            data[number * stride : number * stride + len(held)] = held
            values.append(decoded(held, code))
        return cls(values, np.array(codes, np.int64), data, stride)

    @classmethod
    def drawn(cls, size: int, codes: Sequence[int], seed: int = 0) -> Stored:
        generator = np.random.default_rng([seed, size])
        return cls.of([generator.normal(size=size).astype("f4") for _ in codes], codes)

    @property
    def models(self) -> int:
        return len(self.codes)

    @property
    def size(self) -> int:
        return len(self.values[0])

    def differences(self, rounding: int = 0) -> list[Array]:
        """Return the base and the differences from it, in float32."""
        base, *others = self.rounded(rounding)
        exact = (self.codes >= DELTA)[1:]
        return [base, *(x if e else x - base for x, e in zip(others, exact, strict=True))]

    def rounded(self, rounding: int) -> list[Array]:
        return [
            x if code >= DELTA or not rounding else decoded(encoded(x, rounding), rounding)
            for x, code in zip(self.values, self.codes, strict=True)
        ]

    def head(self) -> tuple[int, int, int, int, int]:
        self._places = np.array([max(self.size, 1), *[-1, 0] * self.models], np.int64)
        return (
            self.data.ctypes.data, self.stride, self._places.ctypes.data, self.codes.ctypes.data,
            self.models,
        )  # fmt: skip

    def scratch(self) -> int:
        # Filled with NaN: what a program does not set itself must not show.
        self._scratch = np.full((self.models + 4) * BLOCK, np.nan, np.float32)
        return int(self._scratch.ctypes.data)


def values_of(stored: Stored, *, origin: bool = False, rounding: int = 0) -> tuple[int, Array]:
    out = np.full((stored.models, stored.size), np.nan, np.float32)
    status = program("values_of")(
        *stored.head(), int(origin), stored.size, rounding, stored.scratch(),
        out.ctypes.data,
    )  # fmt: skip
    return status, out


def weighted_sum(
    stored: Stored, weights: Sequence[float], scale: float = 1.0, *, origin: bool, out: int = F32,
    rounding: int = 0,
) -> tuple[int, Array]:  # fmt: skip
    held = np.array(weights, np.float64)
    result = np.zeros(stored.size * (4 if out == F32 else 2), np.uint8)
    status = program("weighted_sum")(
        *stored.head(), int(origin), held.ctypes.data, scale, stored.size, rounding,
        stored.scratch(), result.ctypes.data, out,
    )  # fmt: skip
    return status, result


def gram(stored: Stored, *, origin: bool) -> Array:
    total = np.zeros((stored.models, stored.models))
    status = program("gram")(
        *stored.head(), int(origin), stored.size, 0, stored.scratch(),
        total.ctypes.data,
    )  # fmt: skip
    assert status == 0
    return total


@dataclass
class Kept:
    """Kinds and settings of sparsifiers, the base's first."""

    kinds: Sequence[int]
    settings: Sequence[Sequence[int]]

    def arrays(self) -> tuple[Array, Array]:
        settings = np.zeros((len(self.kinds), SETTINGS), np.int64)
        for row, given in zip(settings, self.settings, strict=True):
            row[: len(given)] = given
        return np.array(self.kinds, np.int64), settings


def norms(stored: Stored, kept: Kept, index: int = 0) -> Array:
    kinds, settings = kept.arrays()
    sums = np.zeros(2 * stored.models)
    status = program("norms")(
        *stored.head(), stored.size, 0, stored.scratch(), kinds.ctypes.data,
        settings.ctypes.data, index, sums.ctypes.data,
    )  # fmt: skip
    assert status == 0
    return sums.reshape(2, stored.models)


def histogram(stored: Stored, low: Sequence[int], shift: int) -> Array:
    bins, places = np.zeros((stored.models, BINS), np.int64), np.array(low, np.int64)
    status = program("histogram")(
        *stored.head(), stored.size, 0, stored.scratch(), places.ctypes.data, shift,
        bins.ctypes.data,
    )  # fmt: skip
    assert status == 0
    return bins


@dataclass
class Candidates:
    bits: Array
    places: Array
    filled: Array
    above: Array


def candidates(
    stored: Stored, low: Sequence[int], high: Sequence[int], index: int, room: int
) -> Candidates:
    found = Candidates(
        np.zeros((stored.models, room), np.uint32),
        np.full((stored.models, room), -1, np.int64),
        np.zeros(stored.models, np.int64),
        np.zeros(stored.models, np.int64),
    )
    lows, highs = np.array(low, np.int64), np.array(high, np.int64)
    status = program("candidates")(
        *stored.head(), stored.size, 0, stored.scratch(), lows.ctypes.data,
        highs.ctypes.data, index, found.bits.ctypes.data, found.places.ctypes.data, room,
        found.filled.ctypes.data, found.above.ctypes.data,
    )  # fmt: skip
    assert status == 0
    return found


def consensus(
    stored: Stored, kept: Kept, ratios: Sequence[float], weights: Sequence[float], *, rule: int,
    normalize: bool, scale: float = 1.0, index: int = 0, out: int = F32, rounding: int = 0,
) -> tuple[int, Array]:  # fmt: skip
    kinds, settings = kept.arrays()
    factors, shares = np.array(ratios, np.float64), np.array(weights, np.float64)
    result = np.zeros(stored.size * (4 if out == F32 else 2), np.uint8)
    status = program("consensus")(
        *stored.head(), stored.size, rounding, stored.scratch(), kinds.ctypes.data,
        settings.ctypes.data, index, factors.ctypes.data, shares.ctypes.data, rule,
        int(normalize), scale, result.ctypes.data, out,
    )  # fmt: skip
    return status, result


def magnitudes(values: Array) -> Array:
    return values.view(np.uint32) & np.uint32(0x7FFFFFFF)


def word(index: int, keys: tuple[int, int]) -> int:
    """Return the draw of an element, by whole numbers of any length."""
    mask = 2**32 - 1
    x = (index & mask) ^ keys[0] ^ ((index >> 32) * 0x85EBCA6B & mask)
    x ^= x >> 17
    x = x * 0xED5AD4BB & mask
    x ^= x >> 11
    x = (x + keys[1]) & mask
    x = x * 0xAC4C1B51 & mask
    x ^= x >> 15
    x = x * 0x31848BAB & mask
    return x ^ (x >> 14)
