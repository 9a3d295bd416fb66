from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from miscible.analyse import detectable_difference, items_needed


def test_the_textbook_number() -> None:
    assert items_needed(0.5, 1.0) == 32


def test_that_many_items_find_the_difference_as_often_as_promised() -> None:
    n = items_needed(0.2, 1.0, power=0.8)
    draws = np.random.default_rng(0).normal(0.2, 1, size=(4000, n))
    found = stats.ttest_1samp(draws, 0, axis=1).pvalue <= 0.05
    assert found.mean() == pytest.approx(0.8, abs=0.03)


def test_what_is_detectable_is_the_inverse() -> None:
    n = items_needed(0.1, 0.7)
    assert detectable_difference(0.7 / np.sqrt(n)) == pytest.approx(0.1, rel=0.01)


def test_no_number_of_items_shows_nothing() -> None:
    with pytest.raises(ValueError, match="difference of 0"):
        items_needed(0.0, 1.0)
