from __future__ import annotations

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
