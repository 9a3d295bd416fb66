from __future__ import annotations

from dataclasses import replace

import pandas as pd

from analyse.layered import layered_study
from miscible.analyse import Resampling, rank_correlations
from miscible.analyse.taxonomy import distinct_metrics, of_models


def test_bags_of_words_are_scores_of_no_model() -> None:
    study = layered_study(0, items=20, layers=2, merges=("m1", "m2", "m3"))
    one = study.scores.drop_duplicates(["model", "dataset"])
    words = one.assign(metric="bag_of_words_accuracy", layer=pd.NA)
    behaviour = one.assign(domain="behaviour", metric="acc", layer=pd.NA)
    known = pd.concat([study.scores, behaviour], ignore_index=True)
    scores = pd.concat([known, words], ignore_index=True)
    assert set(of_models(scores)["metric"]) == {"probe_accuracy", "acc"}
    assert "bag_of_words_accuracy" not in set(distinct_metrics(scores)["metric"])
    options = Resampling(resamples=50)
    plain = rank_correlations(replace(study, scores=known), options=options)
    pd.testing.assert_frame_equal(
        rank_correlations(replace(study, scores=scores), options=options), plain
    )
    assert len(plain) > 0
