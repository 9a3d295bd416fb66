"""Every registered metric obeys the laws; the checks themselves can fail."""

from __future__ import annotations

import math
from collections.abc import Iterator

import pytest

from miscible.measure.contract import METRICS, Pair, Value, metric
from miscible.testing.metrics import check_metric


@pytest.mark.parametrize("name", METRICS.names())
@pytest.mark.parametrize("seed", [0, 1])
def test_laws(name: str, seed: int) -> None:
    check_metric(name, seed=seed)


@pytest.fixture
def registered() -> Iterator[None]:
    METRICS.names()
    before = dict(METRICS._objects)
    yield
    METRICS._objects.clear()
    METRICS._objects.update(before)


def test_a_metric_is_one_function(registered: None) -> None:
    @metric("norm_gap", category="norm", low=0)
    def norm_gap(pair: Pair) -> float:
        """Difference of the norms."""
        return abs(pair.gram.norm_a - pair.gram.norm_b)

    assert METRICS.get("norm_gap").summary == "Difference of the norms."
    check_metric("norm_gap")


def test_a_metric_that_is_secretly_directed_is_caught(registered: None) -> None:
    @metric("first_norm", category="norm", low=0)
    def first_norm(pair: Pair) -> float:
        """Norm of the first model's task vector."""
        return pair.gram.norm_a

    with pytest.raises(AssertionError, match="first_norm: symmetry"):
        check_metric("first_norm")


def test_a_metric_that_says_that_it_is_directed_may_be(registered: None) -> None:
    @metric("first_norm", category="norm", low=0, symmetric=False)
    def first_norm(pair: Pair) -> float:
        """Norm of the first model's task vector."""
        return pair.gram.norm_a

    check_metric("first_norm")


def test_a_metric_outside_of_its_range_is_caught(registered: None) -> None:
    @metric("doubled", category="task_vector", low=-1, high=1)
    def doubled(pair: Pair) -> float:
        """Not a cosine."""
        return 2 * pair.gram.cosine

    with pytest.raises(AssertionError, match="doubled: its value .* lies outside"):
        check_metric("doubled")


def test_a_metric_that_depends_on_the_order_of_tensors_is_caught(registered: None) -> None:
    @metric("first_tensor", category="task_vector")
    def first_tensor(pair: Pair) -> float:
        """Dot product in whichever tensor comes first."""
        return pair.tensors[0].gram.ab

    with pytest.raises(AssertionError, match="first_tensor: order"):
        check_metric("first_tensor")


def test_a_metric_that_hides_why_it_has_no_value_is_caught(registered: None) -> None:
    @metric("silent", category="task_vector")
    def silent(pair: Pair) -> Value:
        """Say nothing of the base."""
        small = min(pair.gram.norm_a, pair.gram.norm_b)
        return Value(1.0) if small else Value(math.nan, "undefined")

    with pytest.raises(AssertionError, match="silent: undefined for no reason"):
        check_metric("silent")
