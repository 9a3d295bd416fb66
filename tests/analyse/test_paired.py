from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from analyse.tiny import tiny_study
from miscible.analyse import Resampling, paired_differences
from miscible.analyse.paired import COLUMNS
from miscible.analyse.panel import panels
from report.synthetic import small_analysis, small_study

QUICK = Resampling(resamples=200, flips=999)


def test_missing_items_are_intersected_and_counted() -> None:
    nan = np.nan
    study = tiny_study({"t": {"a": [1, 0, nan, 1, 0], "m": [1, 1, 1, nan, 0]}})
    row = paired_differences(study, options=QUICK).iloc[0]
    assert (row["n_items"], row["n_dropped"]) == (3, 2)
    assert row["difference"] == pytest.approx(1 / 3)
    assert row["model_score"] - row["reference_score"] == pytest.approx(row["difference"])


def test_means_are_weighted() -> None:
    study = tiny_study({"t": {"a": [1.0, 2.0], "m": [2.0, 1.5]}}, weights=[1, 3])
    assert paired_differences(study, options=QUICK)["difference"].iloc[0] == pytest.approx(-0.125)


@pytest.mark.parametrize("up", [True, False])
def test_better_follows_the_direction_of_the_metric(up: bool) -> None:
    rng = np.random.default_rng(0)
    a = rng.normal(size=60)
    study = tiny_study({"t": {"a": a, "m": a + 0.5}}, higher_is_better=up)
    row = paired_differences(study, options=QUICK).iloc[0]
    assert row["difference"] > 0
    assert bool(row["p_better"] < 0.05) is up
    assert bool(row["p_worse"] < 0.05) is not up


def test_one_cluster_has_no_interval() -> None:
    study = tiny_study({"t": {"a": [1, 0, 1], "m": [1, 1, 1]}}, clusters=[0, 0, 0])
    row = paired_differences(study, options=QUICK).iloc[0]
    assert np.isnan(row["low"])
    assert np.isnan(row["detectable"])
    assert row["p_value"] == 1.0


def test_every_merge_meets_every_reference_at_every_layer() -> None:
    layers = small_analysis().layers
    assert list(layers.columns) == COLUMNS
    probes = layers[layers["metric"] == "probe_accuracy"]
    assert len(probes) == 9 * 3 * 12 * 5
    assert set(probes["layer"]) == set(range(5))


def test_the_mean_over_layers_is_the_mean_of_the_differences() -> None:
    a = small_analysis()
    keys = ["model", "reference", "dataset", "metric"]
    by_layer = a.layers.groupby(keys)["difference"].mean()
    assert by_layer.to_dict() == pytest.approx(a.internals.set_index(keys)["difference"].to_dict())


def test_panels_keep_models_in_the_order_of_the_study() -> None:
    study = small_study()
    for panel in panels(study):
        assert list(panel.models) == list(study.models["model"])


def test_scores_are_the_means_of_their_panels() -> None:
    study = small_study()
    scores = study.scores.set_index(["model", "dataset", "metric"])["estimate"]
    for panel in panels(study, "behaviour"):
        for i, model in enumerate(panel.models):
            mean = np.average(panel.values[i, 0], weights=panel.weights)
            assert mean == pytest.approx(scores[(model, *panel.cell[1:])])


def test_layers_are_reduced_as_asked() -> None:
    panel = next(p for p in panels(small_study(), "internals") if len(p.layers) > 1)
    assert panel.reduced("last").layers == (4,)
    assert panel.reduced("mean").layers == (None,)
    by_layer = panel.values.mean(axis=(0, 2))
    assert panel.reduced("best").layers == (int(by_layer.argmax()),)


def test_a_study_without_items_has_no_differences() -> None:
    study = small_study()
    bare = replace(study, items=study.items.iloc[:0])
    assert paired_differences(bare).empty
