"""The programs give, bit for bit, what float32 arithmetic in the stated order gives."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from merge.kernels.calling import (
    DELTA_MIXES,
    MIXES,
    SIZES,
    Array,
    Kept,
    Stored,
    candidates,
    consensus,
    decoded,
    encoded,
    gram,
    histogram,
    magnitudes,
    norms,
    values_of,
    weighted_sum,
    word,
)
from miscible.merge.kernels.constants import (
    BF16,
    BINS,
    BLOCK,
    F16,
    F32,
    KEEP_ALL,
    KEEP_BAND,
    KEEP_LARGEST,
    KEEP_MASK,
    KEEP_RANDOM,
    LANES,
    SIGNS,
    SUM,
)

ONE = np.float32(1)


@pytest.mark.parametrize("codes", MIXES + DELTA_MIXES)
@pytest.mark.parametrize("size", SIZES)
def test_values_and_differences(size: int, codes: Sequence[int]) -> None:
    stored = Stored.drawn(size, codes)
    if codes not in DELTA_MIXES:
        status, plain = values_of(stored)
        assert status == 0
        assert np.array_equal(plain, stored.values)
    status, differences = values_of(stored, origin=True)
    assert status == 0
    assert np.array_equal(differences, stored.differences())


@pytest.mark.parametrize("rounding", [0, BF16])
@pytest.mark.parametrize("out", [F32, BF16, F16])
@pytest.mark.parametrize("codes", MIXES)
@pytest.mark.parametrize("size", SIZES)
def test_weighted_sum(size: int, codes: Sequence[int], out: int, rounding: int) -> None:
    stored, weights = Stored.drawn(size, codes), [0.3, -1.7, 0.1]
    wanted = np.zeros(size, np.float32)
    for number, (value, weight) in enumerate(zip(stored.rounded(rounding), weights, strict=True)):
        term = value * np.float32(weight)
        wanted = wanted + term if number else term
    status, found = weighted_sum(stored, weights, origin=False, out=out, rounding=rounding)
    assert status == 0
    assert np.array_equal(found, encoded(wanted, out))


@pytest.mark.parametrize("scale", [1.0, 0.7])
@pytest.mark.parametrize("codes", MIXES + DELTA_MIXES)
@pytest.mark.parametrize("size", SIZES)
def test_weighted_sum_of_differences(size: int, codes: Sequence[int], scale: float) -> None:
    stored, weights = Stored.drawn(size, codes), [9.0, -1.7, 0.1]
    base, one, two = stored.differences()
    total = one * np.float32(-1.7) + two * np.float32(0.1)
    wanted = base + (total if scale == 1.0 else total * np.float32(scale))
    status, found = weighted_sum(stored, weights, scale, origin=True)
    assert status == 0
    assert np.array_equal(decoded(found, F32), wanted)


def lane_sum(terms: Array) -> float:
    """Add up terms in the lanes of each block, in their dtype, then the lanes in order."""
    total = 0.0
    for start in range(0, len(terms), BLOCK):
        block = terms[start : start + BLOCK]
        lanes = np.zeros(LANES, terms.dtype)
        for row in np.pad(block, (0, -len(block) % LANES)).reshape(-1, LANES):
            lanes = lanes + row
        whole = 0.0
        for lane in lanes:
            whole += float(lane)
        total += whole
    return total


@pytest.mark.parametrize("origin", [False, True])
@pytest.mark.parametrize("codes", MIXES + DELTA_MIXES)
@pytest.mark.parametrize("size", SIZES)
def test_gram(size: int, codes: Sequence[int], origin: bool) -> None:
    if codes in DELTA_MIXES and not origin:
        return
    stored = Stored.drawn(size, codes)
    values = stored.differences() if origin else stored.values
    found, first = gram(stored, origin=origin), int(origin)
    assert (found[:first] == 0).all()
    assert (found[:, :first] == 0).all()
    for a in range(first, 3):
        for b in range(first, 3):
            products = values[a].astype("f8") * values[b].astype("f8")  # exact
            assert found[a, b] == lane_sum(products)
            assert abs(found[a, b] - products.sum()) <= 1e-14 * np.abs(products).sum()


def settings_of(stored: Stored, seed: int = 0, index: int = 0) -> tuple[dict[int, Kept], Array]:
    """Return sparsifiers of each kind, and the mask that one of them points to."""
    generator = np.random.default_rng(seed)
    size, held = stored.size, [magnitudes(d) for d in stored.differences()]
    ranked = [np.sort(bits) for bits in held]
    low = [int(bits[size // 3]) for bits in ranked]
    high = [int(bits[size - 1 - size // 8]) for bits in ranked]
    mask = generator.integers(0, 256, (index + size + LANES - 1) // LANES * 4, dtype=np.uint8)
    places = [int(np.flatnonzero(bits == edge)[0]) for bits, edge in zip(held, low, strict=True)]
    top = [int(np.flatnonzero(bits == edge)[0]) for bits, edge in zip(held, high, strict=True)]
    models = range(1, stored.models)
    kept = {
        KEEP_ALL: [()] * len(models),
        KEEP_LARGEST: [(low[m], places[m] + index) for m in models],
        KEEP_BAND: [(low[m], places[m] + index, high[m], top[m] + index) for m in models],
        KEEP_RANDOM: [(int(0.4 * 2**32), 12345 + m, 2**32 - m) for m in models],
        KEEP_MASK: [(mask.ctypes.data,)] * len(models),
    }
    return {
        kind: Kept([KEEP_ALL] + [kind] * len(models), [(), *settings])
        for kind, settings in kept.items()
    }, mask


def kept_of(stored: Stored, kept: Kept, mask: Array, index: int = 0) -> list[Array]:
    """Return the differences with what the sparsifiers drop set to +0, by their definition."""
    base, *differences = stored.differences()
    found, places = [base], index + np.arange(stored.size)
    for kind, settings, value in zip(kept.kinds[1:], kept.settings[1:], differences, strict=True):
        bits = magnitudes(value).astype(np.int64)
        keep = np.ones(stored.size, bool)
        if kind in (KEEP_LARGEST, KEEP_BAND):
            threshold, last = settings[:2]
            keep = (bits > threshold) | ((bits == threshold) & (places <= last))
        if kind == KEEP_BAND:
            threshold, last = settings[2:]
            keep &= ~((bits > threshold) | ((bits == threshold) & (places <= last)))
        if kind == KEEP_RANDOM:
            keep = np.array([word(int(i), settings[1:]) < settings[0] for i in places])
        if kind == KEEP_MASK:
            keep = np.unpackbits(mask, bitorder="little")[places].astype(bool)
        found.append(np.where(keep, value, np.float32(0)))
    return found


KINDS = [KEEP_ALL, KEEP_LARGEST, KEEP_BAND, KEEP_RANDOM, KEEP_MASK]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("index", [0, 4096 + LANES])
@pytest.mark.parametrize("size", SIZES)
def test_norms(size: int, index: int, kind: int) -> None:
    for codes in (MIXES[1], MIXES[3], DELTA_MIXES[0]):
        stored = Stored.drawn(size, codes)
        kept, mask = settings_of(stored, index=index)
        whole, sparse = norms(stored, kept[kind], index)
        for m in range(1, 3):
            assert whole[m] == lane_sum(np.abs(stored.differences()[m]))
            assert sparse[m] == lane_sum(np.abs(kept_of(stored, kept[kind], mask, index)[m]))


def elected(values: Sequence[Array], weights: Sequence[float], normalize: bool) -> Array:
    """The sum of what agrees with the elected sign, in the order of the models, float32."""
    vote = np.zeros_like(values[0])
    for value in values:
        vote = vote + value
    merged, divisor = np.zeros_like(vote), np.zeros_like(vote)
    for value, weight in zip(values, weights, strict=True):
        agrees = np.where(vote >= 0, value > 0, value < 0)
        merged = merged + np.where(agrees, value, np.float32(0))
        divisor = divisor + np.where(agrees, np.float32(weight), np.float32(0))
    return merged / np.where(divisor == 0, ONE, divisor) if normalize else merged


@pytest.mark.parametrize(
    ("rule", "normalize", "scale", "ratios", "out"),
    [
        (SUM, False, 1.0, (1.0, 1.0, 1.0), F32),
        (SUM, False, 0.7, (1.0, 1.3, 2.0), BF16),
        (SIGNS, False, 1.0, (1.0, 1.0, 1.0), F32),
        (SIGNS, True, 1.5, (1.0, 1.0, 1.9), F16),
        (SIGNS, True, 1.0, (1.0, 1.1, 1.0), F32),
    ],
)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("codes", [MIXES[1], MIXES[4], DELTA_MIXES[0]])
def test_consensus(
    codes: Sequence[int],
    kind: int,
    rule: int,
    normalize: bool,
    scale: float,
    ratios: Sequence[float],
    out: int,
) -> None:
    weights, index = (0.0, 0.8, -0.3), 2 * BLOCK
    for size in SIZES:
        stored = Stored.drawn(size, codes)
        kept, mask = settings_of(stored, index=index)
        base, *values = kept_of(stored, kept[kind], mask, index)
        terms = [
            value * np.float32(ratio) * np.float32(weight)
            for value, ratio, weight in zip(values, ratios[1:], weights[1:], strict=True)
        ]
        total = terms[0] + terms[1]
        if rule == SIGNS:
            total = elected(terms, weights[1:], normalize)
        wanted = base + total * np.float32(scale)
        status, found = consensus(
            stored, kept[kind], ratios, weights, rule=rule, normalize=normalize, scale=scale,
            index=index, out=out,
        )  # fmt: skip
        assert status == 0
        assert np.array_equal(decoded(found, out), decoded(encoded(wanted, out), out)), size


def test_consensus_rounds_inputs_first_and_reports_overflow() -> None:
    stored = Stored.drawn(1500, (F32, F32, F32))
    kept = Kept([KEEP_ALL] * 3, [()] * 3)
    options = {"rule": SUM, "normalize": False}
    status, found = consensus(stored, kept, [1] * 3, [0, 1, 1], rounding=BF16, **options)
    base, one, two = stored.rounded(BF16)
    assert status == 0
    assert np.array_equal(decoded(found, F32), base + ((one - base) + (two - base)))
    assert consensus(stored, kept, [1] * 3, [0, 1e6, 1], out=F16, **options)[0] == -1
    assert consensus(stored, kept, [1] * 3, [0, 1e38, 1e38], out=F32, **options)[0] == -1


def test_votes_that_cancel_elect_plus() -> None:
    stored = Stored.of([np.zeros(4), np.array([1, -1, 0, 2]), np.array([-1, 1, 0, -1])], [F32] * 3)
    kept = Kept([KEEP_ALL] * 3, [()] * 3)
    options = {"rule": SIGNS, "normalize": True}
    _, found = consensus(stored, kept, [1] * 3, [0, 0.5, 0.5], **options)
    assert decoded(found, F32).tolist() == [1, 1, 0, 2]


@pytest.mark.parametrize(("shift", "centre"), [(15, 0.0), (0, 1.0), (7, 0.5)])
@pytest.mark.parametrize("size", SIZES)
def test_histogram(size: int, shift: int, centre: float) -> None:
    low = [0] + [int(np.float32(centre).view(np.uint32)) + m for m in (0, 99)]
    for codes in (MIXES[1], MIXES[3], DELTA_MIXES[1]):
        stored = Stored.drawn(size, codes)
        found = histogram(stored, low, shift)
        assert not found[0].any()
        for m in range(1, 3):
            bits = magnitudes(stored.differences()[m]).astype(np.int64)
            places = (bits - low[m]) >> shift
            inside = places[(places >= 0) & (places < BINS)]
            assert np.array_equal(found[m], np.bincount(inside, minlength=BINS))


@pytest.mark.parametrize("room", [0, 3, 5000])
@pytest.mark.parametrize("size", SIZES)
def test_candidates(size: int, room: int) -> None:
    for codes in (MIXES[1], MIXES[3], DELTA_MIXES[1]):
        stored = Stored.drawn(size, codes)
        held = [magnitudes(d).astype(np.int64) for d in stored.differences()]
        low = [int(np.sort(bits)[size // 3]) for bits in held]
        high = [low[0], low[1] + 1, int(np.sort(held[2])[-1 - size // 5]) + 1]
        found = candidates(stored, low, high, 7 * BLOCK, room)
        for m in range(1, 3):
            places = np.flatnonzero((held[m] >= low[m]) & (held[m] < high[m]))
            assert found.above[m] == (held[m] >= high[m]).sum()
            assert found.filled[m] == len(places)
            count = min(room, len(places))
            assert np.array_equal(found.bits[m, :count], held[m][places[:count]])
            assert np.array_equal(found.places[m, :count], 7 * BLOCK + places[:count])
            assert (found.places[m, count:] == -1).all(), "written beyond the room"


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("code", [F32, BF16, F16])
@pytest.mark.parametrize("place", [0, 1500, 2999])
def test_the_first_model_that_is_not_finite_is_named(place: int, code: int, bad: float) -> None:
    values = np.ones((3, 3000), np.float32)
    values[1:, place] = bad
    stored = Stored.of(list(values), [F32, code, code])
    assert values_of(stored)[0] == 2
    # Of bfloat16 inputs only the sum is looked at; `values_of` then tells whose fault it was.
    assert weighted_sum(stored, [1, 0, 0], origin=False)[0] == (-1 if code == BF16 else 2)
    kept = Kept([KEEP_ALL] * 3, [()] * 3)
    assert consensus(stored, kept, [1] * 3, [0] * 3, rule=SUM, normalize=False)[0] == 2
