"""The k-th largest magnitude is that of a sort, however the elements lie."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from merge.engine.tensors import Array, grid, passes_of
from merge.kernels.calling import encoded, magnitudes
from miscible.merge.engine.thresholds import kth_largest
from miscible.merge.kernels.constants import BF16, F16, F32

Made = Callable[[np.random.Generator, int], Array]


def by_sorting(delta: Array, count: int) -> Array:
    """Return which elements are among the *count* largest, the lowest index first of equals."""
    order = np.lexsort((np.arange(delta.size), -magnitudes(delta).astype(np.int64)))
    kept = np.zeros(delta.size, bool)
    kept[order[:count]] = True
    return kept


def assert_sorted(passes_values: Sequence[Array], counts: Sequence[int], **options: object) -> None:
    """Check the thresholds of differences from the first of *passes_values*."""
    passes = passes_of(passes_values, **options)  # type: ignore[arg-type]
    found = kth_largest(passes, counts)
    assert len(found) == len(counts)
    base, places = passes_values[0].reshape(-1), np.arange(passes.count)
    for value, count, threshold in zip(passes_values[1:], counts, found, strict=True):
        delta = value.reshape(-1) - base
        bits = magnitudes(delta)
        kept = (bits > threshold.bits) | ((bits == threshold.bits) & (places <= threshold.last))
        assert np.array_equal(kept, by_sorting(delta, count)), f"{count} of {delta.size}"


def bf16(values: Array) -> Array:
    return (encoded(values, BF16).view(np.uint16).astype(np.uint32) << 16).view(np.float32)


def spikes_at_the_end(generator: np.random.Generator, size: int) -> Array:
    values = generator.normal(size=size).astype("f4") * 1e-6
    values[-max(1, size // 50) :] *= np.float32(1e9)
    return values


def low_at_the_start_of_chunks(generator: np.random.Generator, size: int) -> Array:
    values = generator.normal(size=size).astype("f4")
    values[np.arange(size) % 1024 < 64] *= np.float32(1e-3)  # all that is sampled
    return values


def high_at_the_start_of_chunks(generator: np.random.Generator, size: int) -> Array:
    values = generator.normal(size=size).astype("f4")
    values[np.arange(size) % 1024 < 64] *= np.float32(1e3)
    return values


def mostly_zeros(generator: np.random.Generator, size: int) -> Array:
    return np.where(generator.random(size) < 0.97, 0, generator.normal(size=size)).astype("f4")


def few_values(generator: np.random.Generator, size: int) -> Array:
    return generator.integers(-3, 4, size).astype("f4") * np.float32(2.0**-9)


def bf16_differences(generator: np.random.Generator, size: int) -> Array:
    base = generator.normal(size=size).astype("f4") * np.float32(0.02)
    moved = base + generator.normal(size=size).astype("f4") * np.float32(1e-4)
    return bf16(moved) - bf16(base)


def subnormal(generator: np.random.Generator, size: int) -> Array:
    return (generator.integers(-50, 51, size).astype("f8") * 2.0**-149).astype("f4")


def sorted_values(generator: np.random.Generator, size: int) -> Array:
    return np.sort(np.abs(generator.normal(size=size))).astype("f4")


DATA: list[Made] = [
    lambda generator, size: generator.normal(size=size).astype("f4"),
    lambda generator, size: np.full(size, 0.25, "f4"),
    lambda generator, size: np.zeros(size, "f4"),
    few_values,
    bf16_differences,
    mostly_zeros,
    subnormal,
    sorted_values,
    lambda generator, size: sorted_values(generator, size)[::-1].copy(),
    spikes_at_the_end,
    low_at_the_start_of_chunks,
    high_at_the_start_of_chunks,
    lambda generator, size: (10.0 ** generator.uniform(-38, 38, size)).astype("f4"),
]
SIZES = [1, 2, 33, 1025, 40_000]


def counts_of(size: int) -> list[int]:
    return sorted({0, 1, 2, size // 50, size // 5, size // 2, size - 1, size} - {-1})


@pytest.mark.parametrize("made", DATA)
@pytest.mark.parametrize("size", SIZES)
def test_thresholds_equal_a_sort(monkeypatch: pytest.MonkeyPatch, size: int, made: Made) -> None:
    delta = made(np.random.default_rng(size), size)
    for chunk in (1024, 1 << 18):
        with grid(monkeypatch, chunk):
            for count in counts_of(size):
                assert_sorted([np.zeros(size, "f4"), delta], [min(count, size)])


@pytest.mark.parametrize("made", DATA)
def test_models_with_counts_of_their_own(monkeypatch: pytest.MonkeyPatch, made: Made) -> None:
    generator, size = np.random.default_rng(3), 20_000
    values = [np.zeros(size, "f4"), *(make(generator, size) for make in (made, *DATA[:5], made))]
    counts = [size // 3, 0, size, 1, size - 1, 7000, size // 10]
    with grid(monkeypatch, 2048):
        assert_sorted(values, counts)
        with ThreadPoolExecutor(3) as pool:
            assert_sorted(values, counts, pool=pool)
    with grid(monkeypatch, 2048, held=False):
        assert_sorted(values, counts)


@pytest.mark.parametrize("code", [BF16, F16])
def test_differences_of_stored_numbers(monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    generator, size = np.random.default_rng(4), 30_000
    base = generator.normal(size=size).astype("f4") * np.float32(0.02)
    near = [base + generator.normal(size=size).astype("f4") * np.float32(s) for s in (1e-4, 1e-5)]
    stored = [encoded(value, code) for value in (base, *near)]
    from merge.kernels.calling import decoded

    values = [decoded(data, code) for data in stored]
    for chunk in (1024, 1 << 18):
        with grid(monkeypatch, chunk):
            for density in (0.0001, 0.1, 0.2, 0.5, 0.9, 0.999):
                assert_sorted(values, [int(density * size)] * 2, codes=[code] * 3)


def test_a_tensor_whose_sample_is_drawn_thinly(monkeypatch: pytest.MonkeyPatch) -> None:
    generator, size = np.random.default_rng(5), 3_000_000
    for made in (DATA[0], bf16_differences, spikes_at_the_end):
        assert_sorted([np.zeros(size, "f4"), made(generator, size)], [600_000], codes=[F32, F32])


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_any_numbers(monkeypatch: pytest.MonkeyPatch, data: st.DataObject) -> None:
    size = data.draw(st.integers(1, 3000))
    pieces = data.draw(
        st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=1, max_size=9)
    )
    order = np.random.default_rng(data.draw(st.integers(0, 99)))
    delta = order.choice(np.array(pieces, "f4"), size)
    if data.draw(st.booleans()):
        delta = np.sort(delta)
    with grid(monkeypatch, 1024):
        assert_sorted([np.zeros(size, "f4"), delta], [data.draw(st.integers(0, size))])
