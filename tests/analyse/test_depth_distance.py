from __future__ import annotations

from analyse.layered import layered_study
from miscible.analyse import Resampling, depth_distance

QUICK = Resampling(resamples=300)


def test_a_merge_that_lost_late_layers_is_far_from_its_parents_and_shallower() -> None:
    lost = {("merge", "islands"): (range(6, 12), 0.25)}
    found = depth_distance(layered_study(0, lost, items=200), options=QUICK)
    assert len(found) == 3 * 2  # phenomena times parents
    held = found.set_index(["unit", "parent"])
    for parent in ("a", "b"):
        far = held.loc["islands", parent]
        assert far["distance_low"] > 0.08
        assert far["mean_high"] < 0
        assert far["shift_high"] < -1
        for unit in ("agreement", "tense"):
            near = held.loc[unit, parent]
            assert near["distance"] < far["distance"] / 3
            assert near["shift_low"] < 0 < near["shift_high"]


def test_collapsed_merges_and_single_layers_have_no_distance() -> None:
    study = layered_study(1, items=40, layers=4)
    assert depth_distance(study, collapsed=["merge"], options=QUICK).empty
    assert depth_distance(layered_study(1, items=20, layers=1), options=QUICK).empty
