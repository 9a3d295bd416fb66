from __future__ import annotations

import numpy as np
import pytest

from analyse.tiny import tiny_study
from miscible.analyse import collapsed_merges
from report.synthetic import COLLAPSED, small_study


def test_only_the_planted_merge_has_collapsed() -> None:
    assert list(collapsed_merges(small_study())) == [COLLAPSED]


@pytest.mark.parametrize(("bits", "collapsed"), [(1.4, False), (1.6, True)])
def test_the_worst_parent_sets_the_limit(bits: float, collapsed: bool) -> None:
    values = {"base": [0.9] * 3, "a": [0.8] * 3, "b": [1.0] * 3, "m": [bits] * 3}
    study = tiny_study({"t": values}, higher_is_better=False, metric="bits_per_byte")
    assert ("m" in collapsed_merges(study)) is collapsed


def test_perplexity_is_compared_by_its_logarithm() -> None:
    values = {"a": [10.0] * 3, "b": [10.0] * 3, "m": [25.0] * 3, "broken": [60.0] * 3}
    study = tiny_study({"t": values}, higher_is_better=False, metric="perplexity")
    assert list(collapsed_merges(study)) == ["broken"]


def test_accuracy_alone_says_nothing_but_a_flag_does() -> None:
    study = tiny_study({"t": {"a": [1, 1, 1], "m": [0, 0, 0]}})
    assert collapsed_merges(study) == {}
    study.scores["flags"] = ["", "noisy,collapsed"]
    assert collapsed_merges(study) == {"m": "flagged on t"}


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_loss_that_is_no_number_is_a_collapse(value: float) -> None:
    values = {"base": [0.9] * 3, "a": [0.8] * 3, "m": [0.9] * 3, "n": [0.9] * 3}
    study = tiny_study({"t": values}, higher_is_better=False, metric="bits_per_byte")
    study.scores.loc[study.scores["model"] == "m", "estimate"] = value
    assert collapsed_merges(study) == {"m": "bits per byte on t is no finite number"}


def test_log_probabilities_that_are_no_numbers_are_a_collapse_whatever_the_metric() -> None:
    study = tiny_study({"t": {"a": [1, 1, 1], "m": [1, 1, 1]}})
    study.scores["flags"] = ["", "truncated,nonfinite"]
    assert list(collapsed_merges(study)) == ["m"]
    assert "not finite" in collapsed_merges(study)["m"]


def test_the_reason_says_whom_the_merge_was_held_against() -> None:
    values = {"a": [1.0] * 3, "b": [1.0] * 3, "m": [3.0] * 3}
    alone = {name: values[name] for name in ("a", "m")}
    tasks = {"t": alone, "u": {"a": [1.0], "b": [1.0], "m": [1.0]}}
    study = tiny_study(tasks, higher_is_better=False, metric="bits_per_byte")
    assert "the worst of a (other parents" in collapsed_merges(study)["m"]
