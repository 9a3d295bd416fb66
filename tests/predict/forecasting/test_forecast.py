"""Forecasts of unmerged pairs: ranks, intervals, and every rule by which there is none."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from miscible.errors import MiscibleError, UnknownNameError
from miscible.predict.contract import make
from miscible.predict.forecasting.comparable import Comparability
from miscible.predict.forecasting.forecast import forecast_pairs
from miscible.predict.forecasting.knowledge import MethodKnowledge, Validated, learn
from miscible.predict.forecasting.together import forecast_together
from miscible.predict.pairs import Pairs
from miscible.predict.tables import read_tables
from predict.merged_tables import METRICS, write_tables

SEED = 3


@pytest.fixture(scope="module")
def known(tmp_path_factory: pytest.TempPathFactory) -> dict[str, MethodKnowledge]:
    table = read_tables(*write_tables(tmp_path_factory.mktemp("tables")))
    return {m: learn(make("lasso"), table.examples(m), seed=SEED) for m in table.methods}


def new_pairs(*values: tuple[float, float, float]) -> Pairs:
    """Pairs of the new model n0 with n1, n2, ..."""
    count = len(values)
    return Pairs(
        tuple(f"n{number}" for number in range(count + 1)),
        np.zeros(count, dtype=np.int64), np.arange(1, count + 1), METRICS,
        np.array(values, dtype=np.float64), (), np.zeros((count + 1, 0)),
    )  # fmt: skip


def test_better_pairs_and_methods_come_first(known: dict[str, MethodKnowledge]) -> None:
    found = forecast_pairs(known, new_pairs((0.9, -0.9, 0), (-0.9, 0.9, 0)))
    assert [(p.b, p.method, p.rank) for p in found] == [
        ("n1", "ties", 1), ("n1", "average", 2), ("n2", "ties", 3), ("n2", "average", 4),
    ]  # fmt: skip
    assert found[0].mean == pytest.approx(0.8 + 0.09 + 0.045 + 0.02, abs=0.02)
    assert all(p.low < p.mean < p.high and p.status == "ok" for p in found)


def test_intervals_cover_and_widen_with_their_level(
    known: dict[str, MethodKnowledge], tmp_path: Path
) -> None:
    rng = np.random.default_rng(8)
    values = rng.uniform(-1, 1, (400, 3))
    truth = 0.82 + 0.1 * values[:, 0] - 0.05 * values[:, 1] + 0.01 * rng.standard_normal(400)
    held = {"ties": known["ties"]}
    pairs = new_pairs(*[tuple(row) for row in values.tolist()])
    at = {p.b: p for p in forecast_pairs(held, pairs)}
    inside = [at[f"n{i}"].low <= y <= at[f"n{i}"].high for i, y in enumerate(truth, 1)]
    # binomial noise of 400 pairs and of a width from held-out pairs of nine tasks
    assert 0.7 < np.mean(inside) < 0.92
    wide = {p.b: p for p in forecast_pairs(held, pairs, level=0.95)}
    assert all(wide[b].high - wide[b].low > at[b].high - at[b].low for b in at)


def test_a_pair_outside_the_range_is_named_with_how_far(known: dict[str, MethodKnowledge]) -> None:
    ok, far = new_pairs((0.5, 0.5, 0)), new_pairs((4.0, 0.5, 0))
    assert {p.status for p in forecast_pairs(known, ok)} == {"ok"}
    for p in forecast_pairs(known, far):
        assert (p.status, p.rank) == ("abstained", None)
        assert np.isnan([p.mean, p.low, p.high]).all()
        assert "alpha is 4, above" in p.reason
        assert "1.5 times their range" in p.reason


def test_features_that_are_not_read_do_not_count(known: dict[str, MethodKnowledge]) -> None:
    one = known["ties"]
    idle = [name for name, weight in one.fitted.coefficients.items() if weight == 0]
    assert set(one.domain.metrics) == set(METRICS) - set(idle)
    assert {"alpha", "beta"} <= set(one.domain.metrics)


def test_missing_metrics_are_named(known: dict[str, MethodKnowledge]) -> None:
    (found, _) = forecast_pairs(known, new_pairs((np.nan, 0.5, 0)))
    assert found.reason == "alpha is missing, which the predictor reads."


def test_metrics_that_were_measured_otherwise_are_refused(
    known: dict[str, MethodKnowledge],
) -> None:
    why = Comparability({"beta": "other calibration data."})
    (found, _) = forecast_pairs(known, new_pairs((0.5, 0.5, 0)), comparability=why)
    assert found.reason.startswith("beta cannot be compared with the training pairs: other")
    assert (
        forecast_pairs(
            known, new_pairs((0.5, 0.5, 0)), comparability=Comparability({"gamma": "x"})
        )[0].rank
        == 1
    )


@pytest.mark.parametrize(
    ("validated", "words"),
    [
        (Validated("both models new", skill=-0.2, r=0.5), "skill -0.20"),
        (
            Validated("both models new", skill=0.2, r=0.4, null=0.39, p=0.4, number=19),
            "null 0.39, p 0.40",
        ),
    ],
)
def test_a_predictor_without_skill_says_so(
    known: dict[str, MethodKnowledge], validated: Validated, words: str
) -> None:
    held = {"ties": replace(known["ties"], validated={2: validated})}
    (found,) = forecast_pairs(held, new_pairs((0.5, 0.5, 0)))
    assert found.status == "abstained"
    assert words in found.reason
    assert "not trustworthy" in found.reason


def test_few_relabellings_are_beaten_by_beating_all_of_them() -> None:
    assert not Validated("both", skill=0.2, r=0.6, null=0.1, p=0.1, number=9).doubt
    assert Validated("both", skill=0.2, r=0.6, null=0.1, p=0.2, number=9).doubt
    assert Validated("both", skill=0.2, r=0.6, null=0.1, p=0.1, number=199).doubt
    assert not Validated("both", skill=0.2, r=0.6).doubt


def test_a_null_that_knows_the_partners_is_no_reproach_to_one_that_ranks_as_well() -> None:
    held = Validated("one new", skill=0.9, r=0.97, null=0.97, p=0.3, number=199)
    assert held.doubt
    assert not replace(held, partners=0.96).doubt
    assert replace(held, partners=0.98).doubt
    assert not replace(held, partners=0.98, high=0.99).doubt
    assert replace(held, partners=0.96, skill=-0.1).doubt


def test_an_interval_as_wide_as_all_outcomes_says_nothing(
    known: dict[str, MethodKnowledge],
) -> None:
    held = {"ties": replace(known["ties"], scales=(1.0, 1.0, 1.0))}
    (found,) = forecast_pairs(held, new_pairs((0.5, 0.5, 0)))
    assert "no narrower than that of the training outcomes" in found.reason


def test_unknown_methods_and_levels_are_refused(known: dict[str, MethodKnowledge]) -> None:
    with pytest.raises(UnknownNameError, match="Did you mean 'ties'"):
        forecast_pairs(known, new_pairs((0, 0, 0)), methods=["tie"])
    with pytest.raises(MiscibleError, match="between 0 and 1"):
        forecast_pairs(known, new_pairs((0, 0, 0)), level=80)


def test_groups_are_ranked_by_the_mean_of_their_pairs(known: dict[str, MethodKnowledge]) -> None:
    values = [0.9, 0.8, -0.2, 0.7, -0.4, -0.5]
    pairs = Pairs(
        ("n0", "n1", "n2", "n3"), np.array([0, 0, 0, 1, 1, 2]), np.array([1, 2, 3, 2, 3, 3]),
        METRICS, np.array([[v, 0, 0] for v in values]), (), np.zeros((4, 0)),
    )  # fmt: skip
    single = forecast_pairs(known, pairs, methods=["ties"])
    found = forecast_together(single, 3)
    assert found[0].models == ("n0", "n1", "n2")
    mean = {frozenset((p.a, p.b)): p.mean for p in single}
    expected = [mean[frozenset(pair)] for pair in (("n0", "n1"), ("n0", "n2"), ("n1", "n2"))]
    assert found[0].mean == pytest.approx(sum(expected) / 3)
    assert [group.rank for group in found] == [1, 2, 3, 4]
    with pytest.raises(MiscibleError, match="5 of 4 models"):
        forecast_together(single, 5)


def test_a_group_with_a_doubtful_pair_has_no_rank(known: dict[str, MethodKnowledge]) -> None:
    pairs = Pairs(
        ("n0", "n1", "n2"), np.array([0, 0, 1]), np.array([1, 2, 2]), METRICS,
        np.array([[0.1, 0, 0], [9.0, 0, 0], [0.2, 0, 0]]), (), np.zeros((3, 0)),
    )  # fmt: skip
    (found,) = forecast_together(forecast_pairs(known, pairs, methods=["ties"]), 3)
    assert (found.status, found.reason) == ("abstained", "there is no forecast of n0 with n2.")
