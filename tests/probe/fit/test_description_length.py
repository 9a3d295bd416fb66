"""The online code against numbers worked out by hand, and what it must tell apart."""

from __future__ import annotations

import math

import numpy as np
import pytest

from miscible.errors import DatasetError
from miscible.probe.fit.description_length import block_ends, description_length


def test_two_blocks_of_features_that_say_nothing() -> None:
    # The probe can only learn the frequencies of the first four labels, 3/4 and 1/4.
    labels = np.array([[0, 0, 0, 1, 0, 1, 1]])
    found = description_length(np.ones((7, 1, 3), np.float32), labels, 2, (4, 7))
    second = -math.log2(3 / 4) - 2 * math.log2(1 / 4)
    np.testing.assert_allclose(found.blocks[0, 0], [4, second], rtol=1e-6)
    np.testing.assert_allclose(found.online, 4 + second, rtol=1e-6)
    np.testing.assert_allclose(found.compression, 7 / (4 + second), rtol=1e-6)
    assert found.uniform == 7


def test_classes_that_have_not_occurred() -> None:
    # After two rows of class 0, classes 1 and 2 have 1/7 each; then class 2 alone has 1/11.
    labels = np.array([[0, 0, 0, 1, 2]])
    found = description_length(np.ones((5, 1, 3), np.float32), labels, 3, (2, 4, 5))
    expected = [2 * math.log2(3), -math.log2(5 / 7) - math.log2(1 / 7), -math.log2(1 / 11)]
    np.testing.assert_allclose(found.blocks[0, 0], expected, rtol=1e-6)


def test_informative_features_compress_and_random_labels_do_not() -> None:
    rng = np.random.default_rng(0)
    labels = rng.integers(3, size=400)
    features = rng.normal(size=(400, 2, 20))
    features[:, 1, :3] += 4 * np.eye(3)[labels]
    found = description_length(
        features.astype(np.float32), np.stack([labels, rng.permutation(labels)]), 3
    )
    assert found.compression[0, 1] > 3
    assert (found.compression[1] < 1.02).all()
    assert found.compression[0, 0] < 1.02


def test_a_block_is_coded_without_looking_at_it_or_beyond() -> None:
    rng = np.random.default_rng(1)
    features = rng.normal(size=(120, 1, 6)).astype(np.float32)
    labels = (features[:, 0, 0] > 0).astype(np.int64)[None]
    ends = (10, 30, 60, 120)
    before = description_length(features, labels, 2, ends)
    flipped, moved = labels.copy(), features.copy()
    flipped[:, 60:] = 1 - flipped[:, 60:]
    moved[60:] += 9
    after = description_length(moved, flipped, 2, ends)
    np.testing.assert_allclose(after.blocks[..., :3], before.blocks[..., :3], rtol=1e-5)
    np.testing.assert_array_equal(after.penalties, before.penalties)
    assert after.blocks[0, 0, 3] > before.blocks[0, 0, 3]


def test_ends_of_blocks() -> None:
    assert block_ends(10_000, 2) == (10, 20, 40, 80, 160, 320, 625, 1250, 2500, 5000, 10_000)
    assert block_ends(1000, 17) == (32, 63, 125, 250, 500, 1000)
    assert block_ends(5, 20) == (5,)


def test_blocks_out_of_order() -> None:
    with pytest.raises(DatasetError, match="blocks in order"):
        description_length(np.ones((4, 1, 2), np.float32), np.zeros((1, 4), np.int64), 2, (3, 2, 4))
