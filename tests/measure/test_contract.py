"""Metrics are registered, chosen and called; their values are numbers or reasons."""

from __future__ import annotations

import math
from collections.abc import Iterator

import pytest

from measure.synthetic import base_state, children
from miscible.errors import MiscibleError, UnknownNameError
from miscible.measure.api import measure
from miscible.measure.contract import METRICS, Gram, Pair, TensorPair, metric, select

PAIR = Pair("a", "b", (TensorPair("w", (2, 2), Gram(4.0, 9.0, 3.0)),), 4)
TASK_VECTOR = {
    "task_vector_cosine_similarity", "task_vector_l2_distance", "task_vector_dot_product",
    "weight_space_angle", "task_vector_magnitude_ratio",
}  # fmt: skip


@pytest.fixture
def registered() -> Iterator[None]:
    METRICS.names()
    before = dict(METRICS._objects)
    yield
    METRICS._objects.clear()
    METRICS._objects.update(before)


def test_metrics_are_chosen_by_name_and_category() -> None:
    assert {m.name for m in select("task_vector")} == TASK_VECTOR
    assert [m.name for m in select("stable_rank, weight_space_angle")] == [
        "stable_rank", "weight_space_angle",
    ]  # fmt: skip
    assert {m.needs for m in select()} == {"weights"}
    assert len(select()) >= 24
    with pytest.raises(UnknownNameError, match="Did you mean 'stable_rank'"):
        select("stabel_rank")


def test_values_of_one_gram() -> None:
    assert METRICS.get("task_vector_cosine_similarity")(PAIR).value == 0.5
    assert METRICS.get("task_vector_l2_distance")(PAIR).value == math.sqrt(7)
    assert METRICS.get("weight_space_angle")(PAIR).value == pytest.approx(60)
    assert METRICS.get("task_vector_magnitude_ratio")(PAIR).value == pytest.approx(2 / 3)


def test_singular_values_keep_small_ones() -> None:
    first, second = Gram(1.0, 1.0, 1.0 - 1e-9).singular_values
    assert second / first == pytest.approx(math.sqrt(1e-9 / (2 - 1e-9)), rel=1e-6)
    assert Gram(0.0, 0.0, 0.0).singular_values == (0, 0)
    assert Gram(4.0, 0.0, 0.0).singular_values == (2, 0)


def test_what_a_metric_returns_is_checked(registered: None) -> None:
    @metric("broken", category="task_vector", low=0, high=1)
    def broken(pair: Pair) -> float:
        """Return whatever the norm is."""
        return pair.gram.aa

    held = METRICS.get("broken")
    assert held(PAIR).status == "failed"
    for value, expected in ((math.nan, "undefined"), (math.inf, "undefined"), (0.5, "ok")):
        pair = Pair("a", "b", (TensorPair("w", (1,), Gram(value, 0, 0)),), 1)
        assert held(pair).status == expected
    rounded = held(Pair("a", "b", (TensorPair("w", (1,), Gram(1 + 1e-9, 0, 0)),), 1))
    assert (rounded.status, rounded.value) == ("ok", 1.0)


def test_a_metric_that_raises_costs_its_own_values(registered: None) -> None:
    @metric("raises", category="norm")
    def raises(pair: Pair) -> float:
        """Divide by zero."""
        return 1 / 0

    base = base_state()
    (pair,) = measure(base, children(base, 2), metrics="norm", cache=False).pairs
    assert pair.metrics["raises"].status == "failed"
    assert "ZeroDivisionError" in pair.metrics["raises"].reason
    assert pair.metrics["larger_task_vector_norm"].status == "ok"


def test_directed_metrics_have_both_directions(registered: None) -> None:
    @metric("first_norm", category="directed", low=0, symmetric=False)
    def first_norm(pair: Pair) -> float:
        """Norm of the first model's task vector."""
        return pair.gram.norm_a

    base = base_state()
    found = measure(base, children(base, 3), metrics="directed", cache=False)
    norms = {model.name: model.norm for model in found.models}
    matrix = found.matrix("first_norm")
    for row, norm in zip(matrix, norms.values(), strict=True):
        assert sorted(value for value in row if value == value) == pytest.approx([norm, norm])
    frame = found.to_frame()
    assert len(frame) == 6
    assert found.pairs[0].as_dict()["reverse"]["first_norm"]["value"] == norms["m1"]


def test_metrics_that_cannot_be_had_say_so(registered: None) -> None:
    @metric("state", category="extra", needs="activations")
    def state(pair: Pair) -> float:
        """Cosine of mean states."""
        assert pair.activations is not None
        return pair.activations.gram.cosine

    base = base_state()
    models = children(base, 2)
    (pair,) = measure(base, models, metrics="state", cache=False, activations={}).pairs
    assert (pair.metrics["state"].status, pair.metrics["state"].coverage) == ("excluded", 0)
    reason = {"m1": "it is broken."}
    (pair,) = measure(base, models, metrics="state", cache=False, failures=reason).pairs
    assert pair.metrics["state"].status == "failed"
    assert pair.metrics["state"].reason == "m1: it is broken."
    with pytest.raises(MiscibleError, match="bare weights cannot be run"):
        measure(base, models, metrics="state", cache=False)
    with pytest.raises(MiscibleError, match="not both"):
        measure(base, models, metrics="state", activations={}, calibration="built-in")


def test_what_a_metric_declares_is_checked() -> None:
    with pytest.raises(MiscibleError, match="needs 'texts'"):
        metric("odd", category="norm", needs="texts")  # type: ignore[arg-type]
    with pytest.raises(MiscibleError, match="range"):
        metric("odd", category="norm", low=1, high=0)
    with pytest.raises(MiscibleError, match="two metrics are named 'stable_rank'"):
        METRICS.names()
        metric("stable_rank", category="norm")(lambda pair: 0.0)
