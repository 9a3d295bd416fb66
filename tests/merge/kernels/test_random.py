"""The draws: the same words everywhere, and no pattern that a merge could see."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from merge.kernels.calling import Array, Kept, Stored, consensus, decoded, word
from miscible.merge.kernels.constants import F32, KEEP_ALL, KEEP_RANDOM, SUM
from miscible.merge.ops.random import RANGE, ElementRandom

COUNT = 1 << 18
GENERATORS = [
    ElementRandom(seed, model, tensor)
    for seed in (0, 1)
    for model in ("a", "b")
    for tensor in ("model.layers.0.mlp.up_proj.weight", "model.layers.1.mlp.up_proj.weight")
]


def drawn_mask(limit: int, keys: tuple[int, int], start: int, size: int) -> Array:
    """Return which of the elements from *start* on the program keeps."""
    stored = Stored.of([np.zeros(size), np.ones(size)], [F32, F32])
    kept = Kept([KEEP_ALL, KEEP_RANDOM], [(), (limit, *keys)])
    status, out = consensus(
        stored, kept, [1, 1], [0, 1], rule=SUM, normalize=False, index=start
    )  # fmt: skip
    assert status == 0
    return decoded(out, F32) == 1


@pytest.mark.parametrize("generator", GENERATORS[:3])
def test_words_are_the_stated_hash(generator: ElementRandom) -> None:
    assert generator.words(2000).tolist() == [word(i, generator.keys) for i in range(2000)]
    assert all(0 <= key < RANGE for key in generator.keys)


@pytest.mark.parametrize("start", [0, 1024, 2**32 - 1024, 2**32, 5 * 2**32 + 1024 * 777])
def test_the_program_draws_the_same_words(start: int) -> None:
    keys = GENERATORS[1].keys
    for i in range(0, 1500, 31):
        held = word(start + i, keys)
        # Just at the word it is dropped, just above it is kept: no other word would do both.
        assert not drawn_mask(held, keys, start, 1500)[i]
        if held + 1 < RANGE:
            assert drawn_mask(held + 1, keys, start, 1500)[i]


def test_indices_beyond_32_bits_have_words_of_their_own() -> None:
    keys = GENERATORS[0].keys
    first = np.array([word(i, keys) for i in range(4096)])
    for upper in (1, 2, 3, 255):
        later = np.array([word((upper << 32) + i, keys) for i in range(4096)])
        assert abs(np.corrcoef(first, later)[0, 1]) < 5 / 64
        assert (first == later).sum() <= 1


@pytest.mark.parametrize("generator", GENERATORS)
def test_every_bit_and_byte_is_uniform(generator: ElementRandom) -> None:
    words = generator.words(COUNT)
    bits = (words[:, None] >> np.arange(32, dtype=np.uint32)) & 1
    ones = bits.sum(axis=0)
    assert np.abs(ones - COUNT / 2).max() < 5 * np.sqrt(COUNT / 4)
    # Bits of one word are independent of each other.
    correlation = np.corrcoef(bits.T)
    assert np.abs(correlation[~np.eye(32, dtype=bool)]).max() < 5.5 / np.sqrt(COUNT)
    for byte in words.view(np.uint8).reshape(-1, 4).T:
        assert_uniform(byte)


@pytest.mark.parametrize("lag", [1, 2, 3, 8, 64, 1024, 4096, 1 << 17])
def test_neighbours_are_independent(lag: int) -> None:
    for generator in GENERATORS[:4]:
        words = generator.words(COUNT)
        assert_independent(words[:-lag], words[lag:])


def test_models_tensors_and_seeds_are_independent() -> None:
    words = [generator.words(COUNT) for generator in GENERATORS]
    for one, other in itertools.combinations(words, 2):
        assert_independent(one, other)
        changed = np.bitwise_count(one ^ other)
        assert abs(changed.mean() - 16) < 5 * np.sqrt(8 / COUNT)


def test_keys_that_differ_in_one_bit_are_independent() -> None:
    # The keys are digests, so this never happens; the hash would stand it.
    index = np.arange(1 << 12)
    plain = np.array([word(int(i), (77, 99)) for i in index], np.uint32)
    for bit in range(0, 32, 5):
        moved = np.array([word(int(i), (77, 99 ^ 1 << bit)) for i in index], np.uint32)
        flips = np.bitwise_count(plain ^ moved).mean()
        assert 12 < flips < 20, f"second key, bit {bit}: {flips:.2f} bits change"


@pytest.mark.parametrize("density", [0.01, 0.1, 0.5, 0.9])
def test_masks_have_their_density_and_runs(density: float) -> None:
    for generator in GENERATORS[:4]:
        mask = generator.bernoulli(density, (COUNT,)).numpy()
        deviation = np.sqrt(COUNT * density * (1 - density))
        assert abs(mask.sum() - COUNT * density) < 5 * deviation
        # Runs of what is dropped have the lengths of independent draws.
        gaps = np.diff(np.flatnonzero(mask)) - 1
        wanted = density * (1 - density) ** np.arange(8)
        found = np.array([(gaps == length).mean() for length in range(8)])
        spread = np.sqrt(wanted * (1 - wanted) / len(gaps))
        assert (np.abs(found - wanted) < 5 * spread).all()
        # Rows of a matrix keep numbers of elements that are binomial too.
        rows = mask.reshape(512, 512).sum(axis=1)
        assert abs(rows.var() / (512 * density * (1 - density)) - 1) < 5 * np.sqrt(2 / 512)


@pytest.mark.parametrize("share", [0.0, 2.0**-33, 2.0**-32, 1 - 2.0**-32, 1 - 2.0**-40])
def test_densities_at_the_ends(share: float) -> None:
    """The engine and the definition agree where rounding a density to 2**-32 reaches 0 or 1."""
    from merge.engine.tensors import merged, passes_of
    from miscible.merge.engine.streamed import Formula
    from miscible.merge.ops.sparsify import KeepAtRandom

    random = GENERATORS[0]
    values = np.ones(5000, np.float32)
    formula = Formula((1.0,), sparsifiers=(KeepAtRandom(share),), random=(random,))
    found = merged(passes_of([np.zeros_like(values), values]), formula)
    assert np.array_equal(found == 1, random.bernoulli(share, (5000,)).numpy())


def assert_uniform(byte: Array) -> None:
    """Chi-square of 256 values, within five standard deviations."""
    expected = len(byte) / 256
    statistic = ((np.bincount(byte, minlength=256) - expected) ** 2 / expected).sum()
    assert abs(statistic - 255) < 5 * np.sqrt(2 * 255)


def assert_independent(one: Array, other: Array) -> None:
    """No linear correlation, none of any bits, and a uniform joint distribution."""
    count = len(one)
    assert abs(np.corrcoef(one, other)[0, 1]) < 5 / np.sqrt(count)
    for first, second in ((28, 28), (24, 28), (0, 28), (28, 0), (0, 0)):
        joint = (one >> np.uint32(first) & 15) << np.uint32(4) | other >> np.uint32(second) & 15
        assert_uniform(joint.astype(np.uint8))
