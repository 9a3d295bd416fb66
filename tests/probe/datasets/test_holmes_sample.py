"""Shares of strata."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from miscible.probe.datasets.holmes_sample import quotas


@pytest.mark.parametrize(
    ("sizes", "limit", "expected"),
    [
        ([80, 10, 10], 10, [8, 1, 1]),
        ([98, 1, 1], 3, [1, 1, 1]),
        ([98, 1, 1], 2, [2, 0, 0]),
        ([50, 30, 20], 7, [4, 2, 1]),
        ([2, 2], 3, [2, 1]),
    ],
)
def test_quotas(sizes: list[int], limit: int, expected: list[int]) -> None:
    assert quotas(sizes, limit) == expected


@given(st.lists(st.integers(1, 60), min_size=1, max_size=6), st.data())
def test_shares_are_fair(sizes: list[int], data: st.DataObject) -> None:
    limit = data.draw(st.integers(1, sum(sizes)))
    shares = quotas(sizes, limit)
    assert sum(shares) == limit
    assert all(0 <= share <= size for share, size in zip(shares, sizes, strict=True))
    if len(sizes) <= limit:
        assert min(shares) > 0
    exact = [limit * size / sum(sizes) for size in sizes]
    if min(exact) >= 1:
        pairs = zip(shares, exact, strict=True)
        assert all(abs(share - part) < 1 for share, part in pairs)
