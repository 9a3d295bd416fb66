from __future__ import annotations

import numpy as np
import pytest

from analyse.tiny import tiny_study
from miscible.analyse import Resampling, StudyTables, dose_response, methods_at_dose
from report.synthetic import small_analysis

QUICK = Resampling(resamples=300, flips=999)


def between(bonus: float, s: float = 0.3) -> StudyTables:
    rng = np.random.default_rng(0)
    a = rng.normal(size=120)
    b = a + rng.normal(1, 0.5, size=120)
    m = (1 - s) * a + s * b + bonus + 0.1 * rng.normal(size=120)
    return tiny_study({"t": {"base": a - 1, "a": a, "b": b, "m": m}}, share={"m": s})


def test_a_merge_on_the_line_does_not_deviate() -> None:
    row = dose_response(between(0.0), options=QUICK).set_index("model").loc["m"]
    assert row["deviation_low"] < 0 < row["deviation_high"]
    assert row["score"] - row["expected"] == pytest.approx(row["deviation"])


def test_a_planted_bonus_is_found() -> None:
    row = dose_response(between(0.2), options=QUICK).set_index("model").loc["m"]
    assert row["deviation_low"] < 0.2 < row["deviation_high"]
    assert row["p_holm"] < 0.01
    assert row["dose"] == 0.3


def test_the_parents_are_the_ends_and_the_base_has_no_dose() -> None:
    points = dose_response(between(0.0), options=QUICK).set_index("model")["dose"]
    assert (points["a"], points["b"]) == (0.0, 1.0)
    assert np.isnan(points["base"])


def test_one_parent_is_compared_with_the_base() -> None:
    rng = np.random.default_rng(1)
    base = rng.normal(size=80)
    study = tiny_study({"t": {"base": base, "a": base + 1, "m": base + 0.4}}, share={"m": 0.4})
    points = dose_response(study, options=QUICK).set_index("model")
    assert points.loc["base", "dose"] == 0.0
    assert points.loc["m", "expected"] == pytest.approx(points.loc["m", "score"])


def test_a_merge_without_a_dose_is_on_no_line() -> None:
    study = tiny_study({"t": {"a": [0, 1, 0], "b": [1, 1, 0], "m": [1, 0, 1]}})
    row = dose_response(study, options=QUICK).set_index("model").loc["m"]
    assert np.isnan(row["dose"])
    assert np.isnan(row["deviation"])


def test_planted_deviations_are_found_in_a_study() -> None:
    rows = small_analysis().doses
    shown = rows[(rows["p_holm"] <= 0.05) & (rows["family"] == "ties")]
    assert {"arc_easy", "gsm8k_text", "python_text"} <= set(shown["dataset"])
    linear = rows[(rows["family"] == "linear") & (rows["p_holm"] <= 0.05)]
    assert linear.empty


def curved(doses: dict[str, float]) -> StudyTables:
    rng = np.random.default_rng(2)
    a = rng.normal(size=100)
    b = a + 1
    share = dict(doses)
    bonus = {"x": 0.0, "y": 0.3}
    merges = {n: a + s + bonus[n[0]] + 0.1 * rng.normal(size=100) for n, s in doses.items()}
    return tiny_study(
        {"t": {"a": a, "b": b, **merges}}, share=share, family={n: n[0] for n in doses}
    )


def test_methods_are_read_off_their_curves_at_one_dose() -> None:
    study = curved({"x1": 0.2, "x2": 0.8, "y1": 0.5})
    row = methods_at_dose(study, options=QUICK).iloc[0]
    assert row["dose"] == 0.5
    assert row["models"] == "x1, x2"
    assert row["difference"] == pytest.approx(-0.3, abs=0.05)
    assert row["high"] < 0


def test_methods_that_never_meet_are_not_compared() -> None:
    assert methods_at_dose(curved({"x1": 0.2, "y1": 0.8}), options=QUICK).empty


def test_the_dose_is_where_most_methods_meet() -> None:
    study = curved({"x1": 0.2, "y1": 0.22})
    assert methods_at_dose(study, options=QUICK)["dose"].iloc[0] == pytest.approx(0.2, abs=0.03)
