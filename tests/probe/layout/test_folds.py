"""Pairs that belong together stay together."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from miscible.errors import DatasetError
from miscible.probe.dataset import MinimalPair
from miscible.probe.layout.folds import folds_of, groups_of


def test_pairs_that_share_a_sentence_or_a_group_are_one_group() -> None:
    pairs = [
        MinimalPair("0", "a", "b"),
        MinimalPair("1", "c", "d", "x"),
        MinimalPair("2", "b", "e"),
        MinimalPair("3", "f", "g", "x"),
        MinimalPair("4", "x", "h"),  # the sentence "x" is not the group "x"
    ]
    assert groups_of(pairs).tolist() == [0, 1, 0, 1, 2]


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.integers(0, 12), min_size=10, max_size=80), st.integers(3, 8), st.integers())
def test_folds_keep_groups_whole(labels: list[int], count: int, seed: int) -> None:
    groups = np.unique(labels, return_inverse=True)[1]
    if groups.max() < 2:
        return
    folds = folds_of(groups, count, seed, "toy")
    for group in range(groups.max() + 1):
        assert len(set(folds[groups == group])) == 1
    assert set(folds) == set(range(min(count, groups.max() + 1)))
    np.testing.assert_array_equal(folds, folds_of(groups, count, seed, "toy"))


def test_folds_of_equal_groups_are_equal() -> None:
    assert np.bincount(folds_of(np.arange(60), 5, 3, "toy")).tolist() == [12] * 5


def test_too_few_groups() -> None:
    with pytest.raises(DatasetError, match="toy: a probe needs at least 3"):
        folds_of(np.array([0, 0, 1, 1]), 5, 0, "toy")
