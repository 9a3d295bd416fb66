from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from miscible.analyse import benjamini_hochberg, holm
from miscible.analyse.multiplicity import holm_levels

p_values = st.lists(st.floats(0, 1), min_size=1, max_size=30)


@given(p_values)
def test_corrected_p_keep_the_order_and_never_shrink(p: list[float]) -> None:
    order = np.argsort(p, kind="stable")
    for corrected in (holm(p), benjamini_hochberg(p)):
        assert (corrected >= np.array(p) - 1e-15).all()
        assert (corrected <= 1).all()
        assert (np.diff(corrected[order]) >= -1e-15).all()


@given(p_values)
def test_holm_is_between_benjamini_hochberg_and_bonferroni(p: list[float]) -> None:
    assert (benjamini_hochberg(p) <= holm(p) + 1e-12).all()
    assert (holm(p) <= np.minimum(1, len(p) * np.array(p)) + 1e-12).all()


@given(p_values)
def test_benjamini_hochberg_equals_scipy(p: list[float]) -> None:
    assert benjamini_hochberg(p) == pytest.approx(stats.false_discovery_control(p))


def test_holm_by_hand() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])


def test_a_test_that_was_not_made_does_not_count() -> None:
    assert holm([0.01, np.nan, 0.03]) == pytest.approx([0.02, np.nan, 0.03], nan_ok=True)


@given(p_values)
def test_holm_rejects_where_p_is_at_most_its_level(p: list[float]) -> None:
    rejected = holm(p) <= 0.05
    assert (np.array(p)[rejected] <= holm_levels(p, 0.05)[rejected] + 1e-15).all()
