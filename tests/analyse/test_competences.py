from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from analyse.layered import layered_study
from miscible.analyse import Resampling, StudyTables, competence_scores
from miscible.analyse.competences import OVERALL
from miscible.analyse.winning_rate import winning_rates

QUICK = Resampling(resamples=200)


def test_winning_rates_by_hand() -> None:
    scores = np.array([
        # distinct, tie at the top, tie at the bottom, all equal
        [0.9, 0.8, 0.3, 0.5],
        [0.7, 0.8, 0.1, 0.5],
        [0.5, 0.4, 0.1, 0.5],
        [0.6, 0.2, 0.2, 0.5],
    ])  # fmt: skip
    # Ranks, ties the worst: 1 2 4 3; 2 2 3 4; 1 4 4 2; 4 4 4 4.
    expected = [
        [1.0, 1.0, 1.0, 0.0],
        [2 / 3, 1.0, 0.0, 0.0],
        [0.0, 0.5, 0.0, 0.0],
        [1 / 3, 0.0, 2 / 3, 0.0],
    ]
    np.testing.assert_allclose(winning_rates(scores), expected)
    np.testing.assert_allclose(winning_rates(np.stack([scores, -scores]))[0], expected)


def with_words(study: StudyTables) -> StudyTables:
    one = study.scores.drop_duplicates(["model", "dataset"])
    words = one.assign(metric="bag_of_words_accuracy", layer=pd.NA, estimate=0.6)
    return replace(study, scores=pd.concat([study.scores, words], ignore_index=True))


def test_means_and_rates_are_those_of_means_over_layers() -> None:
    study = with_words(layered_study(0, phenomena=("a1", "b1", "b2"), items=60, layers=4))
    found = competence_scores(study, options=QUICK)
    assert found.left_out == {}
    assert found.dropped == ()
    rows = found.rows
    assert list(dict.fromkeys(rows["competence"])) == [OVERALL, "syntax", "semantics"]
    probes = study.scores[study.scores["metric"] == "probe_accuracy"]
    wide = probes.pivot_table(index="model", columns="dataset", values="estimate")
    for competence, columns in ((OVERALL, list(wide)), ("syntax", ["a1_0", "a1_1"])):
        held = rows[rows["competence"] == competence].set_index("model")
        table = wide.loc[held.index, columns]
        np.testing.assert_allclose(held["score"], table.mean(axis=1))
        ranks = table.rank(method="max", ascending=False)
        rates = (ranks.max() - ranks) / (ranks.max() - ranks.min())
        np.testing.assert_allclose(held["winning_rate"], 100 * rates.mean(axis=1))
        tau = stats.kendalltau(held["score"], held["winning_rate"]).statistic
        assert held["tau"].iloc[0] == pytest.approx(tau)
        assert (held["low"] < held["score"]).all()
        assert (held["score"] < held["high"]).all()
        assert set(held["majority"]) == {0.5}
        assert held["bag_of_words"].iloc[0] == pytest.approx(0.6)


def test_the_interval_holds_the_truth_as_often_as_it_says() -> None:
    held = 0
    for seed in range(60):
        study = layered_study(seed, items=40, layers=2, per_cluster=2)
        rows = competence_scores(study, options=QUICK).rows
        row = rows[(rows["competence"] == OVERALL) & (rows["model"] == "merge")].iloc[0]
        held += bool(row["low"] <= 0.75 <= row["high"])
    assert 51 <= held <= 60


def test_a_model_that_lacks_a_data_set_is_left_out_and_named() -> None:
    study = layered_study(1, items=30, layers=2)
    items = study.items
    lost = (items["model"] == "merge") & (items["dataset"] == "tense_0")
    found = competence_scores(replace(study, items=items[~lost]), options=QUICK)
    assert found.left_out == {"merge": 1}
    assert "merge" not in set(found.rows["model"])
    rare = (items["model"] != "a") & (items["dataset"] == "tense_0")
    found = competence_scores(replace(study, items=items[~rare]), options=QUICK)
    assert found.dropped == ("tense_0",)
    assert set(found.rows["model"]) == {"base", "a", "b", "merge"}


def test_a_study_without_probes_has_no_rows() -> None:
    study = layered_study(1, items=10, layers=2)
    assert competence_scores(replace(study, items=study.items.iloc[:0])).rows.empty
