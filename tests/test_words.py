from __future__ import annotations

import math

import pytest

from miscible.words import counted, listed, number, p_value, percent, spans, with_interval


@pytest.mark.parametrize(
    ("args", "text"),
    [
        ((-0.2231, -0.2512, -0.1934), "-0.22 [-0.25, -0.19]"),
        ((0.7123, 0.7101, 0.7149), "0.712 [0.710, 0.715]"),
        ((352.4, 312.1, 401.9), "352 [312, 402]"),
        ((0.5, math.nan, math.nan), "0.50"),
        ((-0.001, -0.04, 0.04), "0.00 [-0.04, 0.04]"),
        ((0.25, 0.25, 0.25), "0.25 [0.25, 0.25]"),
    ],
)
def test_an_interval_sets_the_digits(args: tuple[float, float, float], text: str) -> None:
    assert with_interval(*args) == text


def test_what_is_missing_is_a_dash() -> None:
    assert number(math.nan) == percent(math.nan) == p_value(math.nan) == "–"


def test_p_is_never_zero() -> None:
    assert p_value(0.0) == "< 0.001"


def test_lists_and_counts_read_as_english() -> None:
    assert listed(["a"]) == "a"
    assert listed(["a", "b", "c"]) == "a, b and c"
    assert (counted(1, "merge"), counted(2, "merge")) == ("1 merge", "2 merges")


def test_layers_are_told_in_runs() -> None:
    assert spans([7, 0, 5, 6, 4]) == "0, 4–7"
    assert spans([3]) == "3"
    assert spans([]) == "–"
