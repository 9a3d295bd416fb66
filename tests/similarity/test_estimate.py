"""Intervals of means, and paired differences and ratios."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from miscible.similarity.estimate import Estimate, Groups, mean_estimate


def means(values: np.ndarray, labels=None, scale="identity") -> Estimate:
    return mean_estimate(values, Groups.of(labels, len(values)), scale)


def test_a_mean_has_students_interval() -> None:
    values = np.random.default_rng(0).standard_normal((9, 2)) + 3
    found = means(values)
    expected = stats.t.interval(0.9, 8, values.mean(axis=0), stats.sem(values))
    np.testing.assert_allclose(found.interval(0.9), expected)


def test_the_group_is_the_unit() -> None:
    values = np.random.default_rng(0).standard_normal((7, 1))
    alone, tripled = means(values), means(np.tile(values, (3, 1)), np.tile(np.arange(7), 3))
    np.testing.assert_allclose(tripled.interval(), alone.interval())


def test_labels_may_be_anything_in_any_order() -> None:
    groups = Groups.of(["b", "a", "b", "c"], 4)
    assert groups.sizes.tolist() == [1, 2, 1]
    assert groups.sums(np.array([1.0, 2.0, 3.0, 4.0])).tolist() == [2, 4, 4]


@pytest.mark.parametrize(
    ("scale", "low", "high"), [("log", 0, np.inf), ("logit", 0, 1), ("atanh", -1, 1)]
)
def test_intervals_stay_in_range(scale, low, high) -> None:
    for value in (0.02, 0.5, 0.98):
        found = means(
            np.array([value - 0.02, value, value + 0.02, value + 0.5])[:, None], None, scale
        )
        found = Estimate(np.array([value]), found.influence, found.scale, found.reason)
        ends = found.interval()
        assert low < ends.low[0] < value < ends.high[0] < high


def test_values_at_the_end_of_their_range() -> None:
    found = Estimate(
        np.array([0.0, 0.0]), np.array([[0.0, 1.0], [0.0, -1.0]]), "log", np.array(["", ""])
    )
    low, high = found.interval()
    assert low.tolist() == [0, 0] and high[0] == 0 and high[1] > 1


def test_differences_and_ratios_are_paired() -> None:
    rng = np.random.default_rng(0)
    first = rng.gamma(5, 1, (40, 1))
    second = 2 * first
    ratio = means(second, None, "log").over(means(first, None, "log"))
    np.testing.assert_allclose([ratio.value, *ratio.interval()], 2)
    gap = means(second).minus(means(first))
    np.testing.assert_allclose(gap.interval(), means(first).interval())
    with pytest.raises(ValueError, match="not paired"):
        gap.minus(means(first[1:]))


def test_a_ratio_needs_positive_values() -> None:
    found = means(np.array([[1.0, 1.0], [3.0, 1.0]])).over(means(np.array([[0.0, 1.0], [0, 1]])))
    assert np.isnan(found.value[0]) and found.reason[0] == "a value is not positive"
    assert found.value[1] == 1 and found.reason[1] == ""


def test_one_group_has_no_interval() -> None:
    found = means(np.array([[1.0], [2.0]]), [5, 5])
    assert found.value[0] == 1.5 and np.isnan(found.interval()).all()


def test_parts_keep_their_influences() -> None:
    found = means(np.random.default_rng(0).standard_normal((6, 3, 4)))
    part = found[[0, 2], 1]
    np.testing.assert_array_equal(part.value, found.value[[0, 2], 1])
    np.testing.assert_array_equal(part.interval().low, found.interval().low[[0, 2], 1])
