"""What the programs read and write is exactly what the dtypes mean."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from merge.kernels.calling import Stored, decoded, encoded, values_of, weighted_sum
from miscible.merge.kernels.constants import BF16, DELTA, F16, F32

TORCH = {BF16: torch.bfloat16, F16: torch.float16}


def stored_bits(bits: np.ndarray, code: int) -> Stored:
    data = np.ascontiguousarray(bits).view(np.uint8)
    return Stored([decoded(data, code)], np.array([code], np.int64), data, data.size)


def copied(bits: np.ndarray, code: int, out: int) -> np.ndarray:
    status, result = weighted_sum(stored_bits(bits, code), [1.0], origin=False, out=out)
    assert status == 0
    return result


@pytest.mark.parametrize("code", [BF16, F16])
def test_every_16_bit_number_is_read_exactly(code: int) -> None:
    every = np.arange(1 << 16, dtype=np.uint16)
    finite = every[np.isfinite(decoded(every.view(np.uint8), code))]
    assert len(finite) == {BF16: 65536 - 256, F16: 65536 - 2048}[code]
    status, read = values_of(stored_bits(finite, code))
    assert status == 0
    by_torch = torch.from_numpy(finite.view(np.int16)).view(TORCH[code]).float().numpy()
    assert np.array_equal(read[0].view(np.uint32), by_torch.view(np.uint32))
    assert np.array_equal(copied(finite, code, code).view(np.uint16), finite)


@pytest.mark.parametrize("code", [BF16, F16, F32, F32 | DELTA])
@pytest.mark.parametrize("size", [1, 31, 1025])
def test_everything_that_is_not_finite_is_found(code: int, size: int) -> None:
    every = np.arange(1 << 16, dtype=np.uint32)
    bits = every << 16 | (every & 1) if code & 7 == F32 else every.astype(np.uint16)
    bad = bits[~np.isfinite(decoded(bits.view(np.uint8), code))]
    assert len(bad) == {BF16: 256, F16: 2048, F32: 256, F32 | DELTA: 256}[code]
    for place in (0, size // 2, size - 1):
        for found in bad[:: len(bad) // 16]:
            held = np.zeros(size, bits.dtype)
            held[place] = found
            status, _ = values_of(stored_bits(held, code))
            assert status == 1, f"{found:#x} at {place}"


def hard_float32() -> np.ndarray:
    """Random bits, and all that lies at, just below and just above every halfway case."""
    generator = np.random.default_rng(5)
    random = generator.integers(0, 2**32, 1 << 18, dtype=np.uint64).astype(np.uint32)
    every = np.arange(1 << 16, dtype=np.uint32)
    near = [(every << 16) + step for step in (0, 1, 0x7FFF, 0x8000, 0x8001, 0xFFFF)]
    halves = np.arange(1 << 15, dtype=np.uint16).view(np.float16).astype(np.float64)
    halves = halves[np.isfinite(halves)]
    middle = ((halves[1:] + halves[:-1]) / 2).astype(np.float32).view(np.uint32)
    beyond = np.array([65519.996, 65520.0, 65535.0, 3.3e38], np.float32).view(np.uint32)
    found = [random, *near, *(middle + np.uint32(step) for step in (0, 1, 2**32 - 1)), beyond]
    bits = np.concatenate(found)
    bits = np.concatenate([bits, bits ^ np.uint32(1 << 31)])
    return bits[np.isfinite(bits.view(np.float32))]


@pytest.mark.parametrize("code", [BF16, F16])
def test_float32_is_rounded_as_torch_rounds(code: int) -> None:
    bits = hard_float32()
    by_torch = encoded(bits.view(np.float32), code).view(np.uint16)
    fits = np.isfinite(decoded(by_torch.view(np.uint8), code))
    rounded = copied(bits[fits], F32, code).view(np.uint16)
    wrong = np.flatnonzero(rounded != by_torch[fits])
    assert not len(wrong), [hex(bits[fits][i]) for i in wrong[:5]]
    assert 10 < (~fits).sum() < fits.sum()
    for number in bits[~fits][:: max(1, (~fits).sum() // 64)]:
        status, _ = weighted_sum(stored_bits(number[None], F32), [1.0], origin=False, out=code)
        assert status == -1, hex(number)


@pytest.mark.parametrize("rounding", [BF16, F16])
@pytest.mark.parametrize("code", [F32, BF16, F16])
def test_inputs_are_rounded_first(code: int, rounding: int) -> None:
    generator = np.random.default_rng(1)
    values = (generator.normal(size=3000) * 10.0 ** generator.integers(-9, 4, 3000)).astype("f4")
    stored = Stored.of([values, values], [code, F32 | DELTA])
    status, read = values_of(stored, rounding=rounding)
    assert status == 0
    wanted = torch.from_numpy(stored.values[0]).to(TORCH[rounding]).float().numpy()
    assert np.array_equal(read[0], wanted)
    assert np.array_equal(read[1], values), "differences are not rounded"


def test_an_input_that_the_rounding_makes_infinite_is_found() -> None:
    stored = Stored.of([np.array([1.0, 1e6], np.float32)] * 2, [F32, BF16])
    assert values_of(stored, rounding=F16)[0] == 1
    assert values_of(stored, rounding=BF16)[0] == 0
