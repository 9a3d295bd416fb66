from __future__ import annotations

import numpy as np
import pytest

from analyse.tiny import tiny_study
from miscible.analyse import Resampling, retained_gains
from report.synthetic import small_analysis

QUICK = Resampling(resamples=400, flips=999)


def test_half_the_gain_is_half() -> None:
    rng = np.random.default_rng(0)
    base = rng.normal(size=200)
    gain = rng.uniform(0.5, 1.5, size=200)
    merge = base + 0.5 * gain + 0.2 * rng.normal(size=200)
    study = tiny_study({"t": {"base": base, "a": base + gain, "m": merge}})
    row = retained_gains(study, options=QUICK).iloc[0]
    assert row["retained"] == pytest.approx(0.5, abs=0.05)
    assert row["low"] < 0.5 < row["high"]


def test_bits_that_fall_are_gained() -> None:
    base, rng = np.full(60, 1.0), np.random.default_rng(1)
    parent = base - 0.2 + 0.01 * rng.normal(size=60)
    study = tiny_study({"t": {"base": base, "a": parent, "m": base - 0.15}}, higher_is_better=False)
    row = retained_gains(study, options=QUICK).iloc[0]
    assert row["gain"] == pytest.approx(0.2, abs=0.01)
    assert row["retained"] == pytest.approx(0.75, abs=0.02)


def test_no_share_of_a_gain_that_was_not_shown() -> None:
    rng = np.random.default_rng(2)
    base = rng.normal(size=100)
    study = tiny_study({"t": {"base": base, "a": base + 0.1 * rng.normal(size=100), "m": base}})
    row = retained_gains(study, options=QUICK).iloc[0]
    assert np.isnan(row["retained"])
    assert "no gain" in row["reason"]


def test_planted_gains_are_kept_as_planted() -> None:
    rows = small_analysis().gains.set_index(["model", "parent", "dataset"])
    row = rows.loc[("linear-0.75", "code", "python_text")]
    assert row["low"] - 0.05 < (1.10 - 0.87) / (1.10 - 0.80) < row["high"] + 0.05


def test_a_parent_without_data_is_not_said_to_have_no_gain() -> None:
    values = {"base": np.zeros(9), "a": np.ones(9), "m": np.ones(9)}
    study = tiny_study({"t": values, "u": {**values, "b": np.ones(9)}})
    rows = retained_gains(study, options=QUICK).set_index(["dataset", "parent"])
    assert "no item in common" in rows.loc[("t", "b"), "reason"]
