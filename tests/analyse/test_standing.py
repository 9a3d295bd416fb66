from __future__ import annotations

import numpy as np
import pytest

from analyse.tiny import tiny_study
from miscible.analyse import Resampling, Standing, paired_differences, standings
from report.synthetic import small_analysis

QUICK = Resampling(resamples=300, flips=1999)


def standing_of(shift: float, *, apart: float = 0.5, up: bool = True) -> str:
    rng = np.random.default_rng(5)
    a = rng.normal(size=150)
    sign = 1 if up else -1
    b = a + sign * apart + 0.1 * rng.normal(size=150)
    m = a + sign * shift + 0.1 * rng.normal(size=150)
    study = tiny_study({"t": {"base": a, "a": a, "b": b, "m": m}}, higher_is_better=up)
    return str(
        standings(paired_differences(study, options=QUICK), study.parents)["standing"].iloc[0]
    )


@pytest.mark.parametrize("up", [True, False])
@pytest.mark.parametrize(
    ("shift", "expected"),
    [(1.0, "above"), (0.25, "between"), (-0.5, "below"), (0.5, "unresolved")],
)
def test_each_standing_is_found(shift: float, expected: str, up: bool) -> None:
    assert standing_of(shift, up=up) == Standing(expected)


def test_a_merge_as_good_as_the_better_parent_seldom_surpasses_both() -> None:
    rng = np.random.default_rng(6)
    a = rng.normal(size=80)
    merges = {f"m{i}": a + 0.5 * rng.normal(size=80) for i in range(300)}
    study = tiny_study({"t": {"a": a, "b": a - 1, **merges}})
    differences = paired_differences(study, options=QUICK)
    wrong = 0
    for _, held in differences.groupby("model"):  # each merge a study of its own
        wrong += (standings(held, study.parents)["standing"] == Standing.ABOVE).sum()
    assert wrong / 300 <= 0.06
    assert (standings(differences, study.parents)["standing"] == Standing.ABOVE).sum() <= 1


def test_the_planted_winner_is_found_and_no_other() -> None:
    rows = small_analysis().standings
    above = rows[rows["standing"] == Standing.ABOVE]
    assert set(zip(above["model"], above["dataset"], strict=True)) == {
        ("ties-0.4", "arc_easy"), ("ties-0.6", "arc_easy"),
    }  # fmt: skip
    assert (above["corrected_low"] > 0).all()


def test_the_collapsed_merge_is_below_both_parents_everywhere() -> None:
    rows = small_analysis().standings
    assert set(rows[rows["model"] == "dare_ties-0.9"]["standing"]) == {Standing.BELOW}


def test_corrected_intervals_are_wider() -> None:
    rows = small_analysis().standings
    wide = rows["corrected_high"] - rows["corrected_low"]
    assert (wide > 0.9 * (rows["high"] - rows["low"])).all()


def test_one_parent_is_never_between() -> None:
    rng = np.random.default_rng(7)
    a = rng.normal(size=50)
    study = tiny_study({"t": {"a": a, "m": a + 1 + 0.1 * rng.normal(size=50)}})
    row = standings(paired_differences(study, options=QUICK), study.parents).iloc[0]
    assert row["standing"] == Standing.ABOVE
    assert np.isnan(row["p_between"])


def test_nothing_is_claimed_of_a_parent_without_data() -> None:
    rng = np.random.default_rng(8)
    a = rng.normal(size=80)
    m = a + 1 + 0.1 * rng.normal(size=80)
    study = tiny_study({"t": {"a": a, "b": a, "m": m}, "u": {"a": a, "m": m}})
    rows = standings(paired_differences(study, options=QUICK), study.parents).set_index("dataset")
    assert list(rows["standing"]) == [Standing.ABOVE, Standing.UNRESOLVED]
    assert rows.loc["u", ["p_above", "p_between", "p_below"]].isna().all()
    assert list(rows["missing_parents"]) == ["", "b"]
