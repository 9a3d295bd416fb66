from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from analyse.layered import layered_study
from miscible.analyse import Resampling, StudyTables, analyse, depth_maps, findings
from miscible.analyse.depth_maps import MEAN_OF_PARENTS
from miscible.analyse.paired import paired_differences

QUICK = Resampling(resamples=200, flips=999)


def test_a_loss_in_middle_layers_shows_there_and_nowhere_else() -> None:
    lost = {("merge", "islands"): (range(4, 8), 0.3)}
    study = layered_study(2, lost, merges=("merge", "other"))
    maps = depth_maps(study, options=QUICK)
    assert set(maps["reference"]) == {"a", "b", MEAN_OF_PARENTS}
    for reference, held in maps[maps["model"] == "merge"].groupby("reference"):
        shown = held[held["q_value"] <= 0.05]
        assert set(shown["unit"]) == {"islands"}, reference
        assert list(shown["layer"]) == [4, 5, 6, 7]
        assert (shown["high"] < 0).all()
    other = maps[maps["model"] == "other"]
    assert (other["q_value"] > 0.05).all()


def test_a_map_of_nothing_has_a_marked_cell_in_at_most_one_study_of_twenty() -> None:
    marked = 0
    for seed in range(100):
        study = layered_study(seed, items=48, layers=6, per_cluster=2)
        maps = depth_maps(study, options=Resampling(resamples=20))
        marked += bool((maps.loc[maps["reference"] == "a", "q_value"] <= 0.05).any())
    assert marked <= 5


def test_a_cell_is_the_paired_difference_of_its_data_set() -> None:
    study = layered_study(3, layers=3, items=40)
    maps = depth_maps(study, unit="dataset", options=QUICK)
    pairs = paired_differences(study, domain="internals", options=QUICK)
    keys = ["model", "reference", "dataset", "layer"]
    joined = maps.rename(columns={"unit": "dataset"}).merge(pairs, on=keys, suffixes=("", "_pair"))
    assert len(joined) == 2 * 6 * 3
    for name in ("difference", "low", "high", "n_items", "n_clusters"):
        np.testing.assert_allclose(joined[name], joined[f"{name}_pair"], atol=1e-12)
    np.testing.assert_allclose(joined["p_value"], joined["p_value_pair"], atol=0.06)


def test_a_unit_is_the_mean_of_its_data_sets_and_of_both_parents() -> None:
    study = layered_study(4, layers=3, items=40)
    by_set = depth_maps(study, unit="dataset", options=QUICK)
    by_set = by_set.assign(unit=by_set["unit"].str[:-2])
    keys = ["model", "unit", "layer", "reference"]
    means = by_set.groupby(keys)["difference"].mean()
    maps = depth_maps(study, options=QUICK).set_index(keys)
    np.testing.assert_allclose(maps["difference"].sort_index(), means.sort_index(), atol=1e-12)
    wide = maps["difference"].unstack("reference")
    np.testing.assert_allclose(wide[MEAN_OF_PARENTS], (wide["a"] + wide["b"]) / 2, atol=1e-12)


def test_items_that_one_model_lacks_are_left_out_of_the_pair() -> None:
    study = layered_study(5, layers=2, items=30)
    items = study.items
    gone = (items["model"] == "merge") & (items["layer"] == 1) & items["item"].isin(["i0", "i1"])
    unread = (items["model"] == "a") & items["dataset"].str.startswith("tense")
    maps = depth_maps(replace(study, items=items[~gone & ~unread]), options=QUICK)
    against_b = maps[(maps["reference"] == "b") & (maps["unit"] == "islands")]
    assert list(against_b["n_items"]) == [60, 56]
    assert "tense" not in set(maps.loc[maps["reference"] == "a", "unit"])
    assert "tense" not in set(maps.loc[maps["reference"] == MEAN_OF_PARENTS, "unit"])


def test_a_finding_names_what_was_lost_against_both_parents() -> None:
    def told(study: StudyTables) -> list[str]:
        analysis = analyse(study, QUICK)
        return [text for text in findings(study, analysis, ()) if "layer" in text]

    study = layered_study(2, {("merge", "islands"): (range(4, 8), 0.3)})
    assert told(study) == [
        "1 of 1 merge differs from both parents in what some layer holds; the most, merge: less of "
        "islands at layers 4–7."
    ]
    assert told(layered_study(2)) == [
        "At no layer does a merge demonstrably hold more or less than both parents."
    ]


@pytest.mark.parametrize("lacking", ["items", "scores"])
def test_a_study_without_rows_has_no_map(lacking: str) -> None:
    study = layered_study(6, layers=2, items=20)
    empty = replace(study, **{lacking: getattr(study, lacking).iloc[:0]})
    assert len(depth_maps(empty, options=QUICK)) == (0 if lacking == "items" else 6 * 3 * 2)
