"""Masks of what is kept by rank are those of the definition, element by element."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from merge.engine.tensors import Array, grid, passes_of
from merge.kernels.calling import decoded, encoded, word
from miscible.merge.engine.ranks import rank_masks
from miscible.merge.kernels.constants import BF16, F32
from miscible.merge.ops.random import ElementRandom
from miscible.merge.ops.sparsify import KeepByRank

SHAPES: list[tuple[int, ...]] = [
    (1,), (2,), (33,), (5000,), (1, 1), (7, 1), (1, 7), (40, 2), (33, 31), (3, 1025), (2, 5000),
    (6, 5, 40), (700, 3), (),
]  # fmt: skip


def by_definition(
    delta: Array, shape: Sequence[int], density: float, epsilon: float, words: Array
) -> Array:
    """Return what is kept: rank the magnitudes of each row, and compare draws in float64."""
    rows = delta.reshape(-1, shape[-1] if len(shape) > 1 else max(delta.size, 1))
    draws = words.reshape(rows.shape).astype("f8")
    length = rows.shape[1]
    kept = np.zeros(rows.shape, bool)
    for number, row in enumerate(rows):
        order = np.argsort(np.abs(row), kind="stable")
        rank = np.empty(length)
        rank[order] = np.arange(length)
        chance = np.full(length, density)
        if length > 1:
            chance = density - epsilon + 2 * epsilon * rank / (length - 1)
        kept[number] = draws[number] < chance * 2.0**32
    return kept.reshape(-1) & (density > 0)


def masks_of(
    values: Sequence[Array],
    sparsifiers: Mapping[int, KeepByRank],
    keys: Mapping[int, tuple[int, int]],
    **options: object,
) -> dict[int, Array]:
    passes = passes_of(values, **options)  # type: ignore[arg-type]
    masks = rank_masks(passes, sparsifiers, keys)
    return {
        m: np.unpackbits(mask, bitorder="little")[: passes.count].astype(bool)
        for m, mask in masks.items()
    }


def drawn(kind: str, size: int) -> Array:
    generator = np.random.default_rng(size)
    if kind == "normal":
        return generator.normal(size=size).astype("f4")
    if kind == "equal":
        return np.full(size, -0.5, "f4")
    if kind == "zeros":
        return np.where(generator.random(size) < 0.9, 0, generator.normal(size=size)).astype("f4")
    if kind == "few":
        return generator.integers(-2, 3, size).astype("f4")
    return (10.0 ** generator.uniform(-38, 38, size)).astype("f4")


@pytest.mark.parametrize("kind", ["normal", "equal", "zeros", "few", "wide"])
@pytest.mark.parametrize("shape", SHAPES)
def test_masks_equal_the_definition(
    monkeypatch: pytest.MonkeyPatch, shape: tuple[int, ...], kind: str
) -> None:
    size = int(np.prod(shape))
    delta, random = drawn(kind, size), ElementRandom(0, "m", "w")
    words = random.words(size)
    for density, epsilon in ((0.5, 0.15), (0.5, 0.5), (0.9, 0.1), (0.1, 0.1), (0.3, 0.0), (0, 1)):
        wanted = by_definition(delta, shape, density, epsilon, words)
        sparsifier = KeepByRank(density, epsilon)
        for chunk in (1024, 1 << 18):
            with grid(monkeypatch, chunk):
                found = masks_of(
                    [np.zeros(size, "f4"), delta], {1: sparsifier}, {1: random.keys}, shape=shape
                )
            assert np.array_equal(found[1], wanted), (density, epsilon, chunk)


def test_several_models_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    generator, shape = np.random.default_rng(0), (60, 70)
    values = [encoded(generator.normal(size=4200), BF16) for _ in range(4)]
    tensors = [decoded(value, BF16) for value in values]
    sparsifiers = {1: KeepByRank(0.4, 0.1), 3: KeepByRank(0.7, 0.3)}
    randoms = {m: ElementRandom(1, str(m), "w") for m in sparsifiers}
    keys = {m: random.keys for m, random in randoms.items()}
    with grid(monkeypatch, 1024, held=False), ThreadPoolExecutor(3) as pool:
        found = masks_of(tensors, sparsifiers, keys, shape=shape, codes=[BF16] * 4, pool=pool)
    for m, s in sparsifiers.items():
        wanted = by_definition(
            tensors[m] - tensors[0], shape, s.density, s.epsilon, randoms[m].words(4200)
        )
        assert np.array_equal(found[m], wanted)


def keys_for(wanted: int, index: int, second: int = 99) -> tuple[int, int]:
    """Return keys under which an element draws this word: the hash, backwards."""
    size = 2**32

    def undo_shift(x: int, shift: int) -> int:
        result = x
        for _ in range(32 // shift + 1):
            result = x ^ (result >> shift)
        return result

    x = undo_shift(wanted, 14) * pow(0x31848BAB, -1, size) % size
    x = undo_shift(x, 15) * pow(0xAC4C1B51, -1, size) % size
    x = undo_shift((x - second) % size, 11) * pow(0xED5AD4BB, -1, size) % size
    keys = undo_shift(x, 17) ^ index, second
    assert word(index, keys) == wanted
    return keys


@pytest.mark.parametrize("index", [0, 63])
@pytest.mark.parametrize(
    ("density", "epsilon"), [(0.5, 0.5), (0.85, 0.15), (0.75, 0.25), (0.9, 0.1)]
)
def test_draws_at_the_limits(index: int, density: float, epsilon: float) -> None:
    """The largest rank may have probability 1, the smallest 0: every word decides as stated."""
    delta = np.arange(1, 65, dtype="f4")
    chance = density - epsilon + 2 * epsilon * index / 63
    limit = int(np.ceil(chance * 2**32))
    for held in {0, 1, limit - 1, limit, limit + 1, 2**32 - 2, 2**32 - 1}:
        if not 0 <= held < 2**32:
            continue
        keys = keys_for(held, index)
        found = masks_of([np.zeros(64, "f4"), delta], {1: KeepByRank(density, epsilon)}, {1: keys})
        words = np.array([word(i, keys) for i in range(64)], np.uint32)
        assert np.array_equal(found[1], by_definition(delta, (64,), density, epsilon, words)), held


def test_a_difference_is_taken_from_the_base() -> None:
    base, moved = np.array([1, -2, 3, 4], "f4"), np.array([1.5, -2.1, 3, 2], "f4")
    random = ElementRandom(0, "m", "w")
    found = masks_of([base, moved], {1: KeepByRank(0.5, 0.4)}, {1: random.keys}, codes=[F32, F32])
    wanted = by_definition(moved - base, (4,), 0.5, 0.4, random.words(4))
    assert np.array_equal(found[1], wanted)
